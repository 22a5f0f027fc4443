//! Lists stay fast when there is much: every page is found through an index.

use std::collections::BTreeSet;

use domain::{AppId, FnId};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::{FuncFilter, TriggerFilter, apps, fns, triggers};
use super::{Fixture, all_pages};

const COUNT: usize = 10_000;

/// One app with many functions and triggers, among as many apps.
fn fill(numbers: &str) -> String {
    format!(
        "WITH {numbers} INSERT INTO apps (id, name, config, annotations, created_at, updated_at)
             SELECT 'id' || n, 'app-' || n, '{{}}', '{{}}', 1, 1 FROM numbers;
         WITH {numbers} INSERT INTO fns (id, name, app_id, image, memory, timeout, idle_timeout, config,
                 annotations, created_at, updated_at)
             SELECT 'id' || n, 'fn-' || n, 'id' || (n % 2), 'i', 128, 30, 30, '{{}}', '{{}}', 1, 1 FROM numbers;
         WITH {numbers} INSERT INTO triggers (id, name, app_id, fn_id, type, source, annotations,
                 created_at, updated_at)
             SELECT 'id' || n, 't-' || (n / 4), 'id' || (n % 2), 'id' || (n % 4), 'http', '/' || n, '{{}}',
                 1, 1 FROM numbers;
         ANALYZE;"
    )
}

/// The statements of lists, with parameters in the middle of each.
fn lists() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        (apps::LIST, vec!["'app-5'", "30"]),
        (fns::LIST, vec!["'fn-5'", "30", "'id1'"]),
        (triggers::LIST, vec!["31", "'id1'", "'t-5'", "'~'"]),
        (
            triggers::LIST_NAMED,
            vec!["31", "'id1'", "'t-5'", "'~'", "'t-500'"],
        ),
        (triggers::LIST_OF_FN, vec!["31", "'id1'", "'t-5'", "'id1'"]),
    ]
}

fn explained(prefix: &str, (sql, values): (&str, Vec<&str>)) -> AssertSqlSafe<String> {
    let mut text = format!("{prefix} {sql}");
    for (at, value) in values.iter().enumerate() {
        text = text.replace(&format!("${}", at + 1), value);
    }
    AssertSqlSafe(text)
}

async fn pages_hold_everything(f: &Fixture) {
    let in_order = |names: Vec<String>, count: usize| {
        assert_eq!(names.len(), count);
        assert!(names.is_sorted());
    };
    let all = all_pages!(100, |page| f.store.apps(None, &page));
    in_order(all.into_iter().map(|app| app.name).collect(), COUNT);
    let filter = FuncFilter {
        app_id: AppId::from("id1"),
        name: None,
    };
    let all = all_pages!(100, |page| f.store.fns(&filter, &page));
    in_order(all.into_iter().map(|func| func.name).collect(), COUNT / 2);
    let filter = TriggerFilter {
        app_id: AppId::from("id1"),
        fn_id: None,
        name: None,
    };
    let all = all_pages!(99, |page| f.store.triggers(&filter, &page));
    let ids: BTreeSet<_> = all.iter().map(|trigger| trigger.id.clone()).collect();
    assert_eq!(ids.len(), COUNT / 2);
    in_order(
        all.into_iter().map(|trigger| trigger.name).collect(),
        COUNT / 2,
    );
    let filter = TriggerFilter {
        fn_id: Some(FnId::from("id3")),
        ..filter
    };
    let all = all_pages!(100, |page| f.store.triggers(&filter, &page));
    in_order(
        all.into_iter().map(|trigger| trigger.name).collect(),
        COUNT / 4,
    );
}

#[tokio::test]
async fn sqlite_lists_use_their_index() {
    let f = Fixture::sqlite().await;
    let numbers = format!(
        "RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {})",
        COUNT - 1
    );
    f.sql(&fill(&numbers)).await;
    let path = f.url.strip_prefix("sqlite3://").expect("a file");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options)
        .await
        .expect("opens");
    for list in lists() {
        let sql = explained("EXPLAIN QUERY PLAN", list);
        let rows = sqlx::raw_sql(sql)
            .fetch_all(&mut connection)
            .await
            .expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        // One search in an index, no scan, no sort.
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(
            plan[0].starts_with("SEARCH") && plan[0].contains("USING INDEX"),
            "{plan:?}"
        );
    }
    pages_hold_everything(&f).await;
}

#[tokio::test]
async fn postgres_lists_use_their_index() {
    let f = Fixture::postgres().await;
    let numbers = format!("numbers AS (SELECT generate_series(0, {}) AS n)", COUNT - 1);
    f.sql(&fill(&numbers)).await;
    let mut connection = sqlx::PgConnection::connect(&f.url).await.expect("answers");
    for list in lists() {
        let sql = explained("EXPLAIN", list);
        let rows = sqlx::raw_sql(sql)
            .fetch_all(&mut connection)
            .await
            .expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("Index Scan"), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }
    pages_hold_everything(&f).await;
}
