//! A database and a queue that the builds before have filled are taken over: every call that waits comes
//! to its end, and what is over stays as it was.
//!
//! `api-node/tests/upgrade` has a directory for each build that changed the schema, as
//! [`fill`] filled it and the tools of the databases wrote it down.

use std::path::{Path, PathBuf};
use std::process::Command;

use domain::call::AttemptState;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::callbacks::receiver;
use super::*;
use crate::calls::CallbackSettings;
use crate::queue::tests::rabbitmq::Broker;
use crate::queue::{self, OpenOptions};
use crate::store::CallFilter;
use crate::store::tests::postgres::Cluster;
use crate::store::tests::{new_postgres_database, page, run_sql};

/// Where the callback of the old build goes to.
const CALLBACK: &str = "http://127.0.0.1:9/done";
/// Columns that hold times, by their tables, as of the first build that kept calls.
const TIMES: [(&str, &[&str]); 6] = [
    (
        "calls",
        &[
            "created_at",
            "due_at",
            "expires_at",
            "started_at",
            "completed_at",
        ],
    ),
    ("call_snapshots", &["used_at"]),
    (
        "call_attempts",
        &["claimed_at", "lease_until", "started_at", "ended_at"],
    ),
    ("doorbells", &["due_at", "expires_at", "rung_at"]),
    ("call_keys", &["hold_until"]),
    ("callbacks", &["due_at", "ended_at"]),
];
/// What is over in the old build's database, and its attempts.
const OVER: [(&str, CallState, &[AttemptState]); 7] = [
    ("answered", CallState::Success, &[AttemptState::Success]),
    ("told", CallState::Success, &[AttemptState::Success]),
    ("failed", CallState::Error, &[AttemptState::Error]),
    ("late", CallState::Timeout, &[AttemptState::Timeout]),
    ("impossible", CallState::Dead, &[AttemptState::Error]),
    (
        "exhausted",
        CallState::Dead,
        &[AttemptState::Error, AttemptState::Error],
    ),
    ("cancelled", CallState::Cancelled, &[]),
];
/// What waits there, and its attempts when it has run.
const WAITING: [(&str, &[AttemptState]); 5] = [
    ("rung", &[AttemptState::Success]),
    ("accepted", &[AttemptState::Success]),
    ("delayed", &[AttemptState::Success]),
    ("again", &[AttemptState::Error, AttemptState::Success]),
    ("running", &[AttemptState::LeaseLost, AttemptState::Success]),
];

fn builds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade")
}

/// What names a call for the test.
fn named(name: &str) -> CallOptions {
    CallOptions {
        tags: [("is".to_owned(), name.to_owned())].into(),
        ..CallOptions::default()
    }
}

/// A request that was handed in with a key.
fn with_key() -> CallOptions {
    CallOptions {
        idempotency_key: Some("order 4711".to_owned()),
        ..named("answered")
    }
}

fn settings() -> CallsSettings {
    let defaults = CallsSettings::default();
    CallsSettings {
        // A doorbell that was rung is not rung again: its message is what counts.
        silence: Duration::from_secs(3600),
        callbacks: CallbackSettings {
            allow: vec!["127.0.0.0/8".parse().expect("a network")],
            ..defaults.callbacks.clone()
        },
        ..defaults
    }
}

