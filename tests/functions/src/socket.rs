//! What the platform finds where it waits for a socket: an honest one, or something else.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::environment::Environment;

/// Kinds of sockets, by their names in `SOCKET_ATTACK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Honest: a relative link to a socket in the same directory.
    Link,
    /// Honest: a socket, bound elsewhere in the directory and renamed.
    Rename,
    /// A socket, bound by its final name.
    Direct,
    /// Nothing.
    Nothing,
    /// An absolute link to a socket.
    Absolute,
    /// A link to a socket by way of `..`.
    DotDot,
    /// A link to a link to a socket.
    TwoHops,
    /// A second name of a socket.
    HardLink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A file.
    File,
    /// A link to a directory.
    LinkDirectory,
    /// A link to a named pipe.
    LinkFifo,
    /// A link to a file.
    LinkFile,
    /// A link to nothing.
    Dangling,
    /// A link to `SOCKET_ATTACK_TARGET`.
    Elsewhere,
    /// An honest link that is swapped for a false one and back, without end.
    Swap,
}

const NAMES: [(&str, Kind); 17] = [
    ("link", Kind::Link),
    ("rename", Kind::Rename),
    ("direct", Kind::Direct),
    ("nothing", Kind::Nothing),
    ("absolute", Kind::Absolute),
    ("dotdot", Kind::DotDot),
    ("twohops", Kind::TwoHops),
    ("hardlink", Kind::HardLink),
    ("directory", Kind::Directory),
    ("fifo", Kind::Fifo),
    ("file", Kind::File),
    ("link-directory", Kind::LinkDirectory),
    ("link-fifo", Kind::LinkFifo),
    ("link-file", Kind::LinkFile),
    ("dangling", Kind::Dangling),
    ("elsewhere", Kind::Elsewhere),
    ("swap", Kind::Swap),
];

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("there is no SOCKET_ATTACK {name}"))
    }
}

/// The pause between two swaps.
const SWAP_PAUSE: Duration = Duration::from_micros(50);

/// Makes what the environment asks for, and answers with the honest listener: behind an attack it
/// is one that nobody can reach. Who gets through to the false one reads `EVIL`.
pub(crate) fn listen(environment: &Environment) -> io::Result<UnixListener> {
    let path = environment.listener.as_path();
    let beside = |name: &str| path.with_file_name(name);
    if environment.socket == Kind::Direct {
        return bind(path);
    }
    let honest = bind(&beside("honest"))?;
    match environment.socket {
        Kind::Direct | Kind::Nothing => {}
        Kind::Link => symlink("honest", path)?,
        Kind::Rename => fs::rename(beside("honest"), path)?,
        Kind::Absolute => symlink(evil(&beside("evil"))?, path)?,
        Kind::DotDot => {
            evil(&beside("evil"))?;
            let directory = path.parent().and_then(Path::file_name).unwrap_or_default();
            symlink(Path::new("..").join(directory).join("evil"), path)?;
        }
        Kind::TwoHops => {
            evil(&beside("evil"))?;
            symlink("evil", beside("hop"))?;
            symlink("hop", path)?;
        }
        Kind::HardLink => fs::hard_link(evil(&beside("evil"))?, path)?,
        Kind::Directory => fs::create_dir(path)?,
        Kind::Fifo => fifo(path)?,
        Kind::File => fs::write(path, "EVIL")?,
        Kind::LinkDirectory => {
            fs::create_dir(beside("evil"))?;
            symlink("evil", path)?;
        }
        Kind::LinkFifo => {
            fifo(&beside("evil"))?;
            symlink("evil", path)?;
        }
        Kind::LinkFile => {
            fs::write(beside("evil"), "EVIL")?;
            symlink("evil", path)?;
        }
        Kind::Dangling => symlink("nobody", path)?,
        Kind::Elsewhere => symlink(target(environment)?, path)?,
        Kind::Swap => {
            evil(&beside("evil"))?;
            symlink("evil", beside("hop"))?;
            let target = environment
                .target
                .clone()
                .unwrap_or_else(|| PathBuf::from("hop"));
            symlink("honest", path)?;
            let (path, next) = (path.to_owned(), beside("next"));
            std::thread::spawn(move || swap(&path, &next, &target));
        }
    }
    Ok(honest)
}

