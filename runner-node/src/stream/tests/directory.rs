//! The directory: how containers see it, how its socket is awaited, and that nothing is left of it.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn create(config: &SocketDirConfig) -> SocketDir {
    SocketDir::create(config).expect("a socket directory")
}

#[tokio::test]
async fn the_engine_may_know_it_by_another_path() {
    let (_base, config) = base();
    let dir = create(&config);
    assert_eq!(dir.listener_env(), "unix:/tmp/iofs/lsnr.sock");
    let path = path_of(&dir);
    let mode = std::fs::metadata(&path).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o7777, 0o777);

    let elsewhere = create(&SocketDirConfig {
        docker_path: Some("/host/iofs".into()),
        ..config
    });
    let SocketMount::Directory { source, target } = elsewhere.mount() else {
        panic!("a directory");
    };
    assert_eq!(source.parent(), Some(Path::new("/host/iofs")));
    assert_eq!(target, Path::new("/tmp/iofs"));
}

#[tokio::test]
async fn only_root_writes_when_containers_run_as_root() {
    let (_base, config) = base();
    let dir = create(&SocketDirConfig {
        unprivileged: false,
        ..config
    });
    let mode = std::fs::metadata(path_of(&dir)).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn a_volume_is_mounted_whole_and_hides_its_names() {
    let (base, config) = base();
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let dir = create(&SocketDirConfig {
        docker_path: Some("fnserversocket".into()),
        ..config
    });
    let names = names_in(base.path());
    assert_eq!(
        dir.mount(),
        SocketMount::Volume {
            name: "fnserversocket".into(),
            target: "/tmp/iofs".into()
        }
    );
    assert_eq!(
        dir.listener_env(),
        format!("unix:/tmp/iofs/{}/lsnr.sock", names[0])
    );
    let mode = std::fs::metadata(base.path()).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o711);
    // An FDK puts a name of up to 40 bytes beside it; a socket's path has at most 107.
    assert!(format!("/tmp/iofs/{}/", names[0]).len() + 40 <= 107);
}

#[tokio::test]
async fn every_way_in_which_an_fdk_announces_its_socket() {
    for way in 0..4 {
        let (_base, config) = base();
        let mut dir = create(&config);
        let path = path_of(&dir);
        let (name, phony) = (path.join("lsnr.sock"), path.join("phony.sock"));
        let announce = async {
            std::fs::write(path.join("noise"), "").expect("a file");
            tokio::task::yield_now().await;
            match way {
                0 => {
                    let listener = UnixListener::bind(&phony).expect("a listener");
                    symlink("phony.sock", &name).expect("a symlink");
                    listener
                }
                1 => {
                    let listener = UnixListener::bind(&phony).expect("a listener");
                    std::fs::rename(&phony, &name).expect("renamed");
                    listener
                }
                2 => UnixListener::bind(&name).expect("a listener"),
                _ => {
                    // The name is there some time before anybody listens.
                    let socket = tokio::net::UnixSocket::new_stream().expect("a socket");
                    socket.bind(&name).expect("a name");
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    socket.listen(1).expect("a listener")
                }
            }
        };
        let (link, listener) = tokio::join!(soon(dir.ready(Limits::MAX_HEADER_BYTES)), announce);
        assert!(link.expect("a link").is_connected(), "way {way}");
        soon(listener.accept()).await.expect("a connection");
    }
}

#[tokio::test]
async fn what_happens_before_the_wait_is_not_missed_and_a_wait_may_be_repeated() {
    let (_base, config) = base();
    let mut dir = create(&config);
    let wait = dir.ready(Limits::MAX_HEADER_BYTES);
    assert!(futures_util::FutureExt::now_or_never(wait).is_none());
    let _listener = UnixListener::bind(path_of(&dir).join("lsnr.sock")).expect("a listener");
    let link = soon(dir.ready(Limits::MAX_HEADER_BYTES)).await;
    assert!(link.expect("a link").is_connected());
}

