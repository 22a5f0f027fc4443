//! No call runs twice, whatever happens to it on the way.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;
use nodekit::body;
use proptest::prelude::*;
use proto::runner_extension::{Outcome, carry_in};

use crate::balancer::{Balancer, call, whole};
use crate::carrying::Carrying;
use crate::peer::{Exchange, Net, Peer};

/// What becomes of a call at a runner.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    Refused,
    RefusedByStatus,
    RefusedByReset,
    CutAtOnce,
    CutAfterInput,
    CutWithinAnswer,
    Reset,
    ResetAfterHead,
    Status,
    Failed,
    /// On a stream of many: answered when another call has come, or after a while.
    Late,
    /// The same: the runner ends the stream, and has begun nothing that it has not told of.
    Ended,
}

const FATES: [Fate; 13] = [
    Fate::Answered,
    Fate::Refused,
    Fate::RefusedByStatus,
    Fate::RefusedByReset,
    Fate::CutAtOnce,
    Fate::CutAfterInput,
    Fate::CutWithinAnswer,
    Fate::Reset,
    Fate::ResetAfterHead,
    Fate::Status,
    Fate::Failed,
    Fate::Late,
    Fate::Ended,
];

impl Fate {
    /// Whether the runner had the call for itself.
    fn is_executed(self) -> bool {
        !matches!(
            self,
            Self::Refused | Self::RefusedByStatus | Self::RefusedByReset | Self::Ended
        )
    }

    async fn meet(self, mut exchange: Exchange) {
        match self {
            Self::Answered | Self::Late => exchange.echo().await,
            Self::Refused | Self::Ended => exchange.refuse().await,
            Self::RefusedByStatus => exchange.end("503"),
            Self::RefusedByReset => exchange.reset(Reason::REFUSED_STREAM),
            Self::CutAtOnce => exchange.peer().cut(),
            Self::CutAfterInput => {
                exchange.input().await;
                exchange.peer().cut();
            }
            Self::CutWithinAnswer => {
                exchange.start(&[]).await;
                exchange.data("x").await;
                exchange.peer().cut();
            }
            Self::Reset => exchange.reset(Reason::CANCEL),
            Self::ResetAfterHead => {
                exchange.start(&[]).await;
                // So that the head is on its way: the library drops it otherwise.
                tokio::time::sleep(Duration::from_millis(1)).await;
                exchange.reset(Reason::REFUSED_STREAM);
            }
            Self::Status => exchange.end("14"),
            Self::Failed => {
                exchange
                    .finished(crate::peer::failure(500, "x", false))
                    .await;
                exchange.end("0");
            }
        }
    }
}

/// How often each call was executed.
type Executions = Arc<Mutex<HashMap<String, usize>>>;

fn runner(net: &Net, address: &str, fates: Vec<Fate>, shared: bool, executions: &Executions) {
    let (fates, executions) = (Mutex::new(fates.into_iter().cycle()), executions.clone());
    let next = Arc::new(move |id: &str| {
        let fate = fates.lock().expect("not poisoned").next();
        let fate = fate.unwrap_or(Fate::Answered);
        if fate.is_executed() {
            let mut executions = executions.lock().expect("not poisoned");
            *executions.entry(id.to_owned()).or_default() += 1;
        }
        fate
    });
    let same = Arc::clone(&next);
    let peer = Peer::start(net, address, move |exchange| {
        Box::pin(next(&exchange.id).meet(exchange))
    });
    if shared {
        peer.carry(move |stream| Box::pin(meet_all(stream, Arc::clone(&same))));
    }
}

