//! No call runs twice, whatever happens to it on the way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;
use nodekit::body;
use proptest::prelude::*;

use crate::balancer::{Balancer, call, whole};
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
}

const FATES: [Fate; 11] = [
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
];

impl Fate {
    /// Whether the runner had the call for itself.
    fn is_executed(self) -> bool {
        !matches!(
            self,
            Self::Refused | Self::RefusedByStatus | Self::RefusedByReset
        )
    }

    async fn meet(self, mut exchange: Exchange) {
        match self {
            Self::Answered => exchange.echo().await,
            Self::Refused => exchange.refuse().await,
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

fn runner(net: &Net, address: &str, fates: Vec<Fate>, executions: &Executions) {
    let (fates, executions) = (Mutex::new(fates.into_iter().cycle()), executions.clone());
    Peer::start(net, address, move |exchange| {
        let fate = fates
            .lock()
            .expect("not poisoned")
            .next()
            .unwrap_or(Fate::Answered);
        if fate.is_executed() {
            let mut executions = executions.lock().expect("not poisoned");
            *executions.entry(exchange.id.clone()).or_default() += 1;
        }
        Box::pin(fate.meet(exchange))
    });
}

fn play(fates: [Vec<Fate>; 3], calls: usize) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (net, executions) = (Net::default(), Executions::default());
        for (address, fates) in ["a:1", "b:1", "c:1"].into_iter().zip(fates) {
            runner(&net, address, fates, &executions);
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
        play(fates, 12)?;
    }
}
