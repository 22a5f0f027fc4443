//! A client that does not wait for its server: it sends calls at a fixed rate, whatever becomes of the
//! earlier ones, and counts each from the moment at which it was to be sent. Or, to find out what a
//! server can do at best, a number of clients that each call as soon as they have their answer.
//!
//! It runs as a process of its own with one thread, and prints what it counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::plan::{BODY, Generator};
use crate::statistics::percentile;

/// Before this time nothing is counted: connections are opened, queues form.
const WARM_UP: Duration = Duration::from_secs(1);

/// Connections that may be open; without one a call fails here.
const MOST_CONNECTIONS: usize = 4000;

/// Calls that are begun in a row when the generator is late, before it reads answers again.
const IN_A_ROW: u64 = 16;

/// What was counted. Latencies are in milliseconds, from the intended time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Calls that were to be sent, per second.
    pub(crate) offered_per_second: f64,
    /// Calls that came back well and in time, per second.
    pub(crate) good_per_second: f64,
    /// Calls that were turned away, per second.
    pub(crate) refused_per_second: f64,
    /// Calls without an answer in time.
    pub(crate) timed_out: u64,
    /// Calls with any other end.
    pub(crate) failed: u64,
    pub(crate) good_p50: Option<f64>,
    pub(crate) good_p99: Option<f64>,
    pub(crate) refused_p50: Option<f64>,
    pub(crate) refused_p99: Option<f64>,
    /// How late calls were begun: large where the generator itself does not keep up.
    pub(crate) late_p99: Option<f64>,
    /// How much of one processor the generator used.
    pub(crate) cpu: f64,
}

/// How a call ended.
enum Ending {
    Good,
    Refused,
    TimedOut,
    Failed,
}

/// Calls of the time that counts.
#[derive(Default)]
struct Tally {
    offered: u64,
    good: Vec<f64>,
    refused: Vec<f64>,
    late: Vec<f64>,
    timed_out: u64,
    failed: u64,
}

struct Client {
    address: String,
    path: String,
    timeout: Duration,
    began: Instant,
    seconds: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    connections: tokio::sync::Semaphore,
    tally: Mutex<Tally>,
}

impl Client {
    /// One call, which was to be sent at `intended`.
    async fn call(&self, intended: Instant) {
        let late = intended.elapsed();
        let deadline = intended + self.timeout;
        let ending = match tokio::time::timeout_at(deadline.into(), self.exchange()).await {
            Err(_elapsed) => Ending::TimedOut,
            Ok(Err(_)) => Ending::Failed,
            Ok(Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)) => {
                Ending::Refused
            }
            Ok(Ok(status)) if status.is_success() => Ending::Good,
            Ok(Ok(_)) => Ending::Failed,
        };
        let took = millis(intended.elapsed());
        let since = intended.saturating_duration_since(self.began);
        if since < WARM_UP || since >= WARM_UP + self.seconds {
            return;
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.offered += 1;
        tally.late.push(millis(late));
        match ending {
            Ending::Good => tally.good.push(took),
            Ending::Refused => tally.refused.push(took),
            Ending::TimedOut => tally.timed_out += 1,
            Ending::Failed => tally.failed += 1,
        }
    }

    /// Sends a call and reads its answer. A connection whose call is given up is closed, as a client
    /// that has no patience left does.
    async fn exchange(&self) -> anyhow::Result<StatusCode> {
        let _connection = self
            .connections
            .try_acquire()
            .context("no connection is left")?;
        let request = Request::post(&self.path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "text/plain")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
        let mut sender = self.connected().await?;
        let (head, mut body) = sender.send_request(request).await?.into_parts();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        self.idle().push(sender);
        Ok(head.status)
    }