#[tokio::test]
async fn a_flood_of_names_does_not_hide_the_socket() {
    let (_base, config) = base();
    let mut dir = create(&config);
    let path = path_of(&dir);
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .expect("a limit")
        .trim()
        .parse::<usize>()
        .expect("a number");
    for n in 0..limit + 100 {
        let name = path.join(if n % 2 == 0 { "one" } else { "two" });
        let _ = std::fs::remove_file(path.join("one"));
        let _ = std::fs::remove_file(path.join("two"));
        std::fs::write(name, "").expect("a file");
    }
    let _listener = UnixListener::bind(path.join("lsnr.sock")).expect("a listener");
    let link = soon(dir.ready(Limits::MAX_HEADER_BYTES)).await;
    assert!(link.expect("a link").is_connected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_containers_may_come_up_at_once() {
    // More than a user may have inotify instances.
    let (_base, config) = base();
    let mut waits = tokio::task::JoinSet::new();
    let mut paths = Vec::new();
    for _ in 0..300 {
        let mut dir = create(&config);
        paths.push(path_of(&dir));
        waits.spawn(async move {
            let link = soon(dir.ready(Limits::MAX_HEADER_BYTES)).await;
            link.expect("a link").is_connected()
        });
    }
    let listeners: Vec<_> = paths
        .iter()
        .map(|path| UnixListener::bind(path.join("lsnr.sock")).expect("a listener"))
        .collect();
    assert!(
        waits
            .join_all()
            .await
            .into_iter()
            .all(|connected| connected)
    );
    drop(listeners);
}

#[tokio::test]
async fn a_watch_is_served_when_the_one_who_read_for_it_goes_away() {
    let (_base, config) = base();
    let (mut first, mut second) = (create(&config), create(&config));
    let listen = |dir: &SocketDir| UnixListener::bind(path_of(dir).join("lsnr.sock"));
    let paths = (path_of(&first), path_of(&second));
    let wait = tokio::spawn(async move { second.ready(Limits::MAX_HEADER_BYTES).await.is_ok() });
    {
        // Waits, reads for both, and is dropped.
        let mut waiting = std::pin::pin!(first.ready(Limits::MAX_HEADER_BYTES));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        std::fs::write(paths.0.join("noise"), "").expect("a file");
        tokio::task::yield_now().await;
        let _ = futures_util::poll!(&mut waiting);
    }
    let _one = UnixListener::bind(paths.1.join("lsnr.sock")).expect("a listener");
    assert!(soon(wait).await.expect("no panic"));
    let _two = listen(&first).expect("a listener");
    assert!(soon(first.ready(Limits::MAX_HEADER_BYTES)).await.is_ok());
}

#[tokio::test]
async fn a_bad_listener_is_an_error_of_the_container() {
    let (_base, config) = base();
    let mut dir = create(&config);
    std::fs::write(path_of(&dir).join("lsnr.sock"), "plain").expect("a file");
    let error = soon(dir.ready(Limits::MAX_HEADER_BYTES))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), ErrorCode::ContainerInitFailed);
    assert_eq!(
        error.internal_detail(),
        Some("listener file is not a socket")
    );
}

/// Leaves what a function might leave, and a file outside that it points to.
fn litter(path: &Path, outside: &Path) {
    std::fs::write(outside.join("precious"), "keep").expect("a file");
    symlink(outside, path.join("out")).expect("a symlink");
    symlink("/nonexistent", path.join("dangling")).expect("a symlink");
    let sealed = path.join("sealed");
    std::fs::create_dir_all(sealed.join("inner/empty")).expect("directories");
    for n in 0..50 {
        std::fs::write(sealed.join(format!("file {n}")), "").expect("a file");
        std::fs::create_dir(sealed.join(format!("removed-{n}"))).expect("a directory");
    }
    symlink(outside, sealed.join("inner/out")).expect("a symlink");
    // In the way of any directory that is moved up.
    for n in 1..5 {
        std::fs::create_dir_all(path.join(format!("removed-{n}/inner/deep"))).expect("directories");
    }
    for dir in ["sealed/inner/empty", "sealed/inner", "sealed"] {
        let none = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(path.join(dir), none).expect("a mode");
    }
    if rustix::process::geteuid().is_root() {
        let user = rustix::fs::Uid::from_raw(1000);
        rustix::fs::chown(path.join("sealed"), Some(user), None).expect("another owner");
    }
}

