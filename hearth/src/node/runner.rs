//! `hearth runner`: the agent behind the runner protocol, registered with the API nodes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use domain::{HostPort, RegisteredRunner};
use hybrid_client::Registration;
use hybrid_client::config::HybridConfig;
use nodekit::http_server;
use nodekit::tls::Role;
use runner_node::grpc::{self as services, Settings};
use runner_node::work::{WorkLoop, WorkMetrics};
use tracing::info;

use super::agent::{self, RunnerRegistrations};
use super::calls;
use super::grpc::{self, GrpcListener, GrpcServing};
use super::listener::Listener;
use super::{Base, Running, admin};

/// A running runner.
pub(super) struct Runner {
    agent: runner_node::Agent,
    registration: Option<Registration>,
    work: Option<WorkLoop>,
    grpc: GrpcServing,
    listener: Listener,
    shutdown_timeout: Option<Duration>,
}

/// Starts a runner.
pub(super) async fn start(mut base: Base) -> anyhow::Result<Runner> {
    let registrations = RunnerRegistrations::new(&mut base.metrics);
    let work_metrics = WorkMetrics::new(&mut base.metrics);
    let configuration = &base.configuration;
    let (node, grpc) = (&configuration.node, &configuration.grpc);
    let tls = grpc::tls(grpc, Role::Runner, &base.shutdown)?;
    let identity = tls.as_ref().map(|tls| tls.identity());
    let api_nodes = grpc::api_nodes(&configuration.hybrid, grpc, tls.clone())?;
    let grpc_listener = GrpcListener::bind(node, grpc, tls).await?;
    let address = grpc_listener.address();

    let agent = agent::start(&base, registrations).await?;
    let settings = Settings::new(&configuration.runner);
    let grpc = grpc_listener.serve(
        services::services(agent.clone(), settings),
        services::ACCESS,
    );
    let (registration, work) = match api_nodes {
        None => {
            info!("no API node is named: load balancers must be told of this runner");
            (None, None)
        }
        Some(nodes) => {
            let runner = RegisteredRunner {
                // Another one with each start; API nodes let a certificate's owner use its name only.
                id: match identity {
                    Some(identity) => format!("{}/{}", identity.as_str(), base.new_id()).into(),
                    None => base.new_id(),
                },
                address: advertised(&configuration.hybrid, address)?,
                version: env!("CARGO_PKG_VERSION").into(),
                draining: false,
            };
            info!(id = %runner.id, address_for_load_balancers = %runner.address, "registering");
            let remote = calls::remote(&base, nodes.clone());
            let work = calls::work(&base, &agent, remote, Arc::clone(&runner.id), work_metrics);
            let registration = Registration::start(nodes, runner);
            let mut registered = registration.registered();
            let condition = base.readiness.condition("registered");
            // Once is enough: load balancers keep what they know while no API node is there.
            base.shutdown.spawn({
                let stop = base.shutdown.token().clone();
                async move {
                    let known = registered.wait_for(|registered| *registered);
                    if let Some(Ok(_)) = stop.run_until_cancelled(known).await {
                        condition.set(true);
                    }
                }
            });
            (Some(registration), Some(work))
        }
    };
    let admin = base.admin_routes();
    let service = http_server::tower(admin::whole(admin));
    Ok(Runner {
        listener: Listener::start(&base.configuration.node, service).await?,
        agent,
        registration,
        work,
        grpc,
        shutdown_timeout: base.configuration.node.shutdown_timeout,
    })
}

/// Where load balancers reach this runner.
fn advertised(hybrid: &HybridConfig, bound: SocketAddr) -> anyhow::Result<HostPort> {
    let address = match hybrid.runner_advertise_address.as_str() {
        "" => {
            let ip = match bound.ip() {
                ip if ip.is_unspecified() => towards_api_nodes(hybrid)?,
                ip => ip,
            };
            SocketAddr::new(ip, bound.port()).to_string()
        }
        address => address.to_owned(),
    };
    let address = HostPort::parse(&address)
        .with_context(|| format!("FN_RUNNER_ADVERTISE_ADDRESS: {address:?}"))?;
    anyhow::ensure!(
        !address.is_unspecified(),
        "FN_RUNNER_ADVERTISE_ADDRESS: {address}: other machines would take it for their own; it must be where they reach this runner"
    );
    Ok(address)
}

/// The local address from which this machine would reach the first API node that it can. Nothing is
/// sent.
fn towards_api_nodes(hybrid: &HybridConfig) -> anyhow::Result<IpAddr> {
    const ASK: &str = "FN_RUNNER_ADVERTISE_ADDRESS must say where load balancers reach this runner";
    let local = hybrid.runner_api_url.iter().find_map(|url| {
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host.trim_end_matches('/');
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        match socket.connect(host) {
            Ok(()) => {}
            // Without a port.
            Err(_) => socket.connect((host, 9190)).ok()?,
        }
        Some(socket.local_addr().ok()?.ip())
    });
    local.context(ASK)
}

#[async_trait]
impl Running for Runner {
    /// Tells load balancers to go elsewhere, finishes the calls that run, and removes the containers.
    async fn stop(self: Box<Self>) {
        if let Some(registration) = &self.registration {
            registration.set_draining(true);
        }
        if let Some(work) = &self.work {
            work.drain();
        }
        agent::drain(&self.agent, self.shutdown_timeout).await;
        self.grpc.stop().await;
        if let Some(work) = self.work {
            calls::end_work(work).await;
        }
        if let Some(registration) = self.registration {
            registration.close().await;
        }
        tokio::join!(self.listener.stop(), self.agent.close());
    }
}
