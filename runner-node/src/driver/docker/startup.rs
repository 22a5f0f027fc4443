//! Reaching the engine, and checking that it will do (spec/05 5.7).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::ImportImageOptions;
use futures_util::StreamExt as _;
use tokio_util::io::ReaderStream;

use super::config::DockerConfig;
use super::engine::Engine;
use super::error::EngineError;
use super::metrics::DockerMetrics;

/// The oldest engine that will do.
const MINIMUM_VERSION: &str = "17.10.0-ce";
const LOAD_LIMIT: Duration = Duration::from_secs(600);

/// Why the driver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The engine cannot be reached, or does not answer as one.
    #[error("cannot connect to the docker engine (FN_DOCKER_HOST): {0}")]
    Unreachable(String),
    /// The engine is older than what the driver needs.
    #[error("docker version is too old. Required: {required} Found: {found}")]
    TooOld {
        /// The oldest that will do.
        required: &'static str,
        /// What answers.
        found: String,
    },
    /// The archive of images could not be loaded.
    #[error("FN_DOCKER_LOAD_FILE: cannot load images from {path}: {reason}")]
    LoadFile {
        /// The archive.
        path: String,
        /// What the engine or the file system says.
        reason: String,
    },
    /// The credentials in the configuration cannot be read.
    #[error("FN_DOCKER_AUTH: invalid registry credentials: {0}")]
    RegistryAuth(String),
    /// The state directory cannot be used.
    #[error("FN_IOFS_PATH: the state directory cannot be used: {0}")]
    StateDir(#[from] std::io::Error),
    /// A network that containers are to be put into.
    #[error("FN_DOCKER_NETWORKS: {name}: {reason}")]
    Network {
        /// The network.
        name: String,
        /// What the engine says.
        reason: String,
    },
}

impl From<EngineError> for ConnectError {
    fn from(error: EngineError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// Connects, checks the version, and loads the archive of images, if there is one.
pub(super) async fn connect(
    config: &DockerConfig,
    metrics: Arc<DockerMetrics>,
) -> Result<Engine, ConnectError> {
    let engine = Engine::new(config.host.as_deref(), config.call_timeout, metrics)?;
    let request = engine.docker().clone().negotiate_version();
    engine.call("docker_version", request).await?;
    let version = engine
        .call("docker_version", engine.docker().version())
        .await?;
    check_version(version.version.as_deref().unwrap_or_default())?;
    for name in &config.networks {
        let request = engine.docker().inspect_network(name, None);
        engine
            .call("docker_inspect_network", request)
            .await
            .map_err(|error| ConnectError::Network {
                name: name.clone(),
                reason: error.to_string(),
            })?;
    }
    if let Some(path) = &config.load_file {
        load(&engine, path)
            .await
            .map_err(|reason| ConnectError::LoadFile {
                path: path.display().to_string(),
                reason,
            })?;
    }
    Ok(engine)
}

fn check_version(found: &str) -> Result<(), ConnectError> {
    if numbers(found) < numbers(MINIMUM_VERSION) {
        return Err(ConnectError::TooOld {
            required: MINIMUM_VERSION,
            found: found.to_owned(),
        });
    }
    Ok(())
}

/// The first three numbers of a version; what is no number is zero.
fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    std::array::from_fn(|_| parts.next().and_then(|part| part.parse().ok()).unwrap_or(0))
}

async fn load(engine: &Engine, path: &Path) -> Result<(), String> {
    let file = tokio::fs::File::open(path).await;
    let archive = ReaderStream::new(file.map_err(|error| error.to_string())?);
    let request = async {
        let options = ImportImageOptions {
            quiet: true,
            ..ImportImageOptions::default()
        };
        let mut answers = engine.docker().import_image_stream(options, archive, None);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    };
    let loaded = engine.call_within(LOAD_LIMIT, "docker_load_images", request);
    loaded.await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_engines_are_refused() {
        for found in ["17.10.0-ce", "17.10.1", "18.03", "20.10.24+dfsg1", "28.2.2"] {
            assert!(check_version(found).is_ok(), "{found}");
        }
        for found in ["17.09.1-ce", "1.13.1", "", "dev"] {
            let error = check_version(found).expect_err(found);
            assert_eq!(
                error.to_string(),
                format!("docker version is too old. Required: 17.10.0-ce Found: {found}")
            );
        }
    }
}
