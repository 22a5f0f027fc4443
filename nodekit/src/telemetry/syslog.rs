//! Log lines to a syslog server (RFC 5424), by UDP or by TCP with a line feed after each message
//! (RFC 6587 3.4.2). A log must not stop the node: what the server does not take is dropped.

use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime as _;

/// The port of a server whose address has none.
const PORT: u16 = 514;

/// Lines that wait for a slow TCP server; further ones are dropped.
const QUEUE: usize = 1024;

/// How long a TCP server may take to accept a connection or a line.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a TCP server that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The severities of RFC 5424 that are used.
#[derive(Debug, Clone, Copy)]
pub(super) enum Severity {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// A syslog server.
#[derive(Debug)]
pub(super) struct Syslog {
    host: String,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Udp(UdpSocket),
    Tcp(SyncSender<Vec<u8>>),
}

impl Syslog {
    /// A server behind UDP at `host[:port]`.
    pub(super) fn udp(address: &str) -> Result<Self, String> {
        let target = resolve(address)?;
        let local = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(local).map_err(|error| error.to_string())?;
        socket.connect(target).map_err(|error| error.to_string())?;
        socket
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        Ok(Self::new(Transport::Udp(socket)))
    }

    /// A server behind TCP at `host[:port]`, which need not be there yet. Its thread ends with the
    /// log.
    pub(super) fn tcp(address: &str) -> Result<Self, String> {
        resolve(address)?;
        let (lines, queue) = sync_channel(QUEUE);
        let address = address.to_owned();
        std::thread::Builder::new()
            .name("syslog".to_owned())
            .spawn(move || forward(&address, &queue))
            .map_err(|error| error.to_string())?;
        Ok(Self::new(Transport::Tcp(lines)))
    }

    fn new(transport: Transport) -> Self {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self { host, transport }
    }

    /// Sends a line, or drops it.
    pub(super) fn send(&self, severity: Severity, line: &[u8]) {
        const FACILITY_USER: u8 = 1;
        let mut time = String::new();
        // Writing to a string cannot fail.
        let _ = fmt_time(&mut time);
        let mut message = format!(
            "<{}>1 {time} {} hearth {} - - ",
            FACILITY_USER * 8 + severity as u8,
            self.host,
            std::process::id(),
        )
        .into_bytes();
        message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        match &self.transport {
            Transport::Udp(socket) => drop(socket.send(&message)),
            Transport::Tcp(lines) => {
                message.push(b'\n');
                drop(lines.try_send(message));
            }
        }
    }
}

fn fmt_time(text: &mut String) -> std::fmt::Result {
    tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(text))
}

fn resolve(address: &str) -> Result<std::net::SocketAddr, String> {
    if address.is_empty() || address.contains('/') {
        return Err("a syslog server is named by host[:port] alone".to_owned());
    }
    address
        .to_socket_addrs()
        .or_else(|_| (address, PORT).to_socket_addrs())
        .map_err(|error| error.to_string())?
        .next()
        .ok_or_else(|| "the host has no address".to_owned())
}

/// Sends the queued lines over a connection that is made again whenever it breaks.
fn forward(address: &str, queue: &Receiver<Vec<u8>>) {
    let mut connection: Option<TcpStream> = None;
    let mut not_before = Instant::now();
    while let Ok(line) = queue.recv() {
        if connection.is_none() && Instant::now() >= not_before {
            connection = connect(address);
            not_before = Instant::now() + PAUSE;
        }
        if let Some(stream) = &mut connection
            && stream.write_all(&line).is_err()
        {
            connection = None;
        }
    }
}

fn connect(address: &str) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&resolve(address).ok()?, PATIENCE).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;

    fn check(message: &str) {
        let fields: Vec<&str> = message.trim_end().splitn(8, ' ').collect();
        assert_eq!(fields[0], "<12>1", "{message}");
        assert!(fields[1].ends_with('Z'), "{message}");
        assert_eq!(fields[3], "hearth", "{message}");
        assert_eq!(fields[7], "careful", "{message}");
    }

    #[test]
    fn a_datagram_is_one_message() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        server
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time-out");
        let address = server.local_addr().expect("an address").to_string();
        Syslog::udp(&address)
            .expect("a client")
            .send(Severity::Warning, b"careful\n");
        let mut buffer = [0; 1024];
        let length = server.recv(&mut buffer).expect("a message");
        check(std::str::from_utf8(&buffer[..length]).expect("UTF-8"));
    }

    #[test]
    fn a_stream_carries_one_message_a_line() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = server.local_addr().expect("an address").to_string();
        let syslog = Syslog::tcp(&address).expect("a client");
        syslog.send(Severity::Warning, b"careful\n");
        syslog.send(Severity::Warning, b"careful\n");
        let (stream, _) = server.accept().expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time-out");
        for line in BufReader::new(stream).lines().take(2) {
            check(&line.expect("a line"));
        }
    }
}
