//! What is promised of group commit, without a store.

use std::sync::Mutex;

use tokio::sync::watch;

use super::*;

/// Doubles numbers; notes the batches; fails as it is told to, and waits for its gate.
struct Doubling {
    batches: Arc<Mutex<Vec<Vec<u32>>>>,
    gate: watch::Receiver<bool>,
}

/// A number that no batch can take.
const BAD: u32 = 13;
/// A number with which the store is away.
const AWAY: u32 = 99;

#[async_trait]
impl Commit for Doubling {
    type Item = u32;
    type Answer = u32;
    const KEEPS_ABANDONED: bool = false;

    fn weight(item: &u32) -> usize {
        usize::try_from(*item).unwrap_or(0) * PAGE / 10
    }

    async fn commit(&self, items: Vec<u32>) -> Result<Vec<Result<u32, ApiError>>, ApiError> {
        self.batches.lock().expect("a lock").push(items.clone());
        let mut gate = self.gate.clone();
        gate.wait_for(|open| *open).await.expect("a gate");
        if items.contains(&AWAY) {
            return Err(ErrorCode::StoreUnavailable.into());
        }
        if items.contains(&BAD) {
            return Err(ApiError::internal("bad"));
        }
        Ok(items.into_iter().map(|item| Ok(item * 2)).collect())
    }
}

struct Fixture {
    batcher: Batcher<Doubling>,
    batches: Arc<Mutex<Vec<Vec<u32>>>>,
    gate: watch::Sender<bool>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

const LIMIT: Duration = Duration::from_secs(2);
const LIMITS: BatchLimits = BatchLimits {
    items: 4,
    bytes: usize::MAX,
    parallel: 1,
    waiting: 8,
    waiting_bytes: 1000 * PAGE,
};

fn fixture(limits: BatchLimits) -> Fixture {
    let (gate, open) = watch::channel(false);
    let batches = Arc::new(Mutex::new(vec![]));
    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let commit = Doubling {
        batches: Arc::clone(&batches),
        gate: open,
    };
    Fixture {
        batcher: Batcher::start(commit, limits, &tasks, closing.clone()),
        batches,
        gate,
        tasks,
        closing,
    }
}

impl Fixture {
    fn hand_in(&self, item: u32) -> oneshot::Receiver<Result<u32, ApiError>> {
        self.batcher.hand_in(item).expect("there is room")
    }

    /// Waits until the first batch is under way.
    async fn busy(&self) {
        while self.batches().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn batches(&self) -> Vec<Vec<u32>> {
        self.batches.lock().expect("a lock").clone()
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_shares_the_next_batch_and_a_lone_item_waits_for_nobody() {
    let fixture = fixture(LIMITS);
    let mut answers = vec![fixture.hand_in(1)];
    fixture.busy().await;
    answers.extend((2..8).map(|item| fixture.hand_in(item)));
    fixture.gate.send_replace(true);
    for (answer, item) in answers.into_iter().zip(1..) {
        let answer = answer.await.expect("an answer").expect("a number");
        assert_eq!(answer, item * 2);
    }
    let batches: Vec<Vec<u32>> = vec![vec![1], vec![2, 3, 4, 5], vec![6, 7]];
    assert_eq!(fixture.batches(), batches);
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_fails_alone() {
    let fixture = fixture(LIMITS);
    let first = fixture.hand_in(1);
    fixture.busy().await;
    let answers: Vec<_> = [2, BAD, 3].map(|item| fixture.hand_in(item)).into();
    fixture.gate.send_replace(true);
    first.await.expect("an answer").expect("a number");
    let mut results = vec![];
    for answer in answers {
        results.push(answer.await.expect("an answer").ok());
    }
    assert_eq!(results, [Some(4), None, Some(6)]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_not_asked_again_for_each_item() {
    let fixture = fixture(LIMITS);
    let first = fixture.hand_in(1);
    fixture.busy().await;
    let answers: Vec<_> = [2, AWAY].map(|item| fixture.hand_in(item)).into();
    fixture.gate.send_replace(true);
    first.await.expect("an answer").expect("a number");
    for answer in answers {
        let error = answer.await.expect("an answer").expect_err("it is away");
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    }
    assert_eq!(fixture.batches().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn too_many_items_and_too_many_bytes_are_refused_at_once() {
    let fixture = fixture(LIMITS);
    let _first = fixture.hand_in(1);
    fixture.busy().await;
    let _second = fixture.hand_in(1);
    // The collector holds one more while it waits for its worker.
    tokio::task::yield_now().await;
    let waiting: Vec<_> = (0..8).map(|_| fixture.hand_in(1)).collect();
    let refused = fixture.batcher.hand_in(1).expect_err("it is full");
    assert_eq!(refused.code(), ErrorCode::ServerBusy);
    drop(waiting);

    let fixture = self::fixture(BatchLimits {
        waiting_bytes: 10 * PAGE,
        ..LIMITS
    });
    let _half = fixture.hand_in(60);
    let refused = fixture.batcher.hand_in(60).expect_err("it is too much");
    assert_eq!(refused.code(), ErrorCode::ServerBusy);
}

#[tokio::test(start_paused = true)]
async fn who_waited_too_long_is_told_and_what_was_not_begun_is_not_done() {
    let fixture = fixture(LIMITS);
    let first = fixture.hand_in(1);
    fixture.busy().await;
    let error = fixture.batcher.submit(2, LIMIT).await.expect_err("late");
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    fixture.gate.send_replace(true);
    first.await.expect("an answer").expect("a number");
    fixture.batcher.submit(3, LIMIT).await.expect("a number");
    assert_eq!(fixture.batches(), vec![vec![1], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn closing_does_what_was_taken_and_takes_no_more() {
    let fixture = fixture(LIMITS);
    let first = fixture.hand_in(1);
    fixture.busy().await;
    let second = fixture.hand_in(2);
    fixture.closing.cancel();
    fixture.gate.send_replace(true);
    first.await.expect("an answer").expect("a number");
    second.await.expect("an answer").expect("a number");
    fixture.tasks.close();
    fixture.tasks.wait().await;
    assert!(fixture.batcher.hand_in(3).is_err());
}
