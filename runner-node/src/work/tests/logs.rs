//! The logs of calls, from the function to the source.

use super::source::Said;
use super::*;
use crate::agent::tests::call;

/// A function whose containers print, and end before they listen.
fn failing_to_start(text: &str) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::clone(&snapshot("f", 300));
    let config = [("START", "exit"), ("PRINT", text)];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    snapshot.func.config = config.map(own).into();
    Arc::new(snapshot)
}

/// The log of one attempt so far.
fn log(said: &Said, lease: &LeaseRef) -> String {
    let parts = said.chunks.iter().filter(|part| part.lease == *lease);
    let texts = parts.map(|part| String::from_utf8_lossy(&part.data).into_owned());
    texts.collect()
}

fn printing(id: &str, epoch: i64, text: &str) -> LeasedCall {
    let mut call = leased(id, epoch, "echo");
    call.headers.push("print", text.as_bytes());
    call
}

#[tokio::test]
async fn the_log_of_a_durable_call_is_there_before_its_end_is_reported() {
    let stage = Stage::new(1);
    for (id, epoch) in [("1", 1), ("2", 7)] {
        stage
            .source
            .send(printing(id, epoch, &format!("from {id}")))
            .await;
        stage.source.end_of(id).await;
        let log = log(&stage.source.said.borrow(), &lease(id, epoch));
        assert_eq!(log, format!("from {id}"));
    }
    assert_eq!(
        stage.bench.world.container_of("1"),
        stage.bench.world.container_of("2")
    );
    stage.end().await;
}

#[tokio::test]
async fn the_log_of_a_clients_call_is_kept_under_no_claim() {
    let stage = Stage::new(1);
    let mut printing = call(&target(&snapshot("f", 300)), "1", "echo");
    printing
        .headers
        .insert("print", "hello".parse().expect("a header"));
    soon(stage.bench.agent.submit(printing))
        .await
        .expect("an answer");
    let of = lease("1", 0);
    stage.source.until(|said| log(said, &of) == "hello").await;
    stage.end().await;
}

#[tokio::test]
async fn a_long_log_is_cut_at_the_limit() {
    let stage = Stage::new(1);
    stage.source.send(printing("1", 1, &"x".repeat(1001))).await;
    stage.source.end_of("1").await;
    let log = log(&stage.source.said.borrow(), &lease("1", 1));
    let line = "\n-----max log size 1000 bytes exceeded, truncating log-----\n";
    assert_eq!(log, "x".repeat(1000) + line);
    stage.end().await;
}

/// Logs are not worth a call.
#[tokio::test]
async fn a_report_does_not_wait_for_a_log_that_cannot_be_sent() {
    let stage = Stage::new(1);
    stage.source.set(|said| said.logs_down = true);
    stage.source.send(printing("1", 1, "lost?")).await;
    stage.source.end_of("1").await;
    stage.source.set(|said| said.logs_down = false);
    let of = lease("1", 1);
    stage.source.until(|said| log(said, &of) == "lost?").await;
    stage.end().await;
}

#[tokio::test]
async fn what_a_container_prints_that_does_not_come_up_is_in_the_log_of_the_call_it_was_started_for()
 {
    let stage = Stage::new(1);
    for (id, epoch) in [("1", 1), ("2", 7)] {
        let text = format!("{id} cannot start");
        stage
            .source
            .send(LeasedCall {
                snapshot: failing_to_start(&text),
                ..leased(id, epoch, "echo")
            })
            .await;
        stage.source.end_of(id).await;
        assert_eq!(log(&stage.source.said.borrow(), &lease(id, epoch)), text);
    }
    let waited_for = call(&target(&failing_to_start("nor this")), "3", "echo");
    soon(stage.bench.agent.submit(waited_for))
        .await
        .expect_err("no container");
    let of = lease("3", 0);
    stage
        .source
        .until(|said| log(said, &of) == "nor this")
        .await;
    stage.end().await;
}

#[tokio::test]
async fn a_long_log_of_a_start_is_cut_at_the_limit_too() {
    let stage = Stage::new(1);
    let mut call = leased("1", 1, "echo");
    call.snapshot = failing_to_start(&"x".repeat(5000));
    stage.source.send(call).await;
    stage.source.end_of("1").await;
    let log = log(&stage.source.said.borrow(), &lease("1", 1));
    let line = "\n-----max log size 1000 bytes exceeded, truncating log-----\n";
    assert_eq!(log, "x".repeat(1000) + line);
    stage.end().await;
}
