//! The user's side of the command line: what talks to a running server or to the engine.

mod calls;
mod client;
mod deploy;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use domain::{App, Func};
use http::Method;

use self::client::Client;

pub(crate) use self::calls::{Calls, DeadLetters, calls, dead_letters};
pub(crate) use self::deploy::Deploy;

/// Calls a function and prints its answer.
#[derive(clap::Args)]
pub(crate) struct Call {
    /// The app.
    app: String,
    /// The function.
    function: String,
    /// What to send; `@FILE` reads a file.
    #[arg(long, default_value = "")]
    data: String,
    /// Hand in a durable call, and print its id.
    #[arg(long = "async")]
    is_async: bool,
    #[command(flatten)]
    options: calls::Options,
}

/// Makes a container image of one static binary, without a registry.
#[derive(clap::Args)]
pub(crate) struct Image {
    /// The name of the image, such as `hello:1`.
    name: String,
    /// The binary: statically linked, for this machine.
    binary: PathBuf,
}

/// Waits until the server is ready.
#[derive(clap::Args)]
pub(crate) struct Wait {
    /// How long.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub(crate) async fn deploy(url: &str, deploy: Deploy) -> anyhow::Result<()> {
    let told = deploy::run(&Client::new(url), deploy).await?;
    print(format!("{told}\n").as_bytes())
}

pub(crate) async fn call(url: &str, call: Call) -> anyhow::Result<()> {
    let client = Client::new(url);
    let func = find_function(&client, &call.app, &call.function).await?;
    let data = match call.data.strip_prefix('@') {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {file}"))?,
        None => call.data.into_bytes(),
    };
    if call.is_async {
        return calls::submit(&client, &func, &data, call.options).await;
    }
    let answer = client
        .send(Method::POST, &format!("/invoke/{}", func.id), data.into())
        .await?;
    print(answer.body())?;
    if !answer.body().ends_with(b"\n") {
        print(b"\n")?;
    }
    if !answer.status().is_success() {
        bail!("the call ended with {}", answer.status());
    }
    Ok(())
}

/// The function of this name in the app of that name.
async fn find_function(client: &Client, app: &str, function: &str) -> anyhow::Result<Func> {
    let found: App = client
        .find(&format!("/v2/apps?name={}", query(app)))
        .await?
        .with_context(|| format!("there is no app {app}"))?;
    client
        .find(&format!(
            "/v2/fns?app_id={}&name={}",
            found.id,
            query(function)
        ))
        .await?
        .with_context(|| format!("there is no function {function} in {app}"))
}

pub(crate) async fn image(image: Image) -> anyhow::Result<()> {
    let binary = std::fs::read(&image.binary)
        .with_context(|| format!("cannot read {}", image.binary.display()))?;
    runner_node::driver::docker::image_build::build_scratch_image(None, &image.name, &binary)
        .await?;
    print(format!("{} is built\n", image.name).as_bytes())
}

pub(crate) async fn wait(url: &str, wait: Wait) -> anyhow::Result<()> {
    let client = Client::new(url);
    let deadline = Instant::now() + Duration::from_secs(wait.seconds);
    loop {
        let ready = tokio::time::timeout(
            Duration::from_secs(2),
            client.send(Method::GET, "/readyz", Bytes::new()),
        );
        if let Ok(Ok(answer)) = ready.await
            && answer.status().is_success()
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{url} is not ready after {} s", wait.seconds);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn query(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .context("cannot write the answer")
}
