//! What is measured: Hearth, as one node and as a cluster, nginx and the bare proxy.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use hearth_tests::authority::Authority;
use hearth_tests::{Deployed, Server};
use serde_json::{Value, json};

use crate::engine_api::EngineApi;
use crate::nginx::Nginx;
use crate::plan::{FUNCTION, Plan};
use crate::tell;
use crate::twin::{Recipe, Twin};
use crate::wrk::Wrk;

/// What they are called in tables.
pub(crate) const NGINX: &str = "nginx";
pub(crate) const PROXY: &str = "proxy";
pub(crate) const HEARTH: &str = "hearth";
pub(crate) const CLUSTER: &str = "cluster";
pub(crate) const CLUSTER_TLS: &str = "cluster, mutual TLS";

/// How Hearth is set: as a newcomer has it, but reachable from this machine only, and with a log that
/// has no line per call.
pub(crate) const SETTINGS: &[(&str, &str)] =
    &[("FN_BIND_ADDRESS", "127.0.0.1"), ("FN_LOG_LEVEL", "info")];

/// A warm Hearth with one app.
pub(crate) struct Hearth {
    pub(crate) server: Server,
    pub(crate) app: Value,
    echo: Deployed,
}

impl Hearth {
    /// Starts one node and warms the function.
    pub(crate) async fn start(image: &str, plan: &Plan) -> anyhow::Result<Self> {
        tell("starting and warming Hearth");
        Self::warm(Server::start(SETTINGS).await, image, plan).await
    }

    /// The same with a cluster: an API node on SQLite, a runner and a load balancer.
    pub(crate) async fn start_cluster(
        image: &str,
        plan: &Plan,
        authority: Option<&Authority>,
    ) -> anyhow::Result<Self> {
        tell("starting and warming a cluster");
        let server = Server::start_cluster(SETTINGS, authority).await;
        Self::warm(server, image, plan).await
    }

    async fn warm(server: Server, image: &str, plan: &Plan) -> anyhow::Result<Self> {
        let app = server
            .client
            .post("/v2/apps", json!({ "name": "bench" }).to_string())
            .await
            .expect(200)
            .json();
        // Its containers stay from one part to the next.
        let settings = json!({ "idle_timeout": 3600 });
        let echo = Deployed::in_app(&server.client, &app, FUNCTION, image, settings).await;
        let hearth = Self { server, app, echo };
        Wrk::new()?.load(&hearth.url(), 64, plan.duration()).await?;
        Ok(hearth)
    }

    /// Where to call the function.
    pub(crate) fn url(&self) -> String {
        self.url_of(&self.echo)
    }

    /// Where to call another one.
    pub(crate) fn url_of(&self, function: &Deployed) -> String {
        format!("{}{}", self.server.client.base(), function.path)
    }
}

/// What Hearth is compared with, before twins of Hearth's own containers.
pub(crate) struct Limits {
    // Stopped in this order.
    nginx: Nginx,
    proxy: ProxyProcess,
    twins: Vec<Twin>,
}

impl Limits {
    /// Starts as many twins as Hearth has containers, and nginx and the proxy before them.
    pub(crate) async fn start(hearth: &Hearth) -> anyhow::Result<Self> {
        tell("starting nginx and the bare proxy");
        let mut engine = EngineApi::connect().await?;
        let containers = hearth.server.containers();
        let recipe = Recipe::of(
            &mut engine,
            containers.first().context("Hearth has a warm container")?,
        )
        .await?;
        let mut twins = Vec::new();
        for _ in &containers {
            let started =
                tokio::time::timeout(Duration::from_secs(60), Twin::start(&mut engine, &recipe));
            twins.push(started.await.context("a container does not start")??.0);
        }
        let sockets: Vec<PathBuf> = twins.iter().map(Twin::socket).collect();
        Ok(Self {
            nginx: Nginx::start(&sockets).await?,
            proxy: ProxyProcess::start(&sockets)?,
            twins,
        })
    }

    /// How many containers nginx, and the proxy, send calls to.
    pub(crate) fn containers(&self) -> usize {
        self.twins.len()
    }

    /// Where to call the function through nginx.
    pub(crate) fn nginx_url(&self) -> String {
        self.nginx.url()
    }

    /// Where to call it through the bare proxy.
    pub(crate) fn proxy_url(&self) -> String {
        self.proxy.url.clone()
    }
}

/// The bare proxy: this program in its other role.
struct ProxyProcess {
    process: Child,
    url: String,
}

impl ProxyProcess {
    fn start(sockets: &[PathBuf]) -> anyhow::Result<Self> {
        // Not by its name: a build may have replaced the file meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("proxy")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for socket in sockets {
            command.arg("--socket").arg(socket);
        }
        let mut process = command.spawn().context("the proxy cannot be started")?;
        let said = process.stdout.take().context("its output is a pipe")?;
        let mut started = Self {
            process,
            url: String::new(),
        };
        let mut address = String::new();
        BufReader::new(said).read_line(&mut address)?;
        anyhow::ensure!(!address.is_empty(), "the proxy does not listen");
        started.url = format!("http://{}/", address.trim());
        Ok(started)
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