/// Makes calls in every state.
async fn fill(f: &Fixture, queue: Arc<dyn Queue>) {
    let node = Node::on(&f.store, queue, settings()).await;
    let func = func(f, "shop").await;
    let mut runner = node.runner("runner", 1, 1).await;
    let once = |name| CallOptions {
        max_attempts: Some(1),
        ..named(name)
    };
    node.enqueue(&func, with_key()).await;
    let call = runner.next().await;
    let printed = LogChunk {
        lease: call.lease.clone(),
        offset: 0,
        data: Bytes::from_static(b"printed\n"),
    };
    let kept = node.calls.append_logs("runner", vec![printed]).await;
    kept.expect("a log");
    runner.run(&call, answered(200, "output")).await;
    let told = CallOptions {
        callback_url: Some(CALLBACK.to_owned()),
        ..named("told")
    };
    for (options, outcome) in [
        (told, answered(200, "output")),
        (once("failed"), answered(500, "no")),
        (once("late"), failed(Fault::Timeout)),
        (named("impossible"), failed(Fault::Permanent)),
    ] {
        node.enqueue(&func, options).await;
        let call = runner.next().await;
        runner.run(&call, outcome).await;
    }
    let twice = CallOptions {
        max_attempts: Some(2),
        ..named("exhausted")
    };
    node.enqueue(&func, twice).await;
    for _ in 0..2 {
        let call = runner.next().await;
        runner.run(&call, answered(500, "no")).await;
    }
    let later = |name, seconds| CallOptions {
        delay_seconds: Some(seconds),
        ..named(name)
    };
    let cancelled = node.enqueue(&func, later("cancelled", 3600)).await;
    node.calls.cancel(&cancelled).await.expect("cancelled");
    until("the callback was tried", || async {
        node.metrics.callbacks_of("failed") >= 1
    })
    .await;

    // From here on time counts.
    node.enqueue(&func, named("again")).await;
    let call = runner.next().await;
    runner.start(&call).await.expect("the lease holds");
    assert!(runner.finish(&call, answered(500, "no")).await);
    runner.grant(1).await;
    node.enqueue(&func, named("running")).await;
    let mut call = runner.next().await;
    while call.attempt == 2 {
        // The other one came back first.
        assert!(runner.finish(&call, failed(Fault::Platform)).await);
        runner.grant(1).await;
        call = runner.next().await;
    }
    runner.start(&call).await.expect("the lease holds");
    node.enqueue(&func, later("delayed", 15)).await;
    let rung = node.enqueue(&func, named("rung")).await;
    until("the doorbell was rung", || async {
        let rung = f.store.rung_calls(vec![func.id.clone()]).await;
        rung.expect("an answer").values().sum::<u64>() >= 1
    })
    .await;
    assert_eq!(node.record(&rung).await.status, CallState::Queued);
    node.calls.close().await;
    let away = Switched::new();
    away.switch(false);
    let node = Node::on(&f.store, away, settings()).await;
    node.enqueue(&func, named("accepted")).await;
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

fn open_queue(url: &str, name: &str) -> Arc<dyn Queue> {
    let options = OpenOptions {
        queue: name.to_owned(),
        authority: None,
        metrics: QueueMetrics::new(&mut Metrics::new()),
    };
    queue::open(url, options).expect("a URL")
}

async fn broker() -> &'static Broker {
    let broker = tokio::task::spawn_blocking(Broker::shared).await;
    broker.expect("a broker")
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Writes down what this build makes. To be run when the schema has changed, before the next release:
/// `HEARTH_UPGRADE=0005 cargo test -p api-node write_down -- --ignored`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes what the test of upgrades starts with"]
async fn write_down_what_this_build_makes() {
    let version = std::env::var("HEARTH_UPGRADE").expect("a version of the schema");
    let place = builds().join(version);
    std::fs::create_dir_all(&place).expect("a directory");

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fn.db");
    let f = Fixture::on(format!("sqlite3://{}", file.display()), None).await;
    fill(
        &f,
        Arc::new(EmbeddedQueue::new(QueueMetrics::new(&mut Metrics::new()))),
    )
    .await;
    let dump = output(Command::new("sqlite3").arg(&file).arg(".dump"));
    std::fs::write(place.join("sqlite.sql"), dump).expect("written");

    let url = new_postgres_database().await;
    let f = Fixture::on(url.clone(), None).await;
    let broker = broker().await.url();
    fill(&f, open_queue(&broker, "write-down")).await;
    let dump = output(
        Command::new(Cluster::shared().binaries().join("pg_dump")).args([
            "--inserts",
            "--no-owner",
            "--no-privileges",
            "-d",
            &url,
        ]),
    );
    // What the sessions of the tool are told is nothing of the database.
    let of_the_tool = ["SET ", "SELECT pg_catalog.set_config", "--", "\\"];
    let lines = dump.lines().filter(|line| {
        !line.is_empty() && !of_the_tool.iter().any(|start| line.starts_with(start))
    });
    let dump: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(place.join("postgres.sql"), dump).expect("written");

    let (_connection, channel) = channel(&broker).await;
    let mut messages = String::new();
    let taken = BasicGetOptions { no_ack: true };
    while let Some(message) = channel
        .basic_get("write-down".into(), taken)
        .await
        .expect("an answer")
    {
        messages += std::str::from_utf8(&message.delivery.data).expect("text");
        messages.push('\n');
    }
    std::fs::write(place.join("messages"), messages).expect("written");
}

/// As if the old build had been stopped a moment ago.
async fn bring_to_the_present(url: &str, written: i64) {
    let now = wall_clock()().unix_millis();
    for (table, columns) in TIMES {
        let set = columns.iter();
        let set = set.map(|column| format!("{column} = {column} + {}", now - written));
        let set: Vec<_> = set.collect();
        run_sql(url, &format!("UPDATE {table} SET {}", set.join(", "))).await;
    }
}

/// The end of the lease of the call that ran.
fn lease_until(dump: &str) -> i64 {
    // The tools differ in what they put behind a comma.
    let dump = dump.replace(", ", ",");
    let row = dump
        .lines()
        .find(|line| line.contains("call_attempts") && line.contains(",'running','runner',"));
    let row = row.expect("a call that runs");
    let (_, times) = row.split_once("'runner',").expect("a runner");
    let lease_until = times.split(',').nth(1).expect("a time");
    lease_until.trim().parse().expect("a number")
}

async fn by_name(f: &Fixture, name: &str) -> CallRecord {
    let filter = CallFilter {
        tag: Some(("is".to_owned(), name.to_owned())),
        ..CallFilter::default()
    };
    let found = f.store.calls(&filter, &page(None, 2)).await;
    let mut found = found.expect("an answer").items;
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0)
}

