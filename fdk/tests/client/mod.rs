//! The platform's side of the contract: a function on a thread, and a client that writes bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use hearth_fdk::{Body, Context, Error, Response, Settings};
use tokio::sync::oneshot;

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A running function, with its own thread and socket.
pub(crate) struct Function {
    directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Function {
    /// Starts the handler that `make` makes, and waits until it listens.
    pub(crate) fn start<H, R, E>(make: impl FnOnce() -> H + Send + 'static) -> Self
    where
        H: AsyncFn(Context, Body) -> Result<R, E>,
        R: Into<Response>,
        E: std::fmt::Display,
    {
        let directory = tempfile::tempdir().unwrap();
        let listener = format!("unix:{}", directory.path().join("lsnr.sock").display());
        let vars = [
            ("FN_FORMAT", "http-stream".to_owned()),
            ("FN_LISTENER", listener),
        ];
        let settings = Settings::from_vars(vars.map(|(name, value)| (name.to_owned(), value)));
        let settings = settings.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                // Asked about its end for the first time once it listens.
                let stop = async {
                    let _ = ready.send(());
                    let _ = stopped.await;
                };
                hearth_fdk::serve_until(settings, make(), stop).await
            })
        });
        is_ready.recv_timeout(LIMIT).unwrap();
        Self {
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("lsnr.sock")
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(&self.path())
    }

    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    pub(crate) fn join(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// A request with a body of known length.
pub(crate) fn request(headers: impl AsRef<[u8]>, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    let head = b"POST /call HTTP/1.1\r\nHost: localhost\r\n";
    [head, headers.as_ref(), length.as_bytes(), body].concat()
}

/// The headers of a call through an HTTP trigger.
pub(crate) fn trigger(method: &str, more: &str) -> String {
    format!(
        "Fn-Intent: httprequest\r\nFn-Http-Method: {method}\r\nFn-Http-Request-Url: http://h/t/a/s?q=1\r\n{more}"
    )
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice())
    }
}

/// A connection to a function.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a call and reads its answer. The body is sent by another thread, because the answer
    /// may begin before all of it is.
    pub(crate) fn call(&mut self, headers: &str, body: &[u8]) -> Answer {
        let mut writer = self.0.get_ref().try_clone().unwrap();
        let bytes = request(headers, body);
        let sending = std::thread::spawn(move || writer.write_all(&bytes));
        let answer = self.answer();
        sending.join().unwrap().unwrap();
        answer
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        let end = line.strip_suffix(b"\r\n").expect("a whole line").len();
        line.truncate(end);
        line
    }

    /// Reads status and headers.
    pub(crate) fn head(&mut self) -> Answer {
        let line = String::from_utf8(self.line()).unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").expect("an answer")[..3]
            .parse()
            .unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let colon = line
                .iter()
                .position(|&byte| byte == b':')
                .expect("a header");
            let name = String::from_utf8(line[..colon].to_ascii_lowercase()).unwrap();
            headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
        Answer {
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// Reads one chunk; the last one is empty.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let size = String::from_utf8(self.line()).unwrap();
        let mut chunk = vec![0; usize::from_str_radix(&size, 16).unwrap()];
        self.0.read_exact(&mut chunk).unwrap();
        assert_eq!(self.line(), b"");
        chunk
    }

    /// Reads a whole answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.header("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    break;
                }
                answer.body.extend(chunk);
            }
        } else {
            let length = answer.header("content-length").expect("a framed answer");
            let length = str::from_utf8(length).unwrap().parse().unwrap();
            answer.body.resize(length, 0);
            self.0.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// Everything until the connection is closed.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A peer that closes with input unread resets the connection; what came before counts.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }

    /// Waits for the connection to be closed, with nothing more on it.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.rest().is_empty()
    }
}
