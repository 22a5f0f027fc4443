//! A runner that sleeps over its leases: it holds calls until they have long been given to others,
//! and then reports that they succeeded.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use domain::call::{AttemptEnd, AttemptOutcome, CallResult, LeasedCall};
use hearth_tests::ledger::Ledger;
use hearth_tests::random::Random;
use hybrid_client::{
    ApiNode, ApiNodes, RemoteCalls, RemoteCallsSettings, RemoteSettings, Work, WorkSource,
};
use nodekit::config::GrpcConfig;
use nodekit::grpc_channel::{GrpcChannels, PeerKind};
use nodekit::tls::Role;

use super::LEASE;
use super::natures::Nature;
use super::troubles::{Control, Count};

/// Its name as a runner.
const NAME: &str = "sleepwalker";

/// The runner.
pub(super) struct Sleepwalker<'a> {
    pub(super) source: RemoteCalls,
    /// What the functions do, by their ids.
    pub(super) natures: HashMap<String, Nature>,
    /// Where it says what it runs, as a function would.
    pub(super) ledger: &'a Ledger,
}

/// Asks the API nodes at these addresses, the first one first.
pub(super) fn source(addresses: &[String]) -> RemoteCalls {
    let channels = GrpcChannels::new(&GrpcConfig::default(), None, Role::Api);
    let node = |address: &String| {
        let address = channels.address(address).expect("an address");
        let peer = channels.connect(address, PeerKind::Hearth);
        let peer = peer.expect("a channel");
        ApiNode {
            name: peer.address().to_string(),
            channel: peer.channel(),
        }
    };
    let nodes = addresses.iter().map(node).collect();
    let nodes = ApiNodes::new(nodes, RemoteSettings::default(), || 0).expect("nodes");
    RemoteCalls::new(nodes, RemoteCallsSettings::default())
}

impl Sleepwalker<'_> {
    /// Takes calls until the end, a few at a time.
    pub(super) async fn walk(self, state: u64, control: Control) -> Count {
        let walk = |number| self.alone(Random::of(state, u64::MAX - 2 - number), &control);
        let (one, two, three) = tokio::join!(walk(0), walk(1), walk(2));
        let mut count = one;
        for (what, times) in two.into_iter().chain(three) {
            *count.entry(what).or_default() += times;
        }
        count
    }

    /// Takes one call after the other.
    async fn alone(&self, mut random: Random, control: &Control) -> Count {
        let mut count = Count::new();
        loop {
            if control.pause(random.millis(50, 500)).await {
                return count;
            }
            // Until somebody else is in the middle of it.
            let sleeps = LEASE + random.millis(1_000, 4_000);
            let Some(call) = self.next(control).await else {
                continue;
            };
            let func = call.snapshot.func.id.as_str();
            if !matches!(self.natures.get(func), Some(Nature::Slow)) {
                self.finish(&call, AttemptOutcome::Returned).await;
                continue;
            }
            // Else the function must not see it.
            if self.source.start(NAME, call.lease.clone()).await.is_err() {
                continue;
            }
            let id = &call.lease.call_id;
            self.ledger.enter(format!("begin {id} {}", call.attempt));
            tokio::time::sleep(sleeps).await;
            self.ledger.enter(format!("end {id} {}", call.attempt));
            let outcome = AttemptOutcome::Answered {
                status: 200,
                retry_after: None,
                result: CallResult {
                    status: 200,
                    body: Bytes::from_static(b"walked in sleep"),
                    ..CallResult::default()
                },
            };
            let counts = self.finish(&call, outcome).await;
            let name = match counts {
                Some(true) => "late reports that counted",
                Some(false) => "late reports that were refused",
                None => "late reports that got lost",
            };
            *count.entry(name).or_default() += 1;
        }
    }

    /// The next call that it is given; nothing at the end, or when nobody gives it any.
    async fn next(&self, control: &Control) -> Option<LeasedCall> {
        let mut dequeue = self.source.dequeue(Arc::from(NAME), 1).await.ok()?;
        dequeue.credits.send(1).await.ok()?;
        tokio::select! {
            work = dequeue.work.recv() => match work? {
                Work::Run(call) => Some(*call),
                Work::Cancelled(_) => None,
            },
            () = control.over() => None,
        }
    }

    async fn finish(&self, call: &LeasedCall, outcome: AttemptOutcome) -> Option<bool> {
        let end = AttemptEnd {
            lease: call.lease.clone(),
            outcome,
        };
        self.source.finish(NAME, end).await.ok()
    }
}
