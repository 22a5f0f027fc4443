//! The one binary: every kind of node, and the user's command line.

mod cli;
mod configuration;
mod node;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::configuration::{ConfigurationArgs, NodeKind};

/// Hearth keeps your container images hot and routes calls to them.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The server that commands talk to.
    #[arg(
        long,
        global = true,
        env = "HEARTH_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything in this process: API, front door and runner.
    Up(ConfigurationArgs),
    /// Runs an API node: the REST API, the store, and what load balancers and runners ask.
    Api(ConfigurationArgs),
    /// Runs a load balancer: calls come in here and go to runners.
    Lb(ConfigurationArgs),
    /// Runs a runner: functions in containers, called by load balancers.
    Runner(ConfigurationArgs),
    /// Prints the effective configuration, with secrets masked.
    Config(ConfigurationArgs),
    /// Creates or updates an app, a function and a trigger.
    Deploy(cli::Deploy),
    /// Calls a function and prints its answer.
    Call(cli::Call),
    /// Lists, shows and cancels calls.
    #[command(subcommand)]
    Calls(cli::Calls),
    /// Lists, redrives and purges durable calls that were given up.
    #[command(subcommand)]
    DeadLetters(cli::DeadLetters),
    /// Makes a container image of one static binary, without a registry.
    Image(cli::Image),
    /// Waits until the server is ready.
    Wait(cli::Wait),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let url = arguments.url;
    let ended = runtime.block_on(async {
        let Some(command) = arguments.command else {
            // Whatever FN_NODE_TYPE says, as in a deployment of the original.
            return node::run(None, &ConfigurationArgs::default()).await;
        };
        match command {
            Command::Up(from) => node::run(Some(NodeKind::Full), &from).await,
            Command::Api(from) => node::run(Some(NodeKind::Api), &from).await,
            Command::Lb(from) => node::run(Some(NodeKind::Lb), &from).await,
            Command::Runner(from) => node::run(Some(NodeKind::Runner), &from).await,
            Command::Config(from) => configuration::show(&from),
            Command::Deploy(what) => cli::deploy(&url, what).await,
            Command::Call(what) => cli::call(&url, what).await,
            Command::Calls(what) => cli::calls(&url, what).await,
            Command::DeadLetters(what) => cli::dead_letters(&url, what).await,
            Command::Image(what) => cli::image(what).await,
            Command::Wait(what) => cli::wait(&url, what).await,
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the last word of a command that failed"
)]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("hearth: {}", with_causes(error));
    ExitCode::FAILURE
}

/// An error and its causes, each told once: many errors end with their cause as it is.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::with_causes;

    #[test]
    fn each_cause_is_told_once() {
        let error = anyhow!("gone")
            .context("no file: gone")
            .context("FN_DB_URL");
        assert_eq!(with_causes(&error), "FN_DB_URL: no file: gone");
    }
}
