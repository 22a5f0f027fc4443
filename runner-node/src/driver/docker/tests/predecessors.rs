//! Who removes whose containers (spec/11 11.6, `CleanCase1` to `CleanCase4`, and more).

use std::sync::{Arc, Mutex};

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::CreateContainerOptions;

use super::bench::{DockerBench, connect, unique};
use crate::driver::Driver as _;
use crate::driver::contract::{Behaviour, Bench, beats, directory, eventually};
use crate::driver::docker::instance::{CLASSIFIER_LABEL, HOME_LABEL, INSTANCE_LABEL};
use crate::driver::docker::startup::ConnectError;

/// A container that another agent would have made, with these labels.
async fn foreign(bench: &DockerBench, labels: &[(&str, &str)]) -> String {
    let name = unique();
    let body = ContainerCreateBody {
        image: Some(bench.image.clone()),
        env: Some(vec!["SCRIPT=sleep 600".to_owned()]),
        labels: Some(
            labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        ),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions {
        name: Some(name.clone()),
        ..CreateContainerOptions::default()
    };
    bench
        .client
        .create_container(Some(options), body)
        .await
        .expect("created");
    name
}

#[tokio::test]
async fn only_what_a_dead_predecessor_left_is_removed() {
    let bench = DockerBench::new().await;
    let tag = bench.config().label_tag.expect("a tag");
    let me = bench.driver.shared.instance.labels();

    let unlabelled = foreign(&bench, &[]).await;
    let other_tag = foreign(
        &bench,
        &[(CLASSIFIER_LABEL, "other"), (INSTANCE_LABEL, "1")],
    )
    .await;
    let stopped = foreign(&bench, &[(CLASSIFIER_LABEL, &tag), (INSTANCE_LABEL, "1")]).await;
    let running = foreign(&bench, &[(CLASSIFIER_LABEL, &tag), (INSTANCE_LABEL, "2")]).await;
    bench
        .client
        .start_container(&running, None)
        .await
        .expect("started");
    let dead = [
        (CLASSIFIER_LABEL, &*tag),
        (INSTANCE_LABEL, "3"),
        (HOME_LABEL, &*me[HOME_LABEL]),
    ];
    let dead = foreign(&bench, &dead).await;
    // Its runner keeps its locks in a directory that we do not see.
    let unseen = [
        (CLASSIFIER_LABEL, &*tag),
        (INSTANCE_LABEL, "4"),
        (HOME_LABEL, "elsewhere"),
    ];
    let unseen = foreign(&bench, &unseen).await;
    let mine = bench.spec(Behaviour::Beat);
    let (mine_name, mine_dir) = (mine.name.clone(), directory(&mine));
    let mine = bench.driver.create(mine).await.expect("created");
    mine.start().await.expect("started");

    let removed = Arc::new(Mutex::new(Vec::new()));
    let mut config = bench.config();
    config.on_removed = Some(Arc::new({
        let removed = removed.clone();
        move |name| removed.lock().expect("lock").push(name.to_owned())
    }));
    // The first driver lives: this is a neighbour.
    let (neighbour, _) = connect(config).await.expect("connected");
    let expected = [&stopped, &running, &dead];
    eventually("clean-up", async || {
        removed.lock().expect("lock").len() == expected.len()
    })
    .await;
    for name in expected {
        assert!(removed.lock().expect("lock").contains(name));
        assert!(!bench.exists(name).await);
    }
    for name in [&unlabelled, &other_tag, &unseen, &mine_name] {
        assert!(bench.exists(name).await, "{name} is not the neighbour's");
    }
    beats(&mine_dir).await;
    neighbour.close().await;
    for name in [&unlabelled, &other_tag, &unseen] {
        bench
            .client
            .remove_container(name, None)
            .await
            .expect("removed");
    }
    mine.remove().await;
    bench.end().await;
}

/// Stands for `kill -9`: the driver is gone, its lock is free, its containers are not removed.
async fn killed_with(bench: &DockerBench, pause: bool) -> String {
    let spec = bench.spec(Behaviour::Beat);
    let (name, directory, config) = (spec.name.clone(), directory(&spec), bench.config());
    let life = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let container = runtime.block_on(async {
            let (driver, _) = connect(config).await.expect("connected");
            let container = driver.create(spec).await.expect("created");
            container.start().await.expect("started");
            beats(&directory).await;
            if !pause {
                container.freeze().await.expect("frozen");
            }
            container
        });
        // No task of it runs any more, so that nothing removes the container.
        drop(runtime);
        drop(container);
    });
    tokio::task::spawn_blocking(move || life.join())
        .await
        .expect("joined")
        .expect("lived");
    if pause {
        let paused = bench.client.pause_container(&name).await;
        paused.expect("paused");
    }
    name
}

#[tokio::test]
async fn frozen_containers_of_a_killed_predecessor_are_removed() {
    let bench = DockerBench::new().await;
    for pause in [false, true] {
        let name = killed_with(&bench, pause).await;
        let inspected = bench.inspect(&name).await.expect("left behind");
        let running = inspected.state.and_then(|state| state.running);
        assert_eq!(running, Some(true), "paused: {pause}");
        let (successor, _) = connect(bench.config()).await.expect("connected");
        eventually("clean-up", async || !bench.exists(&name).await).await;
        successor.close().await;
    }
    bench.end().await;
}

#[tokio::test]
async fn a_start_that_cannot_work_says_so() {
    let bench = DockerBench::new().await;
    let mut config = bench.config();
    config.host = Some("unix:///nowhere/docker.sock".to_owned());
    let error = connect(config).await.map(|_| ()).expect_err("no engine");
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    let mut config = bench.config();
    config.load_file = Some("/nowhere/images.tar".into());
    let error = connect(config).await.map(|_| ()).expect_err("no file");
    assert!(matches!(error, ConnectError::LoadFile { .. }), "{error}");
    let mut config = bench.config();
    config.registry_auth = Some("hunter2".into());
    let error = connect(config).await.map(|_| ()).expect_err("no JSON");
    assert!(matches!(&error, ConnectError::RegistryAuth(text) if !text.contains("hunter2")));
    let mut config = bench.config();
    config.state_dir = "/proc".into();
    let error = connect(config).await.map(|_| ()).expect_err("no directory");
    assert!(matches!(error, ConnectError::StateDir(_)), "{error}");
    let mut config = bench.config();
    config.networks = vec!["bridge".to_owned(), "nowhere".to_owned()];
    let error = connect(config).await.map(|_| ()).expect_err("no network");
    let text = error.to_string();
    assert!(text.starts_with("FN_DOCKER_NETWORKS: nowhere: "), "{text}");
    bench.end().await;
}

#[tokio::test]
async fn an_outsiders_removal_is_an_exit() {
    let bench = DockerBench::new().await;
    let container = bench
        .driver
        .create(bench.spec(Behaviour::Beat))
        .await
        .expect("created");
    container.start().await.expect("started");
    let options = bollard::query_parameters::RemoveContainerOptions {
        force: true,
        ..Default::default()
    };
    let removed = bench.client.remove_container(container.id(), Some(options));
    removed.await.expect("removed");
    assert_eq!(container.wait().await.code, 137);
    container.remove().await;
    bench.end().await;
}