    /// An open connection; a new one if none is idle.
    async fn connected(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        loop {
            let Some(mut sender) = self.idle().pop() else {
                break;
            };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // A broken connection shows in the call.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Instant {
        self.began + WARM_UP + self.seconds
    }

    fn counted(&self, cpu: f64) -> Counted {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = self.seconds.as_secs_f64();
        let at = |values: &[f64], percent| {
            let value = percentile(values, percent);
            value.is_finite().then_some(value)
        };
        Counted {
            offered_per_second: tally.offered as f64 / seconds,
            good_per_second: tally.good.len() as f64 / seconds,
            refused_per_second: tally.refused.len() as f64 / seconds,
            timed_out: tally.timed_out,
            failed: tally.failed,
            good_p50: at(&tally.good, 50.0),
            good_p99: at(&tally.good, 99.0),
            refused_p50: at(&tally.refused, 50.0),
            refused_p99: at(&tally.refused, 99.0),
            late_p99: at(&tally.late, 99.0),
            cpu,
        }
    }
}

/// Sends what it is told to, and prints what came of it.
pub(crate) async fn run(told: &Generator) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&load(told).await?)?);
    Ok(())
}

async fn load(told: &Generator) -> anyhow::Result<Counted> {
    let rest = told.url.strip_prefix("http://").context("an http URL")?;
    let (address, path) = rest.split_once('/').context("a URL with a path")?;
    let client = Arc::new(Client {
        address: address.to_owned(),
        path: format!("/{path}"),
        timeout: Duration::from_millis(told.timeout_millis),
        began: Instant::now(),
        seconds: Duration::from_secs(told.seconds),
        idle: Mutex::default(),
        connections: tokio::sync::Semaphore::new(MOST_CONNECTIONS),
        tally: Mutex::default(),
    });
    let cpu = cpu_time()?;
    let mut tasks = JoinSet::new();
    match told.rate {
        Some(rate) => at_rate(&client, rate, &mut tasks).await,
        None => {
            for _ in 0..told.clients {
                let client = Arc::clone(&client);
                tasks.spawn(async move {
                    while Instant::now() < client.end() {
                        client.call(Instant::now()).await;
                    }
                });
            }
        }
    }
    while tasks.join_next().await.is_some() {}
    let cpu = (cpu_time()? - cpu).as_secs_f64() / client.began.elapsed().as_secs_f64();
    Ok(client.counted(cpu))
}

/// Begins calls at their times. The timer wakes once a millisecond at most: what is due by then is
/// begun together.
async fn at_rate(client: &Arc<Client>, rate: f64, tasks: &mut JoinSet<()>) {
    for number in 0_u64.. {
        let intended = client.began + Duration::from_secs_f64(number as f64 / rate);
        if intended >= client.end() {
            return;
        }
        if intended > Instant::now() {
            tokio::time::sleep_until(intended.into()).await;
        } else if number % IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
        let client = Arc::clone(client);
        tasks.spawn(async move { client.call(intended).await });
        while tasks.try_join_next().is_some() {}
    }
}

fn cpu_time() -> anyhow::Result<Duration> {
    // Nanoseconds on a processor, of the one thread that works.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split_whitespace()
        .next()
        .context("a number")?
        .parse()?;
    Ok(Duration::from_nanos(nanos))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every other call of a connection with 503.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    for number in 0_u64.. {
                        if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                            return;
                        }
                        let status = if number % 2 == 0 {
                            "200 OK"
                        } else {
                            "503 Busy"
                        };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        format!("http://{address}/x")
    }

    fn told(url: String, rate: Option<f64>) -> Generator {
        Generator {
            url,
            rate,
            clients: 1,
            seconds: 1,
            timeout_millis: 10_000,
        }
    }

    #[tokio::test]
    async fn a_rate_is_what_is_offered_and_refusals_are_no_failures() {
        let counted = load(&told(server().await, Some(200.0)))
            .await
            .expect("a count");
        assert_eq!(counted.offered_per_second, 200.0);
        let ended = counted.good_per_second + counted.refused_per_second;
        assert_eq!((ended, counted.failed, counted.timed_out), (200.0, 0, 0));
        assert!(counted.refused_per_second > 0.0);
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_failure_of_every_call() {
        let counted = load(&told("http://127.0.0.1:1/x".to_owned(), Some(50.0))).await;
        let counted = counted.expect("a count");
        assert_eq!((counted.failed, counted.good_per_second), (50, 0.0));
    }

    #[tokio::test]
    async fn a_client_calls_again_when_it_has_its_answer() {
        let counted = load(&told(server().await, None)).await.expect("a count");
        assert!(counted.good_per_second > 0.0);
        assert_eq!(counted.failed, 0);
    }
}
