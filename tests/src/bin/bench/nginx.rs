//! The limit: nginx with one worker and kept connections to the function's socket.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use hearth_tests::eventually;
use tempfile::TempDir;

/// Where Debian has it, when it is not on the path.
pub(crate) fn program() -> &'static str {
    let path = "/usr/sbin/nginx";
    if std::fs::exists(path).unwrap_or(false) {
        path
    } else {
        "nginx"
    }
}

/// A running nginx.
pub(crate) struct Nginx {
    process: Child,
    address: String,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx before functions that listen on these sockets.
    pub(crate) async fn start(sockets: &[PathBuf]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        // nginx cannot choose a free port itself.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let servers: String = sockets
            .iter()
            .map(|socket| format!("server unix:{};\n", socket.display()))
            .collect();
        // Without a master process this process is the one worker. No connection ends before the
        // measurement does.
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log;
             events {{ worker_connections 1024; }}
             http {{
               access_log off;
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;
               keepalive_requests 100000000;
               upstream function {{
                 {servers}
                 keepalive 128; keepalive_requests 100000000;
               }}
               server {{
                 listen {address};
                 location / {{
                   proxy_pass http://function/call;
                   proxy_http_version 1.1;
                   proxy_set_header Connection \"\";
                 }}
               }}
             }}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let process = Command::new(program())
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nginx cannot be started")?;
        let mut nginx = Self {
            process,
            address,
            _directory: directory,
        };
        eventually("nginx listens", async || {
            let ended = nginx.process.try_wait().ok().flatten();
            assert!(ended.is_none(), "nginx ended: {ended:?}");
            tokio::net::TcpStream::connect(&nginx.address).await.ok()
        })
        .await;
        Ok(nginx)
    }

    /// Where to call the function.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
