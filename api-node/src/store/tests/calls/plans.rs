//! Calls stay fast when there are many: what is looked for again and again is a range of an index.

use domain::{AppId, CallKind, CallState, DeadReason, FnId, Timestamp};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::super::CallFilter;
use super::super::super::calls::plans::{self, Statement};
use super::super::Fixture;

const COUNT: usize = 20_000;

/// Tables, and the names that statements give them.
const TABLES: [&str; 9] = [
    "c",
    "d",
    "i",
    "t",
    "a",
    "calls",
    "doorbells",
    "callbacks",
    "call_keys",
];

/// Many calls that are over, some that run and wait.
fn fill(numbers: &str) -> String {
    format!(
        "WITH {numbers} INSERT INTO calls (id, app_id, fn_id, kind, state, path, method, url, image, priority,
                 tags, epoch, attempts, max_attempts, crashes, lease_losses, setbacks, backoff_ms, created_at, due_at, expires_at,
                 completed_at)
             SELECT 'id' || (100000 + n), 'app' || (n % 5), 'fn' || (n % 50),
                 CASE WHEN n % 3 = 0 THEN 'async' ELSE 'sync' END,
                 CASE WHEN n % 300 = 0 THEN 'running' WHEN n % 299 = 0 THEN 'dead' ELSE 'success' END,
                 '/' || (n % 1000), 'GET', '', '', 0, '{{}}', 1, 0, 3, 0, 0, 0, 0, n, 0, 0,
                 CASE WHEN n % 300 = 0 THEN NULL ELSE n END
             FROM numbers;
         WITH {numbers} INSERT INTO call_tags (name, value, call_id)
             SELECT 'k', 'v' || (n % 100), 'id' || (100000 + n) FROM numbers;
         WITH {numbers} INSERT INTO call_attempts (call_id, epoch, status, runner_id, claimed_at, lease_until)
             SELECT 'id' || (100000 + n), 1, CASE WHEN n % 300 = 0 THEN 'running' ELSE 'success' END, 'r', n, n
             FROM numbers;
         WITH {numbers} INSERT INTO doorbells (call_id, epoch, fn_id, priority, lane, due_at, expires_at, delayed,
                 rung_at)
             SELECT 'id' || (100000 + n), 0, 'fn' || (n % 50), n % 10, 'fn' || (n % 50) || '/' || (n % 10), n, n, 0,
                 CASE WHEN n % 50 = 0 THEN n ELSE NULL END
             FROM numbers;
         WITH {numbers} INSERT INTO callbacks (call_id, url, tries, due_at, ended_at, delivered)
             SELECT 'id' || (100000 + n), '', 1, n, CASE WHEN n % 300 = 0 THEN NULL ELSE n END, 1 FROM numbers;
         WITH {numbers} INSERT INTO call_keys (fn_id, idempotency_key, fingerprint, call_id, hold_until, done)
             SELECT 'fn' || (n % 50), 'k' || n, '', 'id' || (100000 + n), CASE WHEN n % 300 = 0 THEN n ELSE NULL END, 0
             FROM numbers;
         ANALYZE;"
    )
}

