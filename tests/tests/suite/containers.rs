//! What a container is allowed, seen from the engine and from inside (spec/13 13.1, spec/05 5.2).

use hearth_tests::{Deployed, Server, engine, eventually};
use serde_json::{Value, json};

/// What the function tells about one thing that it tried.
async fn tried(func: &Deployed, knobs: Value) -> Value {
    func.call_json(knobs).await.expect(200).json()["data"].clone()
}

#[tokio::test]
async fn the_engine_is_told_to_harden_every_container() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "hard", json!({ "memory": 64 })).await;
    func.call_json(json!({})).await.expect(200);
    let container = engine::inspect(&server.containers()[0]);
    assert_eq!(container["Config"]["User"], "1000:1000");
    assert_eq!(
        container["Config"]["Labels"]["fn-agent-classifier"],
        server.tag
    );
    assert_eq!(container["Config"]["OpenStdin"], false);
    let memory = 64 << 20;
    for (setting, value) in [
        ("CapDrop", json!(["all"])),
        ("CapAdd", json!(null)),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("Privileged", json!(false)),
        ("ReadonlyRootfs", json!(true)),
        ("Init", json!(true)),
        ("PidsLimit", json!(50)),
        ("Memory", json!(memory)),
        ("MemorySwap", json!(memory)),
        ("MemorySwappiness", json!(0)),
        ("Tmpfs", json!({ "/tmp": "" })),
        ("LogConfig", json!({ "Type": "none", "Config": {} })),
        ("PidMode", json!("")),
        ("UTSMode", json!("")),
        ("Binds", json!(null)),
    ] {
        assert_eq!(container["HostConfig"][setting], value, "{setting}");
    }
    let limits = container["HostConfig"]["Ulimits"]
        .as_array()
        .expect("limits")
        .clone();
    for (name, value) in [
        ("nofile", 350),
        ("memlock", 65_536),
        ("sigpending", 5000),
        ("msgqueue", 819_200),
    ] {
        let expected = json!({ "Name": name, "Soft": value, "Hard": value });
        assert!(limits.contains(&expected), "{name}: {limits:?}");
    }
    let mounts = container["HostConfig"]["Mounts"]
        .as_array()
        .expect("mounts")
        .clone();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    assert_eq!(mounts[0]["Target"], "/tmp/iofs");
}

#[tokio::test]
async fn the_limits_hold_inside() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "inside", json!({ "memory": 64 })).await;
    let status = tried(&func, json!({ "readFile": "/proc/self/status" })).await;
    let status = status["/proc/self/status.read_output"]
        .as_str()
        .expect("a status")
        .to_owned();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}"))
            .trim()
            .to_owned()
    };
    assert_eq!(field("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field("Gid"), "1000\t1000\t1000\t1000");
    assert_eq!(
        (field("CapEff"), field("CapBnd")),
        ("0000000000000000".to_owned(), "0000000000000000".to_owned())
    );
    assert_eq!(field("NoNewPrivs"), "1");
    let mut told = tried(&func, json!({ "openFiles": 1000, "spawnThreads": 200 })).await;
    for (what, most) in [("openFiles_output", 350), ("spawnThreads_output", 50)] {
        let got: u32 = told[what]
            .take()
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a number");
        assert!((1..most).contains(&got), "{what}: {got}");
    }
    // The init process comes first, and the function is its child.
    assert_ne!(field("Pid"), "1");
}

/// TmpFsRW.
#[tokio::test]
async fn only_tmp_can_be_written_to() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "files", json!({ "memory": 64 })).await;
    for (file, written) in [
        ("/tmp/file", true),
        ("/tmp/iofs/file", true),
        ("/file", false),
        ("/dev/file", false),
    ] {
        let told = tried(&func, json!({ "createFile": file, "createFileSize": 1000 })).await;
        let outcome = if written { "output" } else { "error" };
        assert!(
            !told[format!("{file}.create_{outcome}")].is_null(),
            "{told}"
        );
    }
    let mounts = tried(&func, json!({ "readFile": "/proc/mounts" })).await;
    let mounts = mounts["/proc/mounts.read_output"]
        .as_str()
        .expect("mounts")
        .to_owned();
    let tmp = mounts
        .lines()
        .find(|line| line.contains(" /tmp "))
        .expect("a mount of its own");
    for option in ["tmpfs", "noexec", "nosuid", "nodev"] {
        assert!(tmp.contains(option), "{tmp}");
    }
}

/// TmpFsSize, as far as it is a setting: what is written to `/tmp` is the container's memory.
#[tokio::test]
async fn what_is_written_to_tmp_is_memory() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "large", json!({ "memory": 64 })).await;
    let told = tried(
        &func,
        json!({ "createFile": "/tmp/small", "createFileSize": 20 << 20 }),
    )
    .await;
    assert_eq!(told["/tmp/small.create_output"], (20 << 20).to_string());
    let large = json!({ "createFile": "/tmp/large", "createFileSize": 120 << 20 });
    func.call_json(large)
        .await
        .is_error(502, "error receiving function response");
    func.call_json(json!({})).await.expect(200);
}

