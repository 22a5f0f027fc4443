//! The configuration of this process: defaults, a TOML file, the environment, flags.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use api_node::config::{ApiConfig, CallsConfig};
use hybrid_client::config::HybridConfig;
use lb::config::LbConfig;
use nodekit::config::{GrpcConfig, NodeConfig};
use nodekit::settings::{Effective, Layers, Sources};
use runner_node::config::RunnerConfig;

/// Where settings come from, beside the environment.
#[derive(clap::Args, Default)]
pub(crate) struct ConfigurationArgs {
    /// A TOML file of settings, such as `FN_PORT = 8080`.
    #[arg(long)]
    config: Option<PathBuf>,
    /// A setting as NAME=VALUE; it wins over file and environment. May be given several times.
    #[arg(long = "set", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// All nodes in one process.
    Full,
    /// The API and the store.
    Api,
    /// The front door over many runners.
    Lb,
    /// Runs functions for load balancers.
    Runner,
}

/// The settings of every kind of node; each uses those of its own kind.
pub(crate) struct Configuration {
    /// What `FN_NODE_TYPE` says that the process is.
    pub(crate) kind: NodeKind,
    pub(crate) node: NodeConfig,
    pub(crate) grpc: GrpcConfig,
    pub(crate) hybrid: HybridConfig,
    pub(crate) api: ApiConfig,
    pub(crate) calls: CallsConfig,
    pub(crate) lb: LbConfig,
    pub(crate) runner: RunnerConfig,
    pub(crate) effective: Effective,
}

/// Loads and checks the configuration.
pub(crate) fn load(from: &ConfigurationArgs) -> anyhow::Result<Configuration> {
    let file = match &from.config {
        Some(path) => {
            let contents = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some((path.display().to_string(), contents))
        }
        None => None,
    };
    let environment: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let kind = node_kind(&environment);
    let environment = environment
        .into_iter()
        .filter(|(name, _)| name != NODE_TYPE)
        .collect();
    let mut layers = Layers::new(Sources {
        file: file
            .as_ref()
            .map(|(name, contents)| (name.as_str(), contents.as_str())),
        environment,
        flags: from.set.clone(),
        read_file: Some(&|path| std::fs::read_to_string(path)),
    });
    let (node, grpc, hybrid) = (layers.load(), layers.load(), layers.load());
    let (api, calls) = (layers.load(), layers.load());
    let (lb, runner) = (layers.load(), layers.load());
    let effective = layers.finish()?;
    Ok(Configuration {
        kind,
        node,
        grpc,
        hybrid,
        api,
        calls,
        lb,
        runner,
        effective,
    })
}

const NODE_TYPE: &str = "FN_NODE_TYPE";

/// What the environment says that the process is.
fn node_kind(environment: &[(String, String)]) -> NodeKind {
    let kind = environment
        .iter()
        .find(|(name, _)| name == NODE_TYPE)
        .map(|(_, kind)| kind.as_str());
    match kind {
        Some("api") => NodeKind::Api,
        Some("lb") => NodeKind::Lb,
        Some("pure-runner" | "runner") => NodeKind::Runner,
        // The original takes any other value for `full` (spec/01 1.1).
        _ => NodeKind::Full,
    }
}

/// Prints the effective configuration.
pub(crate) fn show(from: &ConfigurationArgs) -> anyhow::Result<()> {
    let configuration = load(from)?;
    write!(std::io::stdout().lock(), "{}", configuration.effective).context("cannot print")
}
