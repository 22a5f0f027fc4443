//! The outcome of a call is reported exactly once, wherever the call is dropped, and a container
//! that is said to be fit is fit.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use proptest::prelude::*;

use super::*;

/// Polls a future at most so many times, then gives up on it.
struct Fuse<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Fuse<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.future.as_mut().poll(cx) {
            // As good as any wake-up: the next poll may find something new.
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(output) => Poll::Ready(Some(output)),
        }
    }
}

/// How far the function got with the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unseen,
    Seen,
    Answered,
}

/// Reads a request and answers it with pieces, between which others get their turn.
async fn serve(function: &mut Peer, pieces: &[Vec<u8>], stage: &Cell<Stage>) {
    let mut head = Vec::new();
    while !head.ends_with(b"0\r\n\r\n") {
        match function.stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        stage.set(Stage::Seen);
    }
    let mut written = Vec::new();
    for piece in pieces {
        if function.stream.write_all(piece).await.is_err() {
            return;
        }
        written.extend(piece);
        if answers().iter().any(|answer| written.starts_with(answer)) {
            stage.set(Stage::Answered);
        }
        tokio::task::yield_now().await;
    }
    // The connection stays open until the agent lets go of it, or is done.
    std::future::pending().await
}

/// One call that is dropped after so many polls of the dispatch, and then of the body. Returns
/// whether it came to its end.
async fn dropped_after(pieces: &[Vec<u8>], polls: usize, body_polls: usize) -> bool {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (done, mut reports) = reporter();
    let limits = Limits {
        buffer_bytes: 16,
        ..Limits::default()
    };
    let tasks = TaskTracker::new();
    let dispatcher = Dispatcher::new(limits, tasks.clone());
    let agent = async {
        let dispatched = Fuse {
            future: Box::pin(dispatcher.dispatch(link, call("input"), done)),
            polls,
        }
        .await;
        match dispatched {
            Some(Ok(answer)) => Fuse {
                future: Box::pin(answer.body.collect()),
                polls: body_polls,
            }
            .await
            .is_some_and(|body| body.is_ok()),
            _ => false,
        }
    };
    let stage = Cell::new(Stage::Unseen);
    let ended = {
        let mut agent = pin!(agent);
        let serve = serve(&mut function, pieces, &stage);
        tokio::select! {
            biased;
            ended = &mut agent => ended,
            () = serve => agent.await,
        }
    };
    let report = only_report(&mut reports).await;
    tasks.close();
    soon(tasks.wait()).await;
    let given_up = report.failed == Some(ErrorCode::ClientCancelled);
    match report.outcome {
        Outcome::Broken(Cause::ExtraBytes) => {}
        Outcome::Broken(cause) => assert!(!ended, "a whole answer, but {cause:?}"),
        Outcome::Reusable(link) => {
            assert_ne!(stage.get(), Stage::Seen, "the function is still at work");
            assert_eq!(given_up, stage.get() == Stage::Unseen, "it was not served");
            let (mut next, ()) = tokio::join!(dispatch(link, call("next")), async {
                // Over the same connection if it was kept.
                let mut function = tokio::select! {
                    biased;
                    new = container.listener.accept() => Peer { stream: new.expect("a connection").0 },
                    _ = function.stream.readable() => function,
                };
                let wire = function.request().await;
                assert_eq!(wire.body, b"next");
                function.answer("clean").await;
            });
            assert_eq!(next.text().await, "clean");
        }
    }
    ended
}

fn answers() -> Vec<Vec<u8>> {
    let texts = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall",
        "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n14\r\n01234567890123456789\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 502 Oops\r\nContent-Length: 5\r\n\r\nsorry",
        "HTTP/1.1 404 Oops\r\nContent-Length: 5\r\n\r\nsorry",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall and too much",
        "nonsense",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn split(bytes: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = at.iter().map(|at| at % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|cut| bytes[cut[0]..cut[1]].to_vec())
        .collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { soon(future).await })
}

#[test]
fn every_await_of_a_plain_call() {
    let answer = split(&answers()[0], &[10, 40]);
    let ended = (0..64).any(|polls| run(dropped_after(&answer, polls, usize::MAX)));
    assert!(ended, "the call ends after some number of polls");
}

#[test]
fn every_await_of_a_flowing_answer() {
    let answer = split(&answers()[3], &[85, 95]);
    let ended = (0..64).any(|polls| run(dropped_after(&answer, 64, polls)));
    assert!(ended, "the answer ends after some number of polls");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_answer_in_any_pieces_dropped_anywhere(
        which in 0..8usize,
        cuts in proptest::collection::vec(0..200usize, 0..6),
        polls in 0..24usize,
        body_polls in 0..12usize,
    ) {
        let answer = split(&answers()[which], &cuts);
        if which != 7 || polls < 12 {
            run(dropped_after(&answer, polls, body_polls));
        }
    }
}
