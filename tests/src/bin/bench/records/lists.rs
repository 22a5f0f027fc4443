//! How long lists take, with every filter, and with those together that mean something.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::{IdSource, page};
use hearth_tests::process::Process;
use serde_json::{Value, json};

use super::fill::{FNS, RARE_FN, app_id, fn_id};
use crate::plan::Plan;
use crate::report::{Bar, Report, Row};
use crate::statistics::percentile;
use crate::tell;

/// Requests of each list before those that count: connections, and plans.
const WARM_UP: usize = 20;
/// The longest that 99 of a hundred requests may take, in milliseconds.
const BAR: f64 = 20.0;

/// Lists of one kind.
struct Case {
    what: &'static str,
    /// Asked in turn.
    paths: Vec<String>,
}

/// What was measured of it.
pub(super) struct Measured {
    what: &'static str,
    /// Calls on the first page that was asked for.
    items: usize,
    millis: Vec<f64>,
}

impl Measured {
    fn p99(&self) -> f64 {
        percentile(&self.millis, 99.0)
    }

    fn json(&self) -> Value {
        json!({ "what": self.what, "items": self.items, "p50_millis": percentile(&self.millis, 50.0),
            "p99_millis": self.p99(), "max_millis": percentile(&self.millis, 100.0) })
    }
}

/// Asks a node whose records go so many days back.
pub(super) async fn measure(
    plan: &Plan,
    node: &Process,
    days: u64,
) -> anyhow::Result<Vec<Measured>> {
    tell("lists");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let client = node.client();
    let mut all = Vec::new();
    for case in cases(now, days) {
        let first = client.get(&case.paths[0]).await.expect(200).json();
        let mut millis = Vec::new();
        for at in 0..WARM_UP + plan.lists as usize {
            let path = &case.paths[at % case.paths.len()];
            let began = Instant::now();
            client.get(path).await.expect(200);
            if at >= WARM_UP {
                millis.push(began.elapsed().as_secs_f64() * 1000.0);
            }
        }
        all.push(Measured {
            what: case.what,
            items: first["items"].as_array().map_or(0, Vec::len),
            millis,
        });
    }
    Ok(all)
}

