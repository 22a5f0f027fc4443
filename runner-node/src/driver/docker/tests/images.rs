//! Images that are there, are not, or should not be used.

use std::time::{Duration, Instant};

use domain::{ApiError, ErrorCode};

use super::bench::{DockerBench, load_image, remove_image, unique};
use crate::driver::Driver as _;
use crate::driver::contract::{Bench as _, eventually};

async fn prepare(bench: &DockerBench, image: &str, limit: Duration) -> Result<(), ApiError> {
    let mut function = bench.function();
    function.image = image.to_owned();
    bench
        .driver
        .prepare_image(&function, Instant::now() + limit)
        .await
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_image_with_a_volume_is_refused_unless_allowed() {
    let bench = DockerBench::new().await;
    let image = format!("hearth-test/{}:v1", unique());
    load_image(None, &image, vec!["/data"]).await;
    let error = prepare(&bench, &image, LONG)
        .await
        .expect_err("it has a volume");
    assert_eq!(
        (error.status(), error.message()),
        (400, "image has Volume definition")
    );
    let allowing = DockerBench::with(|config| config.image_enable_volume = true).await;
    prepare(&allowing, &image, LONG).await.expect("allowed");
    remove_image(&bench.client, &image).await;
    allowing.end().await;
    bench.end().await;
}

#[tokio::test]
async fn what_is_no_reference_is_a_clean_error() {
    let bench = DockerBench::new().await;
    for image in [
        "",
        "UPPER/case",
        "../containers/json",
        "a?b",
        "a b",
        "a@sha256:0",
        "\n",
        "http://x/y",
    ] {
        let error = prepare(&bench, image, LONG).await.expect_err(image);
        assert_eq!(error.status(), 400, "{image}");
        let start = format!("Failed to pull image '{image}': invalid reference format");
        assert!(error.message().starts_with(&start), "{error}");
    }
    bench.end().await;
}

#[tokio::test]
async fn registries_can_be_limited() {
    let bench =
        DockerBench::with(|config| config.allowed_registries = vec!["my.registry".into()]).await;
    let error = prepare(&bench, "other.registry/x", LONG)
        .await
        .expect_err("not allowed");
    assert_eq!(error.status(), 403);
    assert_eq!(
        error.message(),
        "Failed to pull image 'other.registry/x': registry other.registry is not allowed"
    );
    bench.end().await;
}

#[tokio::test]
async fn an_image_that_vanishes_is_busy() {
    let bench = DockerBench::new().await;
    let image = bench.image.clone();
    prepare(&bench, &image, LONG).await.expect("there");
    remove_image(&bench.client, &image).await;
    let error = bench.driver.create(bench.script("")).await.map(|_| ());
    assert_eq!(error.expect_err("gone").code(), ErrorCode::ServerBusy);
    bench.end().await;
}

#[tokio::test]
async fn a_refusing_registry_is_named_in_the_error() {
    let bench = DockerBench::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let image = format!("127.0.0.1:{port}/x:v1");
    let error = prepare(&bench, &image, LONG)
        .await
        .expect_err("nobody listens");
    assert_eq!(error.status(), 502);
    let start = format!("Failed to pull image '{image}': ");
    assert!(error.message().starts_with(&start), "{error}");
    assert!(error.message().contains("connection refused"), "{error}");
    bench.end().await;
}

#[tokio::test]
async fn a_hung_registry_ends_with_the_deadline() {
    let bench = DockerBench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let image = format!("127.0.0.1:{port}/x:v1");
    let pull = prepare(&bench, &image, Duration::from_secs(2));
    let hold = async {
        let (connection, _) = listener.accept().await.expect("a connection");
        let held = connection;
        std::future::pending::<()>().await;
        drop(held);
    };
    let error = tokio::select! {
        result = pull => result.expect_err("it says nothing"),
        () = hold => unreachable!("it holds for ever"),
    };
    assert_eq!(
        (error.status(), error.message()),
        (504, "Image pull timed out")
    );
    // The pull itself has ended too.
    eventually("the end of the pull", async || {
        bench.driver.shared.tasks.len() == 1
    })
    .await;
    bench.end().await;
}

#[tokio::test]
async fn an_archive_is_loaded_at_start() {
    let bench = DockerBench::new().await;
    let archive = bench.dir.path().join("images.tar");
    let image = format!("hearth-test/{}:v1", unique());
    let scratch = crate::driver::docker::image_build::ScratchImage {
        tag: &image,
        files: vec![("x", b"binary")],
        entrypoint: vec!["/x"],
        ..Default::default()
    };
    let bytes = crate::driver::docker::image_build::archive(&scratch).expect("an archive");
    std::fs::write(&archive, bytes).expect("written");
    let mut config = bench.config();
    config.load_file = Some(archive);
    let (driver, _) = super::bench::connect(config).await.expect("connected");
    prepare(&bench, &image, LONG).await.expect("loaded");
    driver.close().await;
    remove_image(&bench.client, &image).await;
    bench.end().await;
}
