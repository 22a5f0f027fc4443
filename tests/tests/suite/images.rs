//! Images: from a real registry with users, from one that refuses, hangs or lacks them, and images that
//! are not accepted (spec/05 5.5, spec/11 11.2, 11.5).

use hearth_tests::registry::Registry;
use hearth_tests::{Answer, Deployed, Server, engine, functions, raw};
use serde_json::{Value, json};

/// Calls a function with this image on a server with these settings.
async fn call(image: &str, settings: &[(&str, &str)]) -> Answer {
    let server = Server::start(settings).await;
    Deployed::new(&server.client, "image", image, json!({ "memory": 64 }))
        .await
        .call_json(json!({}))
        .await
}

/// The message of an error, which must begin in the agreed way.
fn pull_error(answer: &Answer, image: &str) -> String {
    let told: Value = answer.json();
    let message = told["message"].as_str().expect("a message");
    let start = format!("Failed to pull image '{image}': ");
    assert!(message.starts_with(&start), "{message}");
    message[start.len()..].to_owned()
}

#[tokio::test]
async fn an_image_is_pulled_with_the_right_credentials_only() {
    let registry = Registry::start().await;
    let image = registry.push(&functions::image("test-function"), "private");
    let nowhere = registry.client_directory().join("nowhere");
    let nobody = [("HOME", nowhere.to_str().expect("UTF-8"))];

    let refused = call(&image, &nobody).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    pull_error(&refused, &image);

    let wrong = registry.auth_with("wrong");
    let refused = call(&image, &[nobody[0], ("FN_DOCKER_AUTH", &wrong)]).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(!refused.text().contains("wrong"), "{refused:?}");

    let right = registry.auth();
    call(&image, &[nobody[0], ("FN_DOCKER_AUTH", &right)])
        .await
        .expect(200);
    registry.forget(&image);

    // The configuration of a Docker client serves as well.
    let home = registry.client_directory().to_str().expect("UTF-8");
    call(&image, &[("HOME", home)]).await.expect(200);
    registry.forget(&image);

    // The secret may be in a file.
    let file = registry.client_directory().join("auth.json");
    std::fs::write(&file, &right).expect("a file");
    call(
        &image,
        &[
            nobody[0],
            ("FN_DOCKER_AUTH_FILE", file.to_str().expect("UTF-8")),
        ],
    )
    .await
    .expect(200);
    registry.forget(&image);
}

#[tokio::test]
async fn an_image_that_is_not_there_is_not_found() {
    let registry = Registry::start().await;
    let image = format!("{}/no-such-image:1", registry.address);
    let answer = call(&image, &[("FN_DOCKER_AUTH", &registry.auth())])
        .await
        .expect(404);
    assert!(
        pull_error(&answer, &image).contains("not found"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_registry_that_refuses_is_told() {
    let image = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("{}/refused:1", listener.local_addr().expect("it is bound"))
    };
    let answer = call(&image, &[]).await.expect(502);
    assert!(
        pull_error(&answer, &image).contains("connection refused"),
        "{answer:?}"
    );
}

/// DockerPullHungRepo.
#[tokio::test]
async fn a_registry_that_hangs_costs_its_time_only() {
    let registry = raw::Silent::start().await;
    let server = Server::start(&[("FN_HOT_PULL_TIMEOUT_MSECS", "1000")]).await;
    let image = format!("{}/hung:1", registry.address);
    let hung = Deployed::new(&server.client, "hung", &image, json!({})).await;
    hung.call_json(json!({}))
        .await
        .is_error(504, "Image pull timed out");
    assert_eq!(server.containers(), [""; 0]);
    Deployed::test_function(&server.client, "good", json!({}))
        .await
        .call_json(json!({}))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_reference_that_is_none_is_an_error() {
    for image in ["UPPER/case:1", "a b", "x:y:z", "-"] {
        let answer = call(image, &[]).await;
        assert!(
            matches!(answer.status.as_u16(), 400..=499 | 502),
            "{image}: {answer:?}"
        );
        pull_error(&answer, image);
    }
}

#[tokio::test]
async fn an_image_with_a_volume_is_refused_unless_it_is_allowed() {
    let image = WithVolume::new();
    call(&image.name, &[])
        .await
        .is_error(400, "image has Volume definition");
    call(&image.name, &[("FN_IMAGE_ENABLE_VOLUME", "true")])
        .await
        .expect(200);
}

/// The test function's image, with a volume.
struct WithVolume {
    name: String,
}

impl WithVolume {
    fn new() -> Self {
        let container = engine::docker(&["create", &functions::image("test-function")]);
        let name = format!("hearth-test/volume:{}", &container[..12]);
        engine::docker(&["commit", "--change", "VOLUME /data", &container, &name]);
        engine::remove(&[container]);
        Self { name }
    }
}

impl Drop for WithVolume {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker")
            .args(["rmi", "--no-prune", &self.name])
            .output();
    }
}
