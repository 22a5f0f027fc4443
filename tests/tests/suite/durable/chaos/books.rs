//! What the system says in the end of each call, by its API.

use std::collections::BTreeMap;

use domain::CallRecord;
use domain::call::Attempt;
use hearth_tests::{Client, Deployed};
use tokio::task::JoinSet;

/// A call and its attempts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    pub(super) call: CallRecord,
    pub(super) attempts: Vec<Attempt>,
}

/// All calls, by their ids.
pub(super) type Books = BTreeMap<String, History>;

/// How many are asked for at a time.
const AT_A_TIME: usize = 16;

/// Reads everything about the calls of these functions.
pub(super) async fn read(apis: &[Client], functions: &[Deployed]) -> Books {
    let mut calls = Vec::new();
    for function in functions {
        let list = format!("/v2/fns/{}/calls", function.fn_id);
        calls.extend(all::<CallRecord>(&apis[0], &list).await);
    }
    let mut books = Books::new();
    let mut readings = JoinSet::new();
    for (number, call) in calls.into_iter().enumerate() {
        let api = apis[number % apis.len()].clone();
        readings.spawn(async move {
            let list = format!("/v2/calls/{}/attempts", call.id);
            let attempts = all::<Attempt>(&api, &list).await;
            History { call, attempts }
        });
        if readings.len() >= AT_A_TIME {
            enter(&mut books, readings.join_next().await);
        }
    }
    while let Some(reading) = readings.join_next().await {
        enter(&mut books, Some(reading));
    }
    books
}

fn enter(books: &mut Books, reading: Option<Result<History, tokio::task::JoinError>>) {
    let history = reading.expect("a reading").expect("a reading ends");
    books.insert(history.call.id.to_string(), history);
}

/// All items of a list, over its pages.
async fn all<T: serde::de::DeserializeOwned>(api: &Client, list: &str) -> Vec<T> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{list}?per_page=100{cursor}")).await;
        let mut page = page.expect(200).json();
        let read = serde_json::from_value::<Vec<T>>(page["items"].take());
        items.extend(read.expect("a list of these"));
        match page["next_cursor"].as_str() {
            Some(next) if !next.is_empty() => cursor = format!("&cursor={next}"),
            _ => return items,
        }
    }
}