/// The statements of reconcilers, and those of lists with each filter.
fn statements(postgres: bool) -> Vec<Statement> {
    let of_app = |filter: CallFilter| CallFilter {
        app_id: Some(AppId::from("app3")),
        ..filter
    };
    let of_fn = |filter: CallFilter| CallFilter {
        fn_id: Some(FnId::from("fn3")),
        ..filter
    };
    let dead = || CallFilter {
        states: vec![CallState::Dead],
        ..CallFilter::default()
    };
    let poisoned = || CallFilter {
        reason: Some(DeadReason::Poison),
        ..CallFilter::default()
    };
    let at = |path: String| CallFilter {
        path: Some(path),
        ..CallFilter::default()
    };
    let tagged = || CallFilter {
        tag: Some(("k".to_owned(), "v7".to_owned())),
        ..CallFilter::default()
    };
    let within = |filter: CallFilter| CallFilter {
        from: Some(Timestamp::from_unix_millis(5000)),
        to: Some(Timestamp::from_unix_millis(6000)),
        ..filter
    };
    let filters = [
        CallFilter::default(),
        within(CallFilter::default()),
        of_app(CallFilter::default()),
        of_fn(CallFilter::default()),
        of_app(of_fn(CallFilter::default())),
        within(of_fn(CallFilter::default())),
        of_fn(dead()),
        of_app(dead()),
        within(dead()),
        CallFilter {
            states: vec![CallState::Running, CallState::Dead],
            kind: Some(CallKind::Async),
            ..CallFilter::default()
        },
        poisoned(),
        of_fn(poisoned()),
        of_app(poisoned()),
        at("/7".to_owned()),
        at("/7".repeat(200)),
        of_fn(at("/7".to_owned())),
        CallFilter {
            path: Some("/7".to_owned()),
            ..dead()
        },
        tagged(),
        within(tagged()),
        of_app(tagged()),
        of_fn(tagged()),
        CallFilter {
            tag: tagged().tag,
            ..dead()
        },
        CallFilter {
            tag: tagged().tag,
            path: Some("/7".to_owned()),
            ..of_fn(poisoned())
        },
    ];
    let mut all = plans::reconcilers(postgres);
    all.extend(filters.iter().flat_map(plans::list));
    all
}

fn explained(prefix: &str, statement: &Statement) -> AssertSqlSafe<String> {
    let mut text = format!("{prefix} {}", statement.sql);
    for (at, value) in statement.values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", at + 1), value);
    }
    AssertSqlSafe(text)
}

#[tokio::test]
async fn sqlite_finds_calls_through_indexes() {
    let f = Fixture::sqlite().await;
    let numbers = format!(
        "RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {COUNT})"
    );
    f.sql(&fill(&numbers)).await;
    let path = f.url.strip_prefix("sqlite3://").expect("a file");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options)
        .await
        .expect("opens");
    for statement in statements(false) {
        let sql = explained("EXPLAIN QUERY PLAN", &statement);
        let rows = sqlx::raw_sql(sql)
            .fetch_all(&mut connection)
            .await
            .expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        // A table may be walked along an index that is in the order that is asked for; what is small
        // (a page, the lanes) may be scanned.
        let whole = plan.iter().any(|step| {
            let of_table = step
                .strip_prefix("SCAN ")
                .is_some_and(|what| TABLES.contains(&what.split(' ').next().unwrap_or(what)));
            of_table && !step.contains("USING")
        });
        assert!(!whole, "{}\n{plan:#?}", statement.sql);
    }
}

/// A plan is kept, whatever tables become of those that it was made for: on tables that are new, too,
/// the rows of a batch are looked up, and none is read whole.
#[tokio::test]
async fn postgres_looks_up_the_rows_of_a_batch_when_tables_are_new() {
    let f = Fixture::postgres().await;
    let mut connection = sqlx::PgConnection::connect(&f.url).await.expect("answers");
    sqlx::raw_sql("SET enable_seqscan = off")
        .execute(&mut connection)
        .await
        .expect("set");
    for statement in plans::batches() {
        let rows = sqlx::raw_sql(explained("EXPLAIN", &statement))
            .fetch_all(&mut connection)
            .await
            .expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for (at, step) in plan.iter().enumerate() {
            let whole = step.contains("Seq Scan")
                || step.contains("Index")
                    && step.contains("Scan")
                    && !plan[at + 1].contains("Index Cond");
            assert!(!whole, "{}\n{plan:#?}", statement.sql);
        }
    }
}

#[tokio::test]
async fn postgres_finds_calls_through_indexes() {
    let f = Fixture::postgres().await;
    let numbers = format!("numbers AS (SELECT generate_series(1, {COUNT}) AS n)");
    f.sql(&fill(&numbers)).await;
    let mut connection = sqlx::PgConnection::connect(&f.url).await.expect("answers");
    for statement in statements(true) {
        let sql = explained("EXPLAIN", &statement);
        let rows = sqlx::raw_sql(sql)
            .fetch_all(&mut connection)
            .await
            .expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("Index"), "{}\n{plan}", statement.sql);
        assert!(!plan.contains("Seq Scan"), "{}\n{plan}", statement.sql);
    }
}
