//! The real Docker engine, asked through its own command line.

use std::process::Command;

use serde_json::Value;

/// Runs `docker` and answers with what it printed.
///
/// # Panics
/// When it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(arguments)
        .output()
        .expect("the docker command runs");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The ids of all containers, running or not, that a server with this label tag has made.
pub fn containers_of(tag: &str) -> Vec<String> {
    let filter = format!("label=fn-agent-classifier={tag}");
    docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Removes containers, whatever state they are in.
pub fn remove(containers: &[String]) {
    for container in containers {
        // A frozen container cannot be killed; one that is gone already is fine.
        let _ = Command::new("docker").args(["unpause", container]).output();
        let _ = Command::new("docker")
            .args(["rm", "--force", "--volumes", container])
            .output();
    }
}

/// What the engine knows of a container.
///
/// # Panics
/// When there is no such container.
pub fn inspect(container: &str) -> Value {
    let text = docker(&[
        "inspect",
        "--type",
        "container",
        "--format",
        "{{json .}}",
        container,
    ]);
    serde_json::from_str(&text).expect("the engine says JSON")
}