async fn attempts(f: &Fixture, call: &CallRecord) -> Vec<AttemptState> {
    let attempts = f.store.call_attempts(&call.id).await.expect("kept");
    attempts.iter().map(|attempt| attempt.status).collect()
}

/// Takes over what `dump` says, with what is in the queue.
async fn take_over(url: String, dump: &str, queue: Arc<dyn Queue>) {
    let mut receiver = receiver(&[]).await;
    run_sql(&url, &dump.replace(CALLBACK, &receiver.url)).await;
    bring_to_the_present(&url, lease_until(dump)).await;
    let f = Fixture::on(url, None).await;

    let mut over = vec![];
    for (name, state, expected) in OVER {
        let call = by_name(&f, name).await;
        assert_eq!(call.status, state, "{name}");
        assert_eq!(attempts(&f, &call).await, expected, "{name}");
        over.push(call);
    }
    let node = Node::on(&f.store, queue, settings()).await;
    let mut runner = node.runner("another", 8, 8).await;
    for _ in WAITING {
        let call = runner.next().await;
        assert_eq!(&call.body[..], b"input");
        runner.run(&call, answered(200, "done")).await;
    }
    for (name, expected) in WAITING {
        let call = by_name(&f, name).await;
        assert_eq!(call.status, CallState::Success, "{name}");
        assert_eq!(attempts(&f, &call).await, expected, "{name}");
    }
    for call in &over {
        assert_eq!(node.record(&call.id).await, *call);
    }
    let answered = &over[0];
    let result = f.store.call_result(&answered.id).await.expect("kept");
    assert_eq!((result.status, &result.body[..]), (200, &b"output"[..]));
    let log = node
        .calls
        .logs()
        .read(&answered.id)
        .await
        .expect("an answer");
    assert_eq!(log.as_deref(), Some(&b"printed\n"[..]));
    let func = f.store.func(&answered.fn_id).await.expect("the function");
    let again = node.calls.enqueue(new_call(&func, with_key())).await;
    let again = again.expect("the key is known");
    assert_eq!((&again.id, again.replayed), (&answered.id, true));
    let told = timeout(SOON, receiver.posts.recv()).await;
    let (_, document) = told.expect("in time").expect("a post");
    assert_eq!(document["call"]["id"], over[1].id.as_str());
    let counts = f.store.count_calls().await.expect("an answer");
    let waiting = [CallState::Delayed, CallState::Queued, CallState::Running];
    assert!(
        waiting.iter().all(|state| !counts.contains_key(state)),
        "{counts:?}"
    );
}

/// What each of the builds before has left, by their versions of the schema.
fn left_behind() -> Vec<PathBuf> {
    let builds = std::fs::read_dir(builds()).expect("a directory");
    let builds: Vec<_> = builds
        .map(|build| build.expect("an entry").path())
        .collect();
    assert!(!builds.is_empty());
    builds
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_builds_before_left_in_a_file_is_taken_over_with_nothing_lost() {
    for build in left_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("fn.db");
        std::fs::write(&file, "").expect("a file");
        let dump = std::fs::read_to_string(build.join("sqlite.sql")).expect("a dump");
        let queue = EmbeddedQueue::new(QueueMetrics::new(&mut Metrics::new()));
        take_over(
            format!("sqlite3://{}", file.display()),
            &dump,
            Arc::new(queue),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_builds_before_left_in_postgres_and_rabbitmq_is_taken_over_with_nothing_lost() {
    let broker = broker().await.url();
    for build in left_behind() {
        let name = format!("upgrade-{}", build.file_name().expect("a name").display());
        let dump = std::fs::read_to_string(build.join("postgres.sql")).expect("a dump");
        let messages = std::fs::read_to_string(build.join("messages")).expect("messages");
        let queue = open_queue(&broker, &name);
        until("the queue is up", || async { queue.is_up() }).await;
        let (_connection, channel) = channel(&broker).await;
        for message in messages.lines() {
            let options = BasicPublishOptions::default();
            let properties = BasicProperties::default();
            let body = message.as_bytes();
            let sent =
                channel.basic_publish("".into(), name.as_str().into(), options, body, properties);
            sent.await.expect("sent");
        }
        take_over(new_postgres_database().await, &dump, queue).await;
    }
}
