//! P8, P9, P10: durable calls, beside what the same database and the same broker can do at best.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hearth_tests::broker::Broker;
use hearth_tests::postgres::Cluster as Postgres;
use hearth_tests::{Deployed, Server, eventually_within, functions};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::plan::{FUNCTION, Plan};
use crate::report::{Bar, Report, Row};
use crate::sql::Sql;
use crate::statistics::{median, percentile};
use crate::targets::SETTINGS;
use crate::tell;
use crate::wrk::Wrk;

/// Clients of P8, and of the database that it is compared with.
const CLIENTS: u32 = 64;
/// Messages that are not confirmed yet, of the broker that P9 is compared with.
const WINDOW: usize = 64;
/// What such a message holds, in bytes.
const MESSAGE: usize = 512;
/// Calls of P10, one after the other.
const SINGLE_CALLS: usize = 300;
/// How long a backlog may take to be worked off.
const PATIENCE: Duration = Duration::from_secs(240);

const DETACHED: &str = "Fn-Invoke-Type: detached";
/// Accepted, and not run while anything is measured.
const LATER: &str = "Fn-Call-Delay: 86400";

/// A table like the one of calls at its simplest, and the statement that is measured.
const TABLE: &str = "CREATE TABLE bench_rows (id BIGSERIAL PRIMARY KEY, payload TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO bench_rows (payload) VALUES (repeat('x', 512));\n";

/// Measures.
pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    tell("starting PostgreSQL, RabbitMQ and a server on them");
    let postgres = Postgres::start_durable();
    let broker = Broker::start();
    let database = postgres.create_database();
    let mut settings = SETTINGS.to_vec();
    let amqp = broker.url();
    settings.extend([
        ("FN_DB_URL", database.as_str()),
        ("FN_MQ_URL", amqp.as_str()),
    ]);
    let server = Server::start(&settings).await;
    let image = functions::image(FUNCTION);
    let echo = Deployed::new(
        &server.client,
        "durable",
        &image,
        json!({ "idle_timeout": 3600 }),
    )
    .await;
    let url = format!("{}{}", server.client.base(), echo.path);
    let sql = Sql {
        postgres: &postgres,
        database: &database,
    };
    sql.run(TABLE).await?;
    let wrk = Wrk::new()?;
    // Warm: containers, pools, plans.
    wrk.load(&url, 16, Duration::from_secs(2)).await?;

    let waits = waits(plan, &echo, &sql).await?;
    let mut rounds = Vec::new();
    for round in 1..=plan.rounds {
        tell(format_args!(
            "durable calls, round {round} of {}",
            plan.rounds
        ));
        rounds.push(Round::measure(plan, &wrk, &url, &sql, &amqp).await?);
    }
    tell_rounds(&rounds, report);
    tell_waits(&waits, report);
    let raw = json!({
        "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
        "waits_millis": waits,
    });
    report.section("Durable calls", table(&rounds, &waits), raw);
    Ok(())
}

/// One round: the database alone, acceptance, the broker alone, and calls from one end to the other.
struct Round {
    inserts: f64,
    accepted: f64,
    published: f64,
    finished: f64,
    errors: u64,
}

impl Round {
    async fn measure(
        plan: &Plan,
        wrk: &Wrk,
        url: &str,
        sql: &Sql<'_>,
        amqp: &str,
    ) -> anyhow::Result<Self> {
        let inserts = sql.inserts_per_second(plan.seconds).await?;
        let accepted = wrk
            .load_with(url, &[DETACHED, LATER], CLIENTS, plan.duration())
            .await?;
        let published = publishes_per_second(amqp, plan.duration()).await?;
        let since = sql
            .number("SELECT coalesce(max(created_at), 0) FROM calls")
            .await?;
        let load = wrk
            .load_with(url, &[DETACHED], CLIENTS, plan.duration())
            .await?;
        let left = "SELECT count(*) FROM calls WHERE state IN ('queued', 'running')";
        eventually_within(PATIENCE, "every call is over", async || {
            (sql.number(left).await.ok()? == 0.0).then_some(())
        })
        .await;
        // Both ends by the database's clock.
        let ended = "completed_at IS NOT NULL AND kind = 'async' AND created_at > ";
        let count = sql
            .number(&format!(
                "SELECT count(*) FROM calls WHERE state = 'success' AND {ended} {since}"
            ))
            .await?;
        let millis = sql
            .number(&format!(
                "SELECT max(completed_at) - min(created_at) FROM calls WHERE {ended} {since}"
            ))
            .await?;
        ensure!(
            count >= load.requests as f64,
            "{} calls were accepted, and {count} succeeded",
            load.requests
        );
        Ok(Self {
            inserts,
            accepted: accepted.per_second,
            published,
            finished: count * 1000.0 / millis,
            errors: accepted.errors + load.errors,
        })
    }

    fn json(&self) -> Value {
        json!({
            "inserts_per_second": self.inserts,
            "accepted_per_second": self.accepted,
            "published_per_second": self.published,
            "finished_per_second": self.finished,
            "errors": self.errors,
        })
    }
}

/// From acceptance to the start of the execution, of calls on an idle system, in milliseconds.
async fn waits(plan: &Plan, echo: &Deployed, sql: &Sql<'_>) -> anyhow::Result<Vec<f64>> {
    tell("single durable calls");
    let mut waits = Vec::new();
    let calls = SINGLE_CALLS * plan.rounds as usize / 5;
    for _ in 0..calls.max(20) {
        let answer = echo
            .call_with(&[("Fn-Invoke-Type", "detached")], "hi")
            .await
            .expect(202);
        let id = answer.json()["call_id"]
            .as_str()
            .context("a call id")?
            .to_owned();
        let call = eventually_within(PATIENCE, "the call is over", async || {
            let wait = format!(
                "SELECT started_at - created_at FROM calls WHERE id = '{id}' AND state = 'success'"
            );
            sql.number(&wait).await.ok()
        })
        .await;
        waits.push(call);
    }
    Ok(waits)
}