#[tokio::test]
async fn what_an_operator_loosens_is_loose() {
    let settings = [
        ("FN_DISABLE_READONLY_ROOTFS", "true"),
        ("FN_DISABLE_UNPRIVILEGED_CONTAINERS", "true"),
        ("FN_MAX_PIDS", "20"),
    ];
    let server = Server::start(&settings).await;
    let func = Deployed::test_function(&server.client, "loose", json!({ "memory": 64 })).await;
    let told = tried(&func, json!({ "createFile": "/file", "createFileSize": 1 })).await;
    assert_eq!(told["/file.create_output"], "1");
    let container = engine::inspect(&server.containers()[0]);
    assert_eq!(container["HostConfig"]["ReadonlyRootfs"], false);
    assert_eq!(container["HostConfig"]["PidsLimit"], 20);
    assert_eq!(container["Config"]["User"], "");
}

/// The original's own set-up: the server in a container, with a named volume for the sockets (spec/13 13.2).
#[tokio::test]
async fn sockets_may_be_in_a_named_volume() {
    let volume = Volume::new();
    let server = Server::start(&[
        ("FN_IOFS_PATH", &volume.path),
        ("FN_IOFS_DOCKER_PATH", &volume.name),
    ])
    .await;
    let app = server
        .client
        .post("/v2/apps", json!({ "name": "volume" }).to_string())
        .await
        .expect(200)
        .json();
    let image = hearth_tests::functions::image("test-function");
    for name in ["first", "second"] {
        let func =
            Deployed::in_app(&server.client, &app, name, &image, json!({ "memory": 64 })).await;
        for _ in 0..2 {
            let told = func
                .call_json(json!({ "listDirectory": "/tmp/iofs" }))
                .await
                .expect(200)
                .json();
            let listener = told["config"]["FN_LISTENER"]
                .as_str()
                .expect("a listener")
                .to_owned();
            assert!(
                listener.starts_with("unix:/tmp/iofs/iofs") && listener.ends_with("/lsnr.sock"),
                "{listener}"
            );
            // The names of other functions' directories are nobody's business.
            assert!(!told["data"]["/tmp/iofs.list_error"].is_null(), "{told}");
        }
    }
    let container = engine::inspect(&server.containers()[0]);
    assert_eq!(
        (
            &container["Mounts"][0]["Type"],
            &container["Mounts"][0]["Name"]
        ),
        (&json!("volume"), &json!(volume.name))
    );
    // Before the volume: it is in use until then.
    drop(server);
}

/// Each container's directory may be a small file system of its own, so that none can fill the disk.
#[tokio::test]
async fn sockets_may_be_on_a_tmpfs_each() {
    let server = Server::start(&[
        ("FN_IOFS_TMPFS", "true"),
        ("FN_IOFS_OPTS", "size=1m,nr_inodes=16"),
    ])
    .await;
    let settings = json!({ "memory": 64, "idle_timeout": 1 });
    let func = Deployed::test_function(&server.client, "tmpfs", settings).await;
    for (size, outcome) in [(1000, "output"), (2 << 20, "error")] {
        let told = tried(
            &func,
            json!({ "createFile": "/tmp/iofs/file", "createFileSize": size }),
        )
        .await;
        assert!(
            !told[format!("/tmp/iofs/file.create_{outcome}")].is_null(),
            "{told}"
        );
    }
    let sockets = server.sockets().to_string_lossy().into_owned();
    let mounted = || {
        std::fs::read_to_string("/proc/mounts")
            .expect("mounts")
            .contains(&sockets)
    };
    assert!(mounted());
    eventually("it is unmounted with its container", async || {
        (!mounted()).then_some(())
    })
    .await;
}

/// A server in a container knows the directory by another name than the engine.
#[tokio::test]
async fn the_engine_may_know_the_sockets_by_another_path() {
    let place = tempfile::tempdir().expect("a directory");
    let (ours, engines) = (place.path().join("ours"), place.path().join("engines"));
    std::fs::create_dir(&ours).expect("a directory");
    std::os::unix::fs::symlink(&ours, &engines).expect("a link");
    let engines = engines.to_str().expect("UTF-8");
    let settings = [
        ("FN_IOFS_PATH", ours.to_str().expect("UTF-8")),
        ("FN_IOFS_DOCKER_PATH", engines),
    ];
    let server = Server::start(&settings).await;
    let func = Deployed::test_function(&server.client, "path", json!({ "memory": 64 })).await;
    func.call_json(json!({})).await.expect(200);
    let container = engine::inspect(&server.containers()[0]);
    let source = container["HostConfig"]["Mounts"][0]["Source"]
        .as_str()
        .expect("a source")
        .to_owned();
    assert!(source.starts_with(&format!("{engines}/iofs")), "{source}");
}

struct Volume {
    name: String,
    path: String,
}

impl Volume {
    fn new() -> Self {
        let name = engine::docker(&["volume", "create"]);
        let path = engine::docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &name]);
        Self { name, path }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker")
            .args(["volume", "rm", "--force", &self.name])
            .output();
    }
}