fn target(environment: &Environment) -> io::Result<&Path> {
    let missing = || io::Error::other("SOCKET_ATTACK_TARGET is not set");
    environment.target.as_deref().ok_or_else(missing)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn fifo(path: &Path) -> io::Result<()> {
    Ok(mknodat(
        CWD,
        path,
        FileType::Fifo,
        Mode::from_raw_mode(0o666),
        0,
    )?)
}

/// A socket that must never be connected to.
fn evil(path: &Path) -> io::Result<&Path> {
    let listener = bind(path)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            eprintln!("EVIL: somebody connected");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL");
        }
    });
    Ok(path)
}

/// Lets the name lead to `target` and back to the honest socket, by renaming over it.
fn swap(path: &Path, next: &Path, target: &Path) {
    for to in [target, Path::new("honest")].into_iter().cycle() {
        let swapped = symlink(to, next).and_then(|()| fs::rename(next, path));
        if swapped.is_err() {
            // The directory is gone, and with it what there was to swap.
            return;
        }
        std::thread::sleep(SWAP_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn make(name: &str, directory: &Path) -> PathBuf {
        let path = directory.join("lsnr.sock");
        let vars = [
            ("FN_LISTENER", format!("unix:{}", path.display())),
            ("SOCKET_ATTACK", name.to_owned()),
            ("SOCKET_ATTACK_TARGET", "../other/lsnr.sock".to_owned()),
        ];
        let vars = vars
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter();
        std::mem::forget(listen(&Environment::from_vars(vars).unwrap()).unwrap());
        path
    }

    fn link_of(name: &str) -> PathBuf {
        let directory = tempfile::tempdir().unwrap();
        fs::read_link(make(name, directory.path())).unwrap()
    }

    fn kind_of(name: &str) -> fs::FileType {
        let directory = tempfile::tempdir().unwrap();
        fs::symlink_metadata(make(name, directory.path()))
            .unwrap()
            .file_type()
    }

    #[test]
    fn links_lead_where_they_should() {
        assert_eq!(link_of("link"), Path::new("honest"));
        assert!(link_of("absolute").is_absolute());
        assert!(link_of("dotdot").starts_with(".."));
        assert_eq!(link_of("twohops"), Path::new("hop"));
        assert_eq!(link_of("dangling"), Path::new("nobody"));
        assert_eq!(link_of("elsewhere"), Path::new("../other/lsnr.sock"));
        for name in ["link-directory", "link-fifo", "link-file"] {
            assert_eq!(link_of(name), Path::new("evil"));
        }
    }

    #[test]
    fn other_things_are_what_they_should_be() {
        for name in ["direct", "rename", "hardlink"] {
            assert!(kind_of(name).is_socket(), "{name}");
        }
        assert!(kind_of("directory").is_dir());
        assert!(kind_of("fifo").is_fifo());
        assert!(kind_of("file").is_file());
    }

    #[test]
    fn who_follows_the_false_ones_reads_evil() {
        for name in ["absolute", "dotdot", "twohops", "hardlink"] {
            let directory = tempfile::tempdir().unwrap();
            let mut stream = UnixStream::connect(make(name, directory.path())).unwrap();
            stream.write_all(b"POST /call HTTP/1.1\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("EVIL"), "{name}");
        }
    }

    #[test]
    fn a_swapped_name_leads_to_both() {
        let directory = tempfile::tempdir().unwrap();
        let path = make("swap", directory.path());
        for wanted in ["../other/lsnr.sock", "honest", "../other/lsnr.sock"] {
            while fs::read_link(&path).unwrap() != Path::new(wanted) {
                std::thread::yield_now();
            }
        }
    }
}
