//! A container like one of Hearth's own: what Hearth told the engine, with a socket directory of the
//! harness. So both sides run the same image with the same options, whatever these are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hearth_tests::engine;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::engine_api::EngineApi;

/// How to make twins of a container.
pub(crate) struct Recipe(Value);

impl Recipe {
    /// Asks the engine what `container` was made of.
    pub(crate) async fn of(engine: &mut EngineApi, container: &str) -> anyhow::Result<Self> {
        let found = engine.get(&format!("/containers/{container}/json")).await?;
        let mut body = found["Config"].clone();
        body["HostConfig"] = found["HostConfig"].clone();
        // Not Hearth's: it must not count or remove them.
        body["Labels"] = json!({ "hearth-bench": std::process::id().to_string() });
        anyhow::ensure!(
            body["HostConfig"]["Mounts"][0]["Source"].is_string(),
            "a bind mount is expected: {body}"
        );
        Ok(Self(body))
    }

    fn with_directory(&self, directory: &Path) -> Value {
        let mut body = self.0.clone();
        body["HostConfig"]["Mounts"][0]["Source"] = directory.to_string_lossy().into();
        body
    }
}

/// A running container. It goes when it is dropped.
pub(crate) struct Twin {
    id: String,
    directory: TempDir,
}

impl Twin {
    /// Creates and starts a container, and connects to its socket as soon as that is possible.
    pub(crate) async fn start(
        engine: &mut EngineApi,
        recipe: &Recipe,
    ) -> anyhow::Result<(Self, UnixStream)> {
        let directory = tempfile::tempdir()?;
        // The function is no user of this machine.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777))?;
        let made = engine
            .post(
                "/containers/create",
                Some(&recipe.with_directory(directory.path())),
            )
            .await?;
        let id = made["Id"]
            .as_str()
            .context("a container has an id")?
            .to_owned();
        let twin = Self { id, directory };
        engine
            .post(&format!("/containers/{}/start", twin.id), None)
            .await?;
        let stream = twin.connect().await;
        Ok((twin, stream))
    }

    /// Where the function listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("lsnr.sock")
    }

    async fn connect(&self) -> UnixStream {
        let socket = self.socket();
        loop {
            if let Ok(stream) = UnixStream::connect(&socket).await {
                return stream;
            }
            // The least that the timer can do.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        engine::remove(std::slice::from_ref(&self.id));
    }
}
