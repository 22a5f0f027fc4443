//! What containers of the engine print, call by call.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::bench::DockerBench;
use crate::call_log::{CallLogs, ContainerLog, LogMetrics, Settings};
use crate::driver::contract::{Bench as _, directory, eventually};
use crate::driver::{Container, Driver as _};
use crate::work::tests::lease;
use nodekit::metrics::Metrics;

/// A hot function: for each line that it gets it does what the line says, and answers.
const HOT: &str = r#"
mkfifo /tmp/iofs/in /tmp/iofs/out; chmod 666 /tmp/iofs/in /tmp/iofs/out; touch /tmp/iofs/ready
exec 3<>/tmp/iofs/in 4<>/tmp/iofs/out
while read -r line <&3; do eval "$line"; echo answer >&4; done"#;

/// A hot container and its log.
struct Hot {
    logs: CallLogs,
    log: Arc<ContainerLog>,
    container: Box<dyn Container>,
    directory: PathBuf,
}

impl Hot {
    async fn start(bench: &DockerBench, max_bytes: u64) -> Self {
        let settings = Settings {
            max_bytes,
            sync_calls: true,
        };
        let logs = CallLogs::new(settings, LogMetrics::new(&mut Metrics::new()));
        let log = logs.container();
        let mut spec = bench.script(HOT);
        let directory = directory(&spec);
        spec.output = Some(log.clone());
        let container = bench.driver.create(spec).await.expect("created");
        container.start().await.expect("started");
        eventually("it listens", async || directory.join("ready").exists()).await;
        Self {
            logs,
            log,
            container,
            directory,
        }
    }

    /// A whole call: it is over when the function has answered.
    async fn call(&self, id: &str, what: &str) {
        self.log.begin(Some(lease(id, 1)));
        let (directory, what) = (self.directory.clone(), what.to_owned());
        let answered = tokio::task::spawn_blocking(move || {
            let open = |name| {
                let mut options = std::fs::OpenOptions::new();
                // Reading and writing: whoever opens a pipe like that waits for nobody.
                let pipe = options.read(true).write(true).open(directory.join(name));
                pipe.expect("a pipe")
            };
            let (mut to, from) = (open("in"), open("out"));
            writeln!(to, "{what}").expect("written");
            let mut answer = String::new();
            BufReader::new(from).read_line(&mut answer).expect("read");
            answer
        });
        assert_eq!(answered.await.expect("no panic"), "answer\n");
        self.log.end(Instant::now());
    }

    /// Adds what has come to the logs of the calls.
    fn read(&self, logs: &mut BTreeMap<String, Vec<u8>>) {
        for part in self.logs.take() {
            let log = logs.entry(part.lease.call_id.to_string()).or_default();
            assert_eq!(part.offset, log.len() as u64);
            log.extend_from_slice(&part.data);
        }
    }

    /// Waits until the log of a call ends with a text, and returns it.
    async fn ends(&self, logs: &mut BTreeMap<String, Vec<u8>>, id: &str, end: &str) -> String {
        eventually("the end of the log", async || {
            self.read(logs);
            logs.get(id)
                .is_some_and(|log| log.ends_with(end.as_bytes()))
        })
        .await;
        String::from_utf8(logs[id].clone()).expect("text")
    }
}

#[tokio::test]
async fn each_call_of_a_hot_container_has_its_own_log() {
    let bench = DockerBench::new().await;
    let hot = Hot::start(&bench, 1 << 20).await;
    let mut logs = BTreeMap::new();
    for n in 0..20 {
        let id = n.to_string();
        hot.call(&id, &format!("echo out {n}; echo err {n} >&2"))
            .await;
        // The next one begins when all of it has come.
        eventually("both lines", async || {
            hot.read(&mut logs);
            logs.get(&id).is_some_and(|log| log.len() >= 12)
        })
        .await;
    }
    for n in 0..20 {
        let log = String::from_utf8(logs[&n.to_string()].clone()).expect("text");
        let mut lines: Vec<_> = log.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, [format!("err {n}"), format!("out {n}")]);
    }
    hot.container.remove().await;
    bench.end().await;
}

/// However fast the calls follow each other, no line is lost, and none is of a call before its own.
#[tokio::test]
async fn nothing_is_lost_between_calls_without_a_pause() {
    let bench = DockerBench::new().await;
    let hot = Hot::start(&bench, 1 << 20).await;
    let mut logs = BTreeMap::new();
    for n in 0..100 {
        hot.call(&n.to_string(), &format!("echo line {n}")).await;
    }
    let lines = |logs: &BTreeMap<String, Vec<u8>>| {
        let mut lines = Vec::new();
        for (id, log) in logs {
            let log = String::from_utf8_lossy(log).into_owned();
            let id: usize = id.parse().expect("a number");
            let of = log.lines().map(|line| {
                let line = line.rsplit(' ').next().expect("a word");
                line.parse::<usize>().expect("a number")
            });
            lines.extend(of.map(|line| (line, id)));
        }
        lines.sort_unstable();
        lines
    };
    eventually("all lines", async || {
        hot.read(&mut logs);
        lines(&logs).len() >= 100
    })
    .await;
    let lines = lines(&logs);
    assert!(lines.iter().all(|(line, id)| line <= id), "{lines:?}");
    let printed: Vec<_> = lines.iter().map(|(line, _)| *line).collect();
    assert_eq!(printed, (0..100).collect::<Vec<_>>());
    hot.container.remove().await;
    bench.end().await;
}

#[tokio::test]
async fn a_flood_is_cut_and_the_function_goes_on() {
    let bench = DockerBench::new().await;
    let hot = Hot::start(&bench, 100_000).await;
    let mut logs = BTreeMap::new();
    let flood = "dd if=/dev/zero bs=64k count=200 2>/dev/null | tr '\\0' x";
    hot.call("1", flood).await;
    let cut = "\n-----max log size 100000 bytes exceeded, truncating log-----\n";
    let log = hot.ends(&mut logs, "1", cut).await;
    assert_eq!(log.len(), 100_000 + cut.len());
    // The rest of it is on its way, and read to its end: then comes what the next calls print.
    let mut calls = 1;
    eventually("the end of the flood", async || {
        calls += 1;
        hot.call(&calls.to_string(), "echo end").await;
        hot.read(&mut logs);
        logs.values().any(|log| log.ends_with(b"end\n"))
    })
    .await;
    assert_eq!(logs["1"].len(), 100_000 + cut.len());
    hot.container.remove().await;
    bench.end().await;
}
