//! The binaries under test, built from the sources that are there now.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is one level down")
}

/// Held while the server is built: two builds of it write to the same place.
static BUILDING: Mutex<()> = Mutex::new(());

/// The server's binary, of the same profile as the tests; built when it is not up to date.
///
/// # Panics
/// When it cannot be built.
pub fn hearth() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        build_hearth(&[])
    })
}

/// The server that can be told to die at named steps, and to have a known bug: a copy of its own.
///
/// # Panics
/// When it cannot be built.
pub fn breakable_hearth() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let built = build_hearth(&["--features", "chaos,planted-bugs"]);
        let copy = profile().join("hearth-breakable");
        // Never half a file, whoever runs it already.
        let fresh = profile().join("hearth-breakable.new");
        std::fs::copy(built, &fresh).expect("a copy of the binary");
        std::fs::rename(&fresh, &copy).expect("a file moves");
        // The usual one is back in its place.
        build_hearth(&[]);
        copy
    })
}

fn build_hearth(arguments: &[&str]) -> PathBuf {
    let release = !cfg!(debug_assertions);
    let mut cargo = build_command(env!("CARGO"));
    cargo
        .current_dir(repository())
        .args(["build", "--quiet", "--locked", "--bin", "hearth"])
        .args(arguments);
    if release {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().expect("cargo runs").success(),
        "hearth cannot be built"
    );
    profile().join("hearth")
}

/// The directory of the binaries of this program's profile, such as `target/debug`.
///
/// # Panics
/// When this program is not where cargo puts programs.
pub fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let directory = program.parent().expect("a program is in a directory");
    // Tests are in target/PROFILE/deps, other programs in target/PROFILE.
    let tests = directory.file_name().is_some_and(|name| name == "deps");
    if tests {
        directory
            .parent()
            .expect("deps is in a directory")
            .to_owned()
    } else {
        directory.to_owned()
    }
}

/// The static binary of an example or of the test function; built when it is not up to date.
///
/// # Panics
/// When it cannot be built.
pub fn function(name: &str) -> PathBuf {
    let built = build_command(repository().join("examples/build"))
        .arg(name)
        .output()
        .expect("examples/build runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())
}

/// A command that builds. It is not told which crate's tests it is started from: some build scripts
/// look at that, and whatever they have built would be built again on each such change.
fn build_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let of_this_crate = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if of_this_crate.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
}
