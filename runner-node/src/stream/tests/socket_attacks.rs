//! What a function may put into its directory, and what it may not (spec/11 CheckSocketDestination;
//! the attacks that the original's check let through).

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener as BlockingListener};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::*;

/// Two functions' directories on one file system, each with a listening socket `own.sock`.
struct Scene {
    base: TempDir,
    own: BlockingListener,
    other: BlockingListener,
}

impl Scene {
    fn new() -> Self {
        let base = tempfile::tempdir().expect("a temporary directory");
        let listen = |name: &str| {
            let dir = base.path().join(name);
            std::fs::create_dir(&dir).expect("a directory");
            let listener = BlockingListener::bind(dir.join("own.sock")).expect("a listener");
            listener.set_nonblocking(true).expect("non-blocking");
            listener
        };
        let (own, other) = (listen("mine"), listen("other"));
        Self { base, own, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join("mine").join(name)
    }

    fn listener_is_link_to(&self, target: impl AsRef<Path>) {
        symlink(target, self.path("lsnr.sock")).expect("a symlink");
    }

    fn open(&self) -> Result<Socket, Refusal> {
        Socket::open(directory(&self.base.path().join("mine")).as_fd())
    }

    /// The refusal, which must be an error that says that the container did not start.
    #[track_caller]
    fn refused(&self, reason: &str) {
        let refusal = self.open().expect_err("must be refused");
        assert!(refusal.to_string().starts_with(reason), "{refusal}");
        let error = domain::ApiError::from(refusal);
        assert_eq!(error.code(), ErrorCode::ContainerInitFailed);
        assert!(
            error
                .internal_detail()
                .is_some_and(|detail| detail.starts_with(reason))
        );
        assert!(self.other.accept().is_err(), "nobody connected to it");
    }

    async fn accepted(&self) {
        let socket = self.open().expect("an honest socket");
        soon(socket.connect()).await.expect("it listens");
        self.own.accept().expect("the connection is to its own");
    }
}

fn directory(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    rustix::fs::open(path, flags, Mode::empty()).expect("a directory")
}

const OUTSIDE: &str =
    "invalid unix socket symlink, symlinks must be relative within the unix socket directory";
const NOT_A_SOCKET: &str = "listener file is not a socket";

#[tokio::test]
async fn a_plain_socket_is_fine() {
    let scene = Scene::new();
    std::fs::rename(scene.path("own.sock"), scene.path("lsnr.sock")).expect("renamed");
    scene.accepted().await;
}

#[tokio::test]
async fn a_link_to_a_socket_beside_it_is_fine() {
    for target in ["own.sock", "./own.sock", "././own.sock"] {
        let scene = Scene::new();
        scene.listener_is_link_to(target);
        scene.accepted().await;
    }
}

#[tokio::test]
async fn nothing_at_all() {
    Scene::new().refused("error statting unix socket link file");
}

#[tokio::test]
async fn a_link_to_nothing() {
    let scene = Scene::new();
    scene.listener_is_link_to("nothing.sock");
    scene.refused("unable to stat unix socket file");
}

#[tokio::test]
async fn a_link_out_of_the_directory() {
    let scene = Scene::new();
    let absolute = scene.base.path().join("other/own.sock");
    let own_absolute = scene.path("own.sock");
    for target in [
        absolute.as_path(),
        own_absolute.as_path(),
        Path::new("../other/own.sock"),
        Path::new("../mine/own.sock"),
        Path::new("sub/../../other/own.sock"),
        Path::new("sub/own.sock"),
        Path::new("own.sock/"),
        Path::new("."),
        Path::new(".."),
        Path::new("/"),
    ] {
        let _ = std::fs::remove_file(scene.path("lsnr.sock"));
        scene.listener_is_link_to(target);
        scene.refused(OUTSIDE);
    }
}

#[tokio::test]
async fn two_hops() {
    let scene = Scene::new();
    for second in ["../other/own.sock", "own.sock", "lsnr.sock"] {
        let _ = std::fs::remove_file(scene.path("hop"));
        let _ = std::fs::remove_file(scene.path("lsnr.sock"));
        symlink(second, scene.path("hop")).expect("a symlink");
        scene.listener_is_link_to("hop");
        scene.refused(NOT_A_SOCKET);
    }
}

#[tokio::test]
async fn a_link_through_another_functions_directory() {
    let scene = Scene::new();
    symlink("../other", scene.path("sub")).expect("a symlink");
    scene.listener_is_link_to("sub/own.sock");
    scene.refused(OUTSIDE);
}

#[tokio::test]
async fn what_is_not_a_socket() {
    for linked in [false, true] {
        for kind in 0..3 {
            let scene = Scene::new();
            let name = if linked { "target" } else { "lsnr.sock" };
            let path = scene.path(name);
            match kind {
                0 => std::fs::write(&path, "plain").expect("a file"),
                1 => std::fs::create_dir(&path).expect("a directory"),
                // Opening one end of a FIFO would wait for the other.
                _ => {
                    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO")
                }
            }
            if linked {
                scene.listener_is_link_to(name);
            }
            scene.refused(NOT_A_SOCKET);
        }
    }
}

#[tokio::test]
async fn a_hard_link_to_another_functions_socket() {
    let scene = Scene::new();
    let other = scene.base.path().join("other/own.sock");
    std::fs::hard_link(&other, scene.path("lsnr.sock")).expect("a hard link");
    scene.refused("listener socket has more than one hard link");

    std::fs::rename(scene.path("lsnr.sock"), scene.path("linked")).expect("renamed");
    scene.listener_is_link_to("linked");
    scene.refused("listener socket has more than one hard link");
}

#[tokio::test]
async fn a_socket_that_is_swapped_after_the_check() {
    let scene = Scene::new();
    scene.listener_is_link_to("own.sock");
    let socket = scene.open().expect("an honest socket");
    // The name, the link's target, and even the directory lead elsewhere now.
    std::fs::remove_file(scene.path("lsnr.sock")).expect("removed");
    std::fs::rename(scene.path("own.sock"), scene.path("aside")).expect("renamed");
    symlink("../other/own.sock", scene.path("own.sock")).expect("a symlink");
    symlink("../other/own.sock", scene.path("lsnr.sock")).expect("a symlink");
    soon(socket.connect()).await.expect("the checked socket");
    scene.own.accept().expect("the connection is to its own");
    scene.other.accept().expect_err("nobody connected to it");
}

#[tokio::test]
async fn a_socket_that_is_swapped_ten_thousand_times() {
    let scene = Scene::new();
    symlink("own.sock", scene.path("good")).expect("a symlink");
    symlink("../other/own.sock", scene.path("evil")).expect("a symlink");
    scene.listener_is_link_to("own.sock");
    let dir = directory(&scene.base.path().join("mine"));
    let stop = AtomicBool::new(false);
    /// Stops the swaps when the checks are over, or have failed.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (mut connected, mut refused) = (0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            use rustix::fs::{RenameFlags, renameat_with};
            // Each exchange is one step, so that there is always some `lsnr.sock` and `own.sock`.
            let swap = |one: &str, two: &str| {
                renameat_with(&dir, one, &dir, two, RenameFlags::EXCHANGE).expect("exchanged");
            };
            while !stop.load(Ordering::Relaxed) {
                swap("lsnr.sock", "evil");
                swap("own.sock", "evil");
                swap("own.sock", "evil");
                swap("lsnr.sock", "evil");
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..10_000 {
            match Socket::open(dir.as_fd()) {
                Ok(socket) => {
                    let path = format!(
                        "/proc/self/fd/{}",
                        std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd())
                    );
                    let address = SocketAddr::from_pathname(path).expect("an address");
                    std::os::unix::net::UnixStream::connect_addr(&address).expect("it listens");
                    scene.own.accept().expect("the connection is to its own");
                    connected += 1;
                }
                Err(_) => refused += 1,
            }
            assert!(scene.other.accept().is_err(), "nobody connected to it");
        }
    });
    assert_eq!(connected + refused, 10_000);
    assert!(refused > 0, "the swaps were seen");
}
