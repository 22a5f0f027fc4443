//! The binaries under test, built from the sources that are there now.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is one level down")
}

/// The server's binary, of the same profile as the tests; built when it is not up to date.
///
/// # Panics
/// When it cannot be built.
pub fn hearth() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let release = !cfg!(debug_assertions);
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(repository()).args(["build", "--quiet", "--locked", "--bin", "hearth"]);
        if release {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "hearth cannot be built");
        let test = std::env::current_exe().expect("a running program has a path");
        // target/PROFILE/deps/test
        let profile = test.ancestors().nth(2).expect("tests are below the profile's directory");
        profile.join("hearth")
    })
}

/// The static binary of an example or of the test function; built when it is not up to date.
///
/// # Panics
/// When it cannot be built.
pub fn function(name: &str) -> PathBuf {
    let built = Command::new(repository().join("examples/build"))
        .arg(name)
        .output()
        .expect("examples/build runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())
}