fn cases(now: Duration, days: u64) -> Vec<Case> {
    let day = Duration::from_secs(24 * 3600);
    let one = |what, path: &str| Case {
        what,
        paths: vec![path.to_owned()],
    };
    let each = |what, path: &dyn Fn(u64) -> String, of: &[u64]| Case {
        what,
        paths: of.iter().map(|number| path(*number)).collect(),
    };
    let some: Vec<u64> = (0..40).map(|n| n * 10).collect();
    // Evenly from now to the oldest ones.
    let past: Vec<u64> = (0..40).map(|n| n * days * 24 * 3600 / 40).collect();
    let cursor = |ago: u64| {
        let at = (now - Duration::from_secs(ago)).as_millis();
        page::cursor(&IdSource::first_at(u64::try_from(at).unwrap_or_default()))
    };
    let seconds = |ago: u64| now.as_secs() - ago;
    let hour = |ago: u64| format!("from_time={}&to_time={}", seconds(ago + 3600), seconds(ago));
    let busy = fn_id(0);
    let calls = |filter: &str| format!("/v2/calls?{filter}");
    vec![
        one("no filter", "/v2/calls"),
        one("no filter, 100 on a page", "/v2/calls?per_page=100"),
        each(
            "a cursor, from new to old",
            &|ago| calls(&format!("cursor={}", cursor(ago))),
            &past,
        ),
        one("the busiest function", &calls(&format!("fn_id={busy}"))),
        each(
            "other functions",
            &|n| format!("/v2/fns/{}/calls", fn_id(n)),
            &some,
        ),
        one(
            "a function with five calls",
            &calls(&format!("fn_id={}", fn_id(RARE_FN))),
        ),
        one(
            "a function without calls",
            &calls(&format!("fn_id={}", fn_id(FNS + 2))),
        ),
        each(
            "functions, a cursor",
            &|ago| calls(&format!("fn_id={}&cursor={}", fn_id(ago % 40), cursor(ago))),
            &past,
        ),
        each(
            "functions, dead",
            &|n| calls(&format!("fn_id={}&status=dead", fn_id(n))),
            &some,
        ),
        each(
            "functions, running",
            &|n| calls(&format!("fn_id={}&status=running", fn_id(n))),
            &some,
        ),
        each(
            "functions, an hour",
            &|ago| calls(&format!("fn_id={}&{}", fn_id(ago % 40), hour(ago))),
            &past,
        ),
        each(
            "apps",
            &|n| calls(&format!("app_id={}", app_id(n % 20))),
            &some,
        ),
        each(
            "apps, error",
            &|n| calls(&format!("app_id={}&status=error", app_id(n % 20))),
            &some,
        ),
        one(
            "an app without calls",
            &calls(&format!("app_id={}", app_id(99))),
        ),
        each(
            "a function and its app",
            &|n| calls(&format!("fn_id={}&app_id={}", fn_id(n), app_id(n % 20))),
            &some,
        ),
        one(
            "a function and another app",
            &calls(&format!("fn_id={busy}&app_id={}", app_id(1))),
        ),
        one("success", &calls("status=success")),
        one("running (few)", &calls("status=running")),
        one("queued, delayed", &calls("status=queued,delayed")),
        one("cancelled", &calls("status=cancelled")),
        one(
            "delayed, of those whose clients wait (none)",
            &calls("status=delayed&type=sync"),
        ),
        one("async", &calls("type=async")),
        each(
            "dead, a cursor",
            &|ago| calls(&format!("status=dead&cursor={}", cursor(ago))),
            &past,
        ),
        each("an hour", &|ago| calls(&hour(ago)), &past),
        each(
            "before a time",
            &|ago| calls(&format!("to_time={}", seconds(ago))),
            &past,
        ),
        each(
            "timeout, an hour",
            &|ago| calls(&format!("status=timeout&{}", hour(ago))),
            &past,
        ),
        one(
            "a time to come",
            &calls(&format!("from_time={}", (now + day).as_secs())),
        ),
        each(
            "paths",
            &|n| calls(&format!("path=/hooks/{}", n % 50)),
            &some,
        ),
        one("a path that is none", &calls("path=/nowhere")),
        one("a path, dead", &calls("path=/hooks/0&status=dead")),
        one(
            "a path and a function without it",
            &calls(&format!("path=/hooks/7&fn_id={busy}")),
        ),
        one("a tag of a tenth of all", &calls("tag=env:prod")),
        each(
            "tags of 20 calls",
            &|n| calls(&format!("tag=customer:c{n}")),
            &some,
        ),
        one("a tag of three calls", &calls("tag=incident:42")),
        one("a tag without calls", &calls("tag=env:nowhere")),
        each(
            "a tag, an hour",
            &|ago| calls(&format!("tag=env:prod&{}", hour(ago))),
            &past,
        ),
        each(
            "a tag and functions",
            &|n| calls(&format!("tag=env:prod&fn_id={}", fn_id(n))),
            &some,
        ),
        one(
            "a tag and a function with five calls",
            &calls(&format!("tag=env:prod&fn_id={}", fn_id(RARE_FN))),
        ),
        one(
            "a tag of three calls and a function",
            &calls(&format!("tag=incident:42&fn_id={busy}")),
        ),
        each(
            "a tag and apps",
            &|n| calls(&format!("tag=env:test&app_id={}", app_id(n % 20))),
            &some,
        ),
        one("a tag, dead", &calls("tag=env:test&status=dead")),
        one("a tag, running", &calls("tag=env:prod&status=running")),
        one(
            "a tag and a path that are never together",
            &calls(&format!(
                "tag=env:test&path=/invoke/{}&status=cancelled&type=async",
                fn_id(3)
            )),
        ),
        one("dead letters", "/v2/dead-letters"),
        each(
            "dead letters, a cursor",
            &|ago| format!("/v2/dead-letters?cursor={}", cursor(ago)),
            &past,
        ),
        one(
            "dead letters: retries_exhausted",
            "/v2/dead-letters?reason=retries_exhausted",
        ),
        one(
            "dead letters: poison (few)",
            "/v2/dead-letters?reason=poison",
        ),
        one(
            "dead letters: function_deleted (none)",
            "/v2/dead-letters?reason=function_deleted",
        ),
        each(
            "dead letters: permanent, of functions",
            &|n| format!("/v2/dead-letters?reason=permanent&fn_id={}", fn_id(n)),
            &some,
        ),
        one(
            "dead letters: poison, of an app",
            &format!("/v2/dead-letters?reason=poison&app_id={}", app_id(7)),
        ),
    ]
}

/// Adds the worst to the bars, and a table of all.
pub(super) fn tell_all(
    plan: &Plan,
    postgres: &[Measured],
    sqlite: &[Measured],
    report: &mut Report,
) {
    if let Some(worst) = postgres.iter().max_by(|a, b| a.p99().total_cmp(&b.p99())) {
        report.row(Row {
            id: "P15",
            what: format!(
                "list of {} calls in PostgreSQL, p99 of the slowest of {} filters: {}",
                plan.records,
                postgres.len(),
                worst.what
            ),
            ours: format!("{:.1} ms", worst.p99()),
            theirs: "–".to_owned(),
            value: worst.p99(),
            unit: " ms",
            bar: Bar::AtMost(BAR),
            original: "no list",
        });
    }
    let mut table = format!(
        "{} requests of each list, one after the other, over HTTP; milliseconds. Calls: those on the first page.\n\n\
         | filter | calls | PostgreSQL p50 | p99 | most | SQLite, a tenth of the records: p50 | p99 |\n\
         |---|---|---|---|---|---|---|\n",
        plan.lists
    );
    for (one, other) in postgres.iter().zip(sqlite) {
        table += &format!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |\n",
            one.what,
            one.items,
            percentile(&one.millis, 50.0),
            one.p99(),
            percentile(&one.millis, 100.0),
            percentile(&other.millis, 50.0),
            other.p99(),
        );
    }
    let raw = |all: &[Measured]| all.iter().map(Measured::json).collect::<Vec<_>>();
    let raw = json!({ "postgres": raw(postgres), "sqlite": raw(sqlite) });
    report.section("Lists of many calls", table, raw);
}
