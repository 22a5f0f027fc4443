//! Pulls from a real registry with users (Debian's `docker-registry`), on loopback.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions};
use domain::{ApiError, ErrorCode};
use futures_util::TryStreamExt as _;

use super::bench::{DockerBench, connect, remove_image, unique};
use crate::driver::Driver;
use crate::driver::contract::{Bench as _, eventually, function_spec};

const USER: &str = "user";
/// In base64 it has letters that differ between the two alphabets, whatever stands before it.
const PASSWORD: &str = "???>>>~~~???>>>~~~";

struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let users = Command::new("htpasswd")
            .args(["-Bbn", "-C", "4", USER, PASSWORD])
            .output()
            .expect("htpasswd is installed");
        let path = dir.path();
        std::fs::write(path.join("users"), users.stdout).expect("written");
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\n\
             http: {{addr: '{address}'}}\nauth: {{htpasswd: {{realm: test, path: {0}/users}}}}\n",
            path.display()
        );
        std::fs::write(path.join("config.yml"), config).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(path.join("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self {
            process,
            address,
            _dir: dir,
        };
        eventually("the registry", async || {
            tokio::net::TcpStream::connect(&registry.address)
                .await
                .is_ok()
        })
        .await;
        registry
    }

    /// Puts the bench's image into the registry, and takes its new name from the engine.
    async fn push(&self, bench: &DockerBench) -> String {
        let repository = format!("{}/{}", self.address, unique());
        let options = TagImageOptions {
            repo: Some(repository.clone()),
            tag: Some("v1".to_owned()),
        };
        bench
            .client
            .tag_image(&bench.image, Some(options))
            .await
            .expect("tagged");
        let user = DockerCredentials {
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.to_owned()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptions {
            tag: Some("v1".to_owned()),
            ..PushImageOptions::default()
        };
        let pushed = bench
            .client
            .push_image(&repository, Some(options), Some(user));
        pushed.try_collect::<Vec<_>>().await.expect("pushed");
        let image = format!("{repository}:v1");
        bench
            .client
            .remove_image(&image, None::<RemoveImageOptions>, None)
            .await
            .expect("removed");
        image
    }

    fn auth(&self, password: &str) -> String {
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        format!(
            r#"{{"auths":{{"http://{}":{{"auth":"{auth}"}}}}}}"#,
            self.address
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn pull(driver: &impl Driver, image: &str) -> Result<(), ApiError> {
    let deadline = Instant::now() + Duration::from_secs(60);
    driver.prepare_image(&function_spec(image), deadline).await
}

#[tokio::test]
async fn the_right_user_may_pull() {
    let bench = DockerBench::new().await;
    let registry = Registry::start().await;
    let image = registry.push(&bench).await;

    let mut nobody = bench.config();
    nobody.auth_files = Vec::new();
    let (nobody, _) = connect(nobody).await.expect("connected");
    let mut wrong = bench.config();
    wrong.registry_auth = Some(registry.auth("wrong").into());
    let (wrong, _) = connect(wrong).await.expect("connected");
    for driver in [nobody, wrong] {
        let error = pull(&driver, &image).await.expect_err("it has users");
        assert_eq!(error.code(), ErrorCode::ImagePullFailed);
        assert!((400..500).contains(&error.status()), "{error:?}");
        let start = format!("Failed to pull image '{image}': ");
        assert!(error.message().starts_with(&start), "{error}");
        driver.close().await;
    }

    let mut right = bench.config();
    right.registry_auth = Some(registry.auth(PASSWORD).into());
    let (right, metrics) = connect(right).await.expect("connected");
    let (a, b, c) = tokio::join!(
        pull(&right, &image),
        pull(&right, &image),
        pull(&right, &image)
    );
    assert_eq!(
        (a.is_ok(), b.is_ok(), c.is_ok()),
        (true, true, true),
        "{a:?}"
    );
    let pulls = r#"fn_docker_api_latency_count{api_name="docker_pull_image",api_status="200"} 1"#;
    assert!(metrics.render().contains(pulls), "{}", metrics.render());
    let missing = format!("{}/missing:v1", registry.address);
    let error = pull(&right, &missing).await.expect_err("not there");
    assert_eq!(error.status(), 404, "{error:?}");

    // From a file as well, and a name with a digest.
    let inspected = bench.client.inspect_image(&image).await.expect("there");
    let digest = inspected
        .repo_digests
        .and_then(|all| all.into_iter().find(|it| it.starts_with(&registry.address)));
    remove_image(&bench.client, &image).await;
    let file = bench.dir.path().join("config.json");
    std::fs::write(&file, registry.auth(PASSWORD)).expect("written");
    let mut by_file = bench.config();
    by_file.auth_files = vec![file];
    let (by_file, _) = connect(by_file).await.expect("connected");
    let digest = digest.expect("a digest");
    pull(&by_file, &digest).await.expect("pulled");
    pull(&by_file, &digest).await.expect("there");
    remove_image(&bench.client, &digest).await;
    by_file.close().await;
    right.close().await;
    bench.end().await;
}

#[tokio::test]
async fn a_pull_is_tried_again_if_the_settings_say_so() {
    let bench = DockerBench::with(|config| config.pull_attempts = 3).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let error = pull(&bench.driver, &format!("127.0.0.1:{port}/x:v1")).await;
    assert_eq!(error.expect_err("nobody listens").status(), 502);
    let retries = r#"fn_docker_api_retries{api_name="docker_pull_image",api_status="500"}"#;
    assert_eq!(bench.metric(retries), "2");
    bench.end().await;
}
