//! A database that does not answer: 503, and nothing of it reaches the client.

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::server::Api;

#[tokio::test]
async fn a_database_that_another_process_holds() {
    let api = Api::start().await;
    api.app("before").await;
    let mut other = SqliteConnectOptions::new()
        .filename(&api.database)
        .connect()
        .await
        .expect("the file");
    let lock = other
        .begin_with("BEGIN IMMEDIATE")
        .await
        .expect("the write lock");
    let answer = api.post("/v2/apps", &json!({"name": "a"})).await;
    answer.refused(503, "Datastore unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(api.changes().len(), 1, "only the first app was told of");
    lock.rollback().await.expect("the lock is given back");
    api.app("a").await;
}