#[tokio::test]
async fn nothing_is_left_of_it() {
    for way in 0..3 {
        let outside = tempfile::tempdir().expect("a temporary directory");
        let (base, config) = base();
        let dir = create(&config);
        litter(&path_of(&dir), outside.path());
        match way {
            0 => dir.remove().await,
            1 => std::thread::scope(|thread| drop(thread.spawn(|| drop(dir)).join())),
            _ => {
                drop(dir);
                soon(async {
                    while !names_in(base.path()).is_empty() {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
            }
        }
        assert_eq!(names_in(base.path()), Vec::<String>::new());
        assert_eq!(names_in(outside.path()), ["precious"]);
    }
}

#[tokio::test]
async fn a_tree_deeper_than_any_stack_is_removed() {
    use rustix::fs::{Mode, OFlags};

    // In memory, because some disks take milliseconds for a directory.
    let base = tempfile::tempdir_in("/dev/shm").expect("a temporary directory in memory");
    let dir = create(&SocketDirConfig {
        path: Some(base.path().to_owned()),
        ..SocketDirConfig::default()
    });
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(path_of(&dir), flags, Mode::empty()).expect("a directory");
    for _ in 0..20_000 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).expect("a directory");
        at = rustix::fs::openat(&at, "d", flags, Mode::empty()).expect("a directory");
    }
    dir.remove().await;
    assert_eq!(names_in(base.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_tmpfs_is_mounted_and_unmounted() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (base, config) = base();
    let config = SocketDirConfig {
        tmpfs: true,
        tmpfs_opts: "size=64k,mode=1777".into(),
        ..config
    };
    let mut dir = create(&config);
    let path = path_of(&dir);
    std::fs::write(path.join("large"), vec![0; 100_000]).expect_err("its size is limited");
    std::fs::remove_file(path.join("large")).expect("removed");
    let listener = UnixListener::bind(path.join("lsnr.sock")).expect("a listener");
    soon(dir.ready(Limits::MAX_HEADER_BYTES))
        .await
        .expect("a link");
    drop(listener);
    dir.remove().await;
    assert_eq!(names_in(base.path()), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_killed_runner_left_is_removed_and_nothing_else() {
    let (base, config) = base();
    let living = create(&config);
    let dead = create(&config);
    std::fs::write(path_of(&dead).join("lsnr.sock"), "").expect("a file");
    let dead_path = path_of(&dead);
    // A killed process keeps no lock, and removes nothing.
    let aside = base.path().join("aside");
    std::fs::rename(&dead_path, &aside).expect("renamed");
    dead.remove().await;
    std::fs::create_dir_all(&aside).expect("a directory");
    std::fs::write(aside.join("lsnr.sock"), "").expect("a file");
    std::fs::rename(&aside, &dead_path).expect("renamed");
    for foreign in ["iofs123456", "iofs", "data"] {
        std::fs::create_dir(base.path().join(foreign)).expect("a directory");
    }

    assert_eq!(SocketDir::remove_stale(&config), 1);
    let mut names = names_in(base.path());
    names.sort_unstable();
    let living = path_of(&living);
    let living = living.file_name().and_then(|name| name.to_str());
    let mut expected = vec!["data", "iofs", "iofs123456", living.expect("a name")];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(SocketDir::remove_stale(&config), 0);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_an_internal_error() {
    let (base, _) = base();
    std::fs::write(base.path().join("file"), "").expect("a file");
    let config = SocketDirConfig {
        path: Some(base.path().join("file")),
        ..SocketDirConfig::default()
    };
    let error = SocketDir::create(&config).expect_err("not a directory");
    assert_eq!(error.code(), ErrorCode::Internal);
}