/// The same on a stream of many calls.
async fn meet_all(mut stream: Carrying, next: Arc<impl Fn(&str) -> Fate>) {
    // Those that run, which another call finishes, and those that do something with their input.
    let (mut late, mut reading) = (BTreeSet::new(), HashMap::new());
    loop {
        let idle = Duration::from_millis(if late.is_empty() { 1_000_000 } else { 50 });
        let message = match tokio::time::timeout(idle, stream.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(_) => {
                for late in std::mem::take(&mut late) {
                    stream.answer(late, "late").await;
                }
                continue;
            }
        };
        let number = message.call;
        let (fate, eof) = match message.body.expect("a body") {
            carry_in::Body::Begin(begin) => {
                let fate = next(&begin.id);
                for late in std::mem::take(&mut late) {
                    stream.answer(late, "late").await;
                }
                (fate, begin.eof)
            }
            carry_in::Body::Piece(piece) => match reading.get(&number) {
                Some(fate) => (*fate, piece.eof),
                None => continue,
            },
            carry_in::Body::Cancel(_) => {
                late.remove(&number);
                reading.remove(&number);
                continue;
            }
            carry_in::Body::Credit(_) => continue,
        };
        match fate {
            Fate::Answered | Fate::CutAfterInput if !eof => {
                reading.insert(number, fate);
            }
            Fate::Answered => {
                reading.remove(&number);
                stream.answer(number, "done").await;
            }
            Fate::Late => drop(late.insert(number)),
            Fate::Refused | Fate::RefusedByStatus | Fate::RefusedByReset => {
                stream.refuse(number).await;
            }
            Fate::Failed => {
                let outcome = Outcome {
                    error: "Internal".to_owned(),
                    error_status: 500,
                    ..Outcome::default()
                };
                stream.outcome(number, outcome).await;
            }
            Fate::CutAtOnce | Fate::CutAfterInput => return stream.peer().cut(),
            Fate::CutWithinAnswer => {
                stream.head(number).await;
                stream.data(number, "x").await;
                return stream.peer().cut();
            }
            Fate::Reset => return stream.reset(Reason::CANCEL),
            Fate::ResetAfterHead => {
                stream.head(number).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                return stream.reset(Reason::REFUSED_STREAM);
            }
            Fate::Status => return stream.end("14"),
            Fate::Ended => {
                for number in reading.into_keys() {
                    stream.answer(number, "done").await;
                }
                return stream.end("0");
            }
        }
    }
}

fn play(fates: [Vec<Fate>; 3], shared: [bool; 3], calls: usize) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (net, executions) = (Net::default(), Executions::default());
        let addresses = ["a:1", "b:1", "c:1"].into_iter().zip(shared);
        for ((address, shared), fates) in addresses.zip(fates) {
            runner(&net, address, fates, shared, &executions);
        }
        let balancer = Balancer::new(&net, &["a:1", "b:1", "c:1"]);
        let running: Vec<_> = (0..calls)
            .map(|number| {
                let placed = balancer.placed.clone();
                tokio::spawn(async move {
                    // Some come together, some later.
                    tokio::time::sleep(Duration::from_millis(number as u64 / 3 * 10)).await;
                    let mut call = call(body::full(vec![b'x'; number * 997]));
                    let patience = Duration::from_secs(3);
                    call.wait_deadline = Some(call.arrived + patience);
                    let id = call.id.to_string();
                    let limit = patience + Duration::from_secs(3);
                    let answer = tokio::time::timeout(limit, async {
                        whole(lb::Runner::run(&*placed, call).await?).await
                    });
                    (id, answer.await)
                })
            })
            .collect();
        for running in running {
            let (id, answer) = running.await.expect("no panic");
            let times = executions.lock().expect("not poisoned").get(&id).copied();
            let times = times.unwrap_or_default();
            prop_assert!(times <= 1, "{} ran {} times", id, times);
            let answer = answer.map_err(|_| TestCaseError::fail("a client without an answer"))?;
            prop_assert!(
                answer.is_err() || times == 1,
                "an answer without an execution"
            );
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_call_is_executed_twice_and_each_has_an_answer(
        fates in prop::array::uniform3(prop::collection::vec(prop::sample::select(&FATES[..]), 1..8)),
    ) {
        play(fates, [false; 3], 12)?;
    }

    #[test]
    fn nor_on_streams_of_many(
        fates in prop::array::uniform3(prop::collection::vec(prop::sample::select(&FATES[..]), 1..8)),
        own in any::<bool>(),
    ) {
        // Perhaps one of the runners is an original one.
        play(fates, [true, !own, true], 24)?;
    }
}
