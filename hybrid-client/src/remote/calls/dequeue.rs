//! A running dequeue over gRPC: credits go in, work comes out, until either side has enough or the
//! link breaks.

use std::time::Duration;

use domain::ApiError;
use futures_util::{Stream, StreamExt as _, stream};
use proto::calls::dequeue_reply::What;
use proto::calls::dequeue_request::What as Asked;
use proto::calls::{DequeueHello, DequeueReply, DequeueRequest};
use proto::calls_messages::{lease_of, leased_call_of};
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::CallNodes;
use crate::calls::{Dequeue, Work};
use crate::remote::failover::Failover;
use crate::remote::why::Why;

/// Grants that wait to be sent. Whoever grants more waits.
const GRANTS: usize = 16;
/// Work that waits to be taken. More of it stays on the other side.
const WORK: usize = 16;
/// How often it is looked whether this node is still the one that is asked, and how often in a row it
/// must not be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS: u32 = 4;

/// Opens a dequeue at the first API node that lets it.
pub(super) async fn open(
    nodes: &CallNodes,
    runner_id: &str,
    capacity: u32,
) -> Result<Dequeue, ApiError> {
    let opening = |node: usize, _| {
        let (credits, granted) = mpsc::channel(GRANTS);
        let over = CancellationToken::new();
        let hello = DequeueHello {
            runner_id: runner_id.to_owned(),
            capacity,
        };
        let requests = requests(hello, granted, over.clone());
        let mut client = nodes.client(nodes.0.nodes.channel(node));
        async move {
            let replies = client.dequeue(requests).await?.into_inner();
            Ok((node, credits, replies, over))
        }
    };
    let failover = nodes.0.nodes.failover();
    let (node, credits, replies, over) = failover.run(nodes.patience(0), opening).await?;
    let (work, taken) = mpsc::channel(WORK);
    let inflow = Inflow {
        nodes: nodes.clone(),
        node,
        replies,
        work,
        credits: credits.downgrade(),
        over: over.clone(),
        _guard: over.drop_guard(),
    };
    // It ends when the work is taken no more.
    tokio::spawn(inflow.run());
    Ok(Dequeue {
        credits,
        work: taken,
    })
}

/// What the runner sends: what it is, and then credits, until it grants no more or all is `over`.
fn requests(
    hello: DequeueHello,
    mut granted: mpsc::Receiver<u32>,
    over: CancellationToken,
) -> impl Stream<Item = DequeueRequest> + Send + 'static {
    let request = |what| DequeueRequest { what: Some(what) };
    let credits = stream::poll_fn(move |context| granted.poll_recv(context));
    stream::once(std::future::ready(request(Asked::Hello(hello))))
        .chain(credits.map(move |credits| request(Asked::Credits(credits))))
        .take_until(over.cancelled_owned())
}

/// What the API node sends.
struct Inflow {
    nodes: CallNodes,
    node: usize,
    replies: Streaming<DequeueReply>,
    work: mpsc::Sender<Work>,
    credits: mpsc::WeakSender<u32>,
    /// Ends what the runner sends.
    over: CancellationToken,
    _guard: DropGuard,
}

impl Inflow {
    async fn run(mut self) {
        let nodes = &self.nodes.0.nodes;
        let receiving = receive(&mut self.replies, &self.work, &self.credits);
        let left = left_for_long(nodes.failover(), self.node);
        tokio::pin!(receiving, left);
        let ended = loop {
            tokio::select! {
                ended = &mut receiving => break ended,
                () = self.work.closed() => return,
                // The node sends what it has begun to send, and ends the stream.
                () = &mut left, if !self.over.is_cancelled() => self.over.cancel(),
            }
        };
        let why = ended.map_err(|status| Why(&status).to_string()).err();
        tracing::debug!(node = nodes.name(self.node), why, "a dequeue ended");
        // It stops, or is gone.
        nodes.failover().leave(self.node);
    }
}

/// Waits until another node than this one is asked for everything else, and not only for a moment. The
/// ends of calls are told there: the node that sent the calls would take them for running, and leave room
/// beside them.
async fn left_for_long(failover: &Failover, node: usize) {
    let mut looks = interval(LOOK_EVERY);
    let mut elsewhere = 0;
    while elsewhere < LOOKS {
        looks.tick().await;
        let is_elsewhere = failover.current() != node;
        elsewhere = if is_elsewhere { elsewhere + 1 } else { 0 };
    }
}

async fn receive(
    replies: &mut Streaming<DequeueReply>,
    work: &mpsc::Sender<Work>,
    credits: &mpsc::WeakSender<u32>,
) -> Result<(), Status> {
    while let Some(reply) = replies.message().await? {
        let news = match reply.what {
            Some(What::Call(call)) => match leased_call_of(call) {
                Ok(call) => Work::Run(Box::new(call)),
                // Its lease runs out, and another runner may be able to read it.
                Err(error) => {
                    tracing::warn!(%error, "a call of an API node is left: it cannot be read");
                    // It has used up a credit.
                    if let Some(credits) = credits.upgrade() {
                        let _ = credits.send(1).await;
                    }
                    continue;
                }
            },
            Some(What::Cancelled(lease)) => match lease_of(lease) {
                Ok(lease) => Work::Cancelled(lease),
                Err(error) => {
                    tracing::warn!(%error, "the end of a lease cannot be read");
                    continue;
                }
            },
            // A newer API node tells of something that is not known here.
            None => continue,
        };
        if work.send(news).await.is_err() {
            break;
        }
    }
    Ok(())
}