impl Sql<'_> {
    /// Single rows, each committed, by so many clients as send calls.
    async fn inserts_per_second(&self, seconds: u64) -> anyhow::Result<f64> {
        let directory = tempfile::tempdir()?;
        let script = directory.path().join("insert.sql");
        std::fs::write(&script, INSERT)?;
        let output = Command::new(self.postgres.binaries().join("pgbench"))
            .args([
                "--no-vacuum",
                "--client",
                &CLIENTS.to_string(),
                "--jobs",
                "1",
            ])
            .args([
                "--time",
                &seconds.to_string(),
                "--protocol",
                "prepared",
                "--file",
            ])
            .arg(&script)
            .arg(self.database)
            .stdin(Stdio::null())
            .output()
            .await
            .context("pgbench cannot be started")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = said.lines().find_map(|line| {
            let rate = line.strip_prefix("tps = ")?;
            rate.split_whitespace().next()?.parse().ok()
        });
        rate.with_context(|| {
            format!(
                "pgbench said {said} {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

/// Persistent messages to a quorum queue, each confirmed, a window of them on their way.
async fn publishes_per_second(amqp: &str, duration: Duration) -> anyhow::Result<f64> {
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    const QUEUE: &str = "bench";
    channel
        .queue_declare(QUEUE.into(), options, arguments)
        .await?;
    let message = [b'x'; MESSAGE];
    let publish = || {
        channel.basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            &message,
            BasicProperties::default().with_delivery_mode(2),
        )
    };
    let mut waiting = VecDeque::from([publish().await?]);
    let (began, mut confirmed) = (Instant::now(), 0_u64);
    while began.elapsed() < duration {
        if waiting.len() == WINDOW
            && let Some(oldest) = waiting.pop_front()
        {
            ensure!(oldest.await?.is_ack(), "the broker refused a message");
            confirmed += 1;
        }
        waiting.push_back(publish().await?);
    }
    let rate = confirmed as f64 / began.elapsed().as_secs_f64();
    for confirm in waiting {
        confirm.await?;
    }
    channel
        .queue_delete(QUEUE.into(), lapin::options::QueueDeleteOptions::default())
        .await?;
    connection.close(200, "".into()).await?;
    Ok(rate)
}

fn tell_rounds(rounds: &[Round], report: &mut Report) {
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let valid = |ratio: f64| match rounds.iter().all(|round| round.errors == 0) {
        true => ratio,
        false => f64::NAN,
    };
    let rate = |value: f64| format!("{:.2} k/s", value / 1000.0);
    let (accepted, inserts) = (of(|r| r.accepted), of(|r| r.inserts));
    let ratios: Vec<_> = accepted.iter().zip(&inserts).map(|(a, i)| a / i).collect();
    report.row(Row {
        id: "P8",
        what: format!("durable 202s per second / single-row INSERTs per second, {CLIENTS} clients"),
        ours: rate(median(&accepted)),
        theirs: rate(median(&inserts)),
        value: valid(median(&ratios)),
        unit: "",
        bar: Bar::AtLeast(0.5),
        original: "not durable",
    });
    let (finished, published) = (of(|r| r.finished), of(|r| r.published));
    let ratios: Vec<_> = finished
        .iter()
        .zip(&published)
        .map(|(f, p)| f / p)
        .collect();
    report.row(Row {
        id: "P9",
        what: format!(
            "durable calls finished end to end per second / confirmed publishes per second, window {WINDOW}"
        ),
        ours: rate(median(&finished)),
        theirs: rate(median(&published)),
        value: valid(median(&ratios)),
        unit: "",
        bar: Bar::AtLeast(0.10),
        original: "not durable",
    });
}

fn tell_waits(waits: &[f64], report: &mut Report) {
    for (percent, bar) in [(50.0, 5.0), (99.0, 20.0)] {
        let value = percentile(waits, percent);
        report.row(Row {
            id: "P10",
            what: format!("durable call on an idle system: accepted → started, p{percent}"),
            ours: format!("{value:.0} ms"),
            theirs: "–".to_owned(),
            value,
            unit: " ms",
            bar: Bar::AtMost(bar),
            original: "up to 1 s",
        });
    }
}

fn table(rounds: &[Round], waits: &[f64]) -> String {
    let mut text = "One node on PostgreSQL (`fsync=on`) and RabbitMQ (one quorum queue), all on this machine. The \
         rows are inserted by `pgbench` with prepared statements; accepted calls are due a day later, so that only \
         acceptance is measured; the messages of 512 bytes are persistent and confirmed. Calls from one end to the other \
         run the `echo` function while 64 clients hand in more; the time is from the first acceptance to the last end, \
         by the database's clock.\n\n\
         | round | rows/s | accepted/s | published/s | finished/s |\n|---|---|---|---|---|\n"
        .to_owned();
    for (at, round) in rounds.iter().enumerate() {
        text += &format!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            at + 1,
            round.inserts,
            round.accepted,
            round.published,
            round.finished
        );
    }
    text += &format!(
        "\n{} single calls, accepted → started: p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms.\n",
        waits.len(),
        percentile(waits, 50.0),
        percentile(waits, 99.0),
        percentile(waits, 100.0)
    );
    text
}
