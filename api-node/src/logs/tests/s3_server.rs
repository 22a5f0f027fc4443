//! A server that speaks the protocol of S3, in this process: it keeps its buckets in a directory, and
//! checks signatures.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// It has letters that mean something in URLs.
pub(super) const SECRET: &str = "hunter2/+@";
const KEY: &str = "the-key";

pub(super) struct S3Server {
    pub(super) directory: TempDir,
    address: SocketAddr,
    service: S3Service,
    connections: TaskTracker,
    stop: CancellationToken,
}

/// Lets nobody put an object where there is no bucket, as S3 does, and the server by itself does not.
struct Buckets(PathBuf);

#[async_trait]
impl S3Access for Buckets {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        match context.s3_path() {
            S3Path::Object { bucket, .. } if !self.0.join(&**bucket).is_dir() => {
                Err(s3_error!(NoSuchBucket))
            }
            _ => Ok(()),
        }
    }
}

impl S3Server {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = FileSystem::new(directory.path()).expect("buckets in it");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_access(Buckets(directory.path().to_owned()));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port on loopback");
        let mut server = Self {
            directory,
            address: listener.local_addr().expect("its address"),
            service: builder.build(),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        server.serve(listener);
        server
    }

    pub(super) fn url(&self, bucket: &str) -> String {
        self.url_with("us-east-1", bucket, "hunter2%2F%2B%40")
    }

    pub(super) fn url_with(&self, region: &str, bucket: &str, secret: &str) -> String {
        let address = self.address;
        format!("s3://{KEY}:{secret}@{address}/{region}/{bucket}?ssl=false")
    }

    /// Breaks all connections, and accepts no more.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
    }

    /// Serves again, at the same address.
    pub(super) async fn resume(&mut self) {
        self.stop = CancellationToken::new();
        let listener = TcpListener::bind(self.address).await;
        self.serve(listener.expect("the same port"));
    }

    fn serve(&mut self, listener: TcpListener) {
        self.connections = TaskTracker::new();
        let (connections, stop) = (self.connections.clone(), self.stop.clone());
        let service = self.service.clone();
        self.connections.spawn(async move {
            while let Some(Ok((socket, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let connection = server.serve_connection(TokioIo::new(socket), service);
                    // How a connection ends is for the client to find out.
                    let _ = stop.run_until_cancelled(connection).await;
                });
            }
        });
    }
}
