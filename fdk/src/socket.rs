//! The socket that the platform connects to (spec/03 3.1, readiness protocol).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::error::Error;

/// How long to wait when the process has no descriptor left for a connection; the peer stays in the
/// socket's backlog meanwhile.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// A listening socket; its names are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    names: [PathBuf; 2],
}

impl Listener {
    /// Binds another name in the directory of `path`, lets everybody connect to it, and only then
    /// makes `path` a relative link to it: who sees the link finds a socket that is ready.
    ///
    /// A socket or link that an earlier run left under these names is replaced; any other file is
    /// an error.
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Listen { path, source }
        };
        let mut name = std::ffi::OsString::from("phony");
        name.push(path.file_name().unwrap_or_default());
        let bound = path.with_file_name(&name);
        for stale in [path, &bound] {
            remove_stale(stale).map_err(failed(stale))?;
        }
        let listener = UnixListener::bind(&bound).map_err(failed(&bound))?;
        let this = Self {
            listener,
            names: [path.to_owned(), bound],
        };
        let bound = &this.names[1];
        fs::set_permissions(bound, Permissions::from_mode(0o666)).map_err(failed(bound))?;
        symlink(&name, path).map_err(failed(path))?;
        Ok(this)
    }

    /// The next connection. Dropping the future loses none.
    pub(crate) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for name in &self.names {
            // The directory may be gone already: then so are the names.
            let _ = remove_stale(name);
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() || found.file_type().is_symlink() => {
            fs::remove_file(path)
        }
        Ok(_) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_name_is_one_relative_link_to_a_socket_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lsnr.sock");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("phonylsnr.sock"));
        let socket = fs::symlink_metadata(directory.path().join("phonylsnr.sock")).unwrap();
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.permissions().mode() & 0o777, 0o666);

        let client = UnixStream::connect(&path).await.unwrap();
        listener.accept().await;
        drop((client, listener));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lsnr.sock");
        std::mem::forget(Listener::bind(&path).unwrap());
        let listener = Listener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).await.unwrap();
        listener.accept().await;
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lsnr.sock");
        fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {}", path.display())),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
