//! The publishing side: a task with a connection of its own, which sends what is to be published in
//! batches, and awaits the broker's confirms of each.

use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::link::{Happening, Link, LinkError, Pauses, answer};
use super::topology::Topology;
use crate::queue::QueueMetrics;

/// How long a publication may take in all.
const PUBLISH_LIMIT: Duration = Duration::from_secs(4);
/// How long the broker may take to confirm a batch; afterwards the connection is given up, since its
/// confirms can no longer be told apart.
const BATCH_LIMIT: Duration = Duration::from_secs(3);
/// A queue that confirmed nothing on so many connections in a row, all of which came about, is broken.
/// RabbitMQ leaves such queues behind when it is killed within half a second of their declaration: it
/// knows of them, and nobody serves them, for ever.
const BROKEN_AFTER: u32 = 3;
/// The most messages of a batch: the window of what is sent and not confirmed.
const BATCH: usize = 1024;
/// How many publications may wait for the batches before theirs; more wait to be let in.
const WAITING: usize = 256;
/// Between two looks at the dead letters.
const DEAD_INTERVAL: Duration = Duration::from_secs(5);
/// What the broker is silent about when it does not confirm.
const CONFIRMING: &str = "confirming messages";
/// What marks a message as one to be kept on disk.
const PERSISTENT: u8 = 2;

/// Whether messages can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is no broker.
    Down,
    /// There is one.
    Up,
    /// There is one, and it has no room.
    Blocked,
}

/// The way to the task.
pub(super) struct Publisher {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<State>,
}

struct Job {
    bodies: Vec<Vec<u8>>,
    answer: oneshot::Sender<Vec<bool>>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Confirmed,
    /// There was no queue for it.
    Returned,
    Nacked,
}

impl Publisher {
    /// A publisher, and the task that has to run for it.
    pub(super) fn new(address: Address, topology: Topology, metrics: QueueMetrics) -> (Self, Task) {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (announced, state) = watch::channel(State::Down);
        let task = Task {
            address,
            topology,
            metrics,
            jobs: waiting,
            state: announced,
        };
        (Self { jobs, state }, task)
    }

    /// Publishes messages, and tells which of them were confirmed.
    pub(super) async fn publish(&self, bodies: Vec<Vec<u8>>) -> Vec<bool> {
        let nothing = vec![false; bodies.len()];
        if bodies.is_empty() || self.state() != State::Up {
            return nothing;
        }
        let (answer, answered) = oneshot::channel();
        let published = async {
            self.jobs.send(Job { bodies, answer }).await.ok()?;
            answered.await.ok()
        };
        let confirmed = timeout(PUBLISH_LIMIT, published).await;
        confirmed.ok().flatten().unwrap_or(nothing)
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }
}

/// Keeps the connection, and publishes.
pub(super) struct Task {
    address: Address,
    topology: Topology,
    metrics: QueueMetrics,
    jobs: mpsc::Receiver<Job>,
    state: watch::Sender<State>,
}

/// What a connection is used for.
struct Session {
    link: Link,
    /// Of which the confirms come.
    channel: Channel,
    /// Looks at the dead letters.
    probe: JoinSet<LinkError>,
    /// Whether anything was confirmed.
    confirmed: bool,
}

/// Why a connection is over.
struct Loss {
    error: LinkError,
    /// It was asked for confirms, and there was none at all.
    mute: bool,
}

impl Task {
    /// Runs until it is cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let _ = cancel.run_until_cancelled(self.keep_connected()).await;
        self.become_(State::Down);
    }

    async fn keep_connected(&mut self) {
        let mut pauses = Pauses::new();
        let mut told = None;
        let mut mute = 0;
        loop {
            let (address, topology) = (self.address.clone(), self.topology.clone());
            let metrics = self.metrics.clone();
            let connecting = Session::open(&address, &topology, &metrics);
            let error = match self.refuse_until(connecting).await {
                Ok(session) if mute >= BROKEN_AFTER => {
                    mute = 0;
                    self.refuse_until(session.delete_queue(&topology)).await
                }
                Ok(session) => {
                    tracing::info!(broker = %address, queue = %topology.queue, "the queue can be reached");
                    (told, pauses) = (None, Pauses::new());
                    self.become_(State::Up);
                    let loss = self.serve(session).await;
                    self.become_(State::Down);
                    mute = if loss.mute { mute + 1 } else { 0 };
                    loss.error
                }
                Err(error) => {
                    // That is no fault of the queue.
                    mute = 0;
                    error
                }
            };
            let text = error.to_string();
            // A trouble that lasts is told once.
            if told.as_ref() != Some(&text) {
                tracing::warn!(broker = %address, queue = %topology.queue, error = %text, "the queue cannot be reached");
                told = Some(text);
            }
            self.refuse_until(pauses.pause()).await;
        }
    }

    fn state(&self) -> State {
        *self.state.borrow()
    }

    fn become_(&self, state: State) {
        self.state.send_replace(state);
        self.metrics.up(state != State::Down);
        self.metrics.blocked(state == State::Blocked);
    }

    /// Answers that nothing was confirmed as long as `future` takes.
    async fn refuse_until<T>(&mut self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        loop {
            tokio::select! {
                result = &mut future => return result,
                Some(job) = self.jobs.recv() => job.refuse(),
            }
        }
    }

    /// Publishes what comes, until the connection is lost.
    async fn serve(&mut self, mut session: Session) -> Loss {
        loop {
            let result = tokio::select! {
                happening = session.link.happening() => self.react(&mut session, happening).await,
                Some(error) = session.probe.join_next() => Err(error.unwrap_or(LinkError::Silent("counting dead letters"))),
                Some(job) = self.jobs.recv() => match self.state() {
                    State::Up => self.publish(&mut session, job).await,
                    State::Down | State::Blocked => {
                        job.refuse();
                        Ok(())
                    }
                },
            };
            if let Err(error) = result {
                let silent = matches!(error, LinkError::Silent(what) if what == CONFIRMING);
                let mute = silent && !session.confirmed;
                session.close().await;
                return Loss { error, mute };
            }
        }
    }

    async fn react(&self, session: &mut Session, happening: Happening) -> Result<(), LinkError> {
        match happening {
            Happening::Blocked(reason) => {
                tracing::warn!(broker = %self.address, reason, "the broker takes no messages");
                self.become_(State::Blocked);
                // It does not answer questions either.
                session.probe.shutdown().await;
            }
            Happening::Unblocked => {
                tracing::info!(broker = %self.address, "the broker takes messages again");
                // Confirms of what was on its way may come yet, on the channel before.
                session.renew(&self.topology, &self.metrics).await?;
                self.become_(State::Up);
            }
            Happening::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Publishes a job and those that wait behind it.
    async fn publish(&mut self, session: &mut Session, first: Job) -> Result<(), LinkError> {
        let mut messages = first.bodies.len();
        let mut jobs = vec![first];
        while messages < BATCH
            && let Ok(job) = self.jobs.try_recv()
        {
            messages += job.bodies.len();
            jobs.push(job);
        }
        let bodies: Vec<&[u8]> = jobs
            .iter()
            .flat_map(|job| job.bodies.iter().map(Vec::as_slice))
            .collect();
        let mut fates = Vec::with_capacity(messages);
        let mut result = Ok(());
        for batch in bodies.chunks(BATCH) {
            match self.publish_batch(session, batch).await {
                Ok(Some(batch)) => fates.extend(batch),
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let returned = fates.contains(&Fate::Returned);
        if returned || result.is_err() {
            // Before the answers, so that who is told looks for the queue's return.
            self.become_(State::Down);
        }
        let mut fates = fates.into_iter();
        for job in jobs {
            let confirmed: Vec<bool> = job
                .bodies
                .iter()
                .map(|_| fates.next() == Some(Fate::Confirmed))
                .collect();
            // Who asked may have given up waiting.
            let _ = job.answer.send(confirmed);
        }
        match result {
            // Not declared again at once: the broker would move consumers that it has not told yet to
            // the new queue, and forget to feed them.
            Ok(()) if returned => Err(LinkError::QueueGone),
            result => result,
        }
    }

    /// None if the broker blocked the connection meanwhile.
    async fn publish_batch(
        &self,
        session: &mut Session,
        bodies: &[&[u8]],
    ) -> Result<Option<Vec<Fate>>, LinkError> {
        let channel = session.channel.clone();
        let sending = send(&channel, &self.topology.queue, bodies);
        tokio::pin!(sending);
        let late = sleep(BATCH_LIMIT);
        tokio::pin!(late);
        loop {
            let happening = tokio::select! {
                biased;
                fates = &mut sending => {
                    let fates = fates?;
                    session.confirmed = true;
                    for fate in &fates {
                        match fate {
                            Fate::Confirmed => {}
                            Fate::Returned => self.metrics.returned(),
                            Fate::Nacked => self.metrics.nacked(),
                        }
                    }
                    return Ok(Some(fates));
                }
                happening = session.link.happening() => happening,
                () = &mut late => return Err(LinkError::Silent(CONFIRMING)),
            };
            self.react(session, happening).await?;
            if self.state() == State::Blocked {
                return Ok(None);
            }
        }
    }
}

impl Job {
    fn refuse(self) {
        let nothing = vec![false; self.bodies.len()];
        // Who asked may have given up waiting.
        let _ = self.answer.send(nothing);
    }
}

impl Session {
    async fn open(
        address: &Address,
        topology: &Topology,
        metrics: &QueueMetrics,
    ) -> Result<Self, LinkError> {
        let link = Link::connect(address, topology, "publisher").await?;
        let mut session = Self {
            channel: confirming_channel(&link).await?,
            link,
            probe: JoinSet::new(),
            confirmed: false,
        };
        session.watch_dead_letters(topology, metrics).await?;
        Ok(session)
    }

    /// Goes on with new channels.
    async fn renew(
        &mut self,
        topology: &Topology,
        metrics: &QueueMetrics,
    ) -> Result<(), LinkError> {
        self.channel = confirming_channel(&self.link).await?;
        self.watch_dead_letters(topology, metrics).await
    }

    async fn watch_dead_letters(
        &mut self,
        topology: &Topology,
        metrics: &QueueMetrics,
    ) -> Result<(), LinkError> {
        let channel = self.link.channel().await?;
        let (topology, metrics) = (topology.clone(), metrics.clone());
        self.probe.shutdown().await;
        self.probe.spawn(async move {
            let mut ticks = interval(DEAD_INTERVAL);
            loop {
                ticks.tick().await;
                match answer("counting dead letters", topology.count_dead(&channel)).await {
                    Ok(count) => metrics.dead_letters(count),
                    Err(error) => return error,
                }
            }
        });
        Ok(())
    }

    /// The store has what was in the queue, and rings again. It is not declared again at once; see
    /// [`Task::publish`].
    async fn delete_queue(self, topology: &Topology) -> LinkError {
        let deleted = self.link.delete_queue(topology).await;
        self.close().await;
        deleted.err().unwrap_or(LinkError::QueueBroken)
    }

    async fn close(mut self) {
        self.probe.shutdown().await;
        self.link.close().await;
    }
}

async fn confirming_channel(link: &Link) -> Result<Channel, LinkError> {
    let channel = link.channel().await?;
    let options = ConfirmSelectOptions::default();
    answer("turning confirms on", channel.confirm_select(options)).await?;
    Ok(channel)
}

/// Sends messages and awaits what becomes of them. Nothing else may be on its way on this channel.
async fn send(
    channel: &Channel,
    queue: &ShortString,
    bodies: &[&[u8]],
) -> lapin::Result<Vec<Fate>> {
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT);
    let confirmations = join_all(bodies.iter().enumerate().map(|(number, body)| {
        let properties = properties
            .clone()
            .with_message_id(number.to_string().into());
        async move {
            channel
                .basic_publish(
                    ShortString::default(),
                    queue.clone(),
                    mandatory,
                    body,
                    properties,
                )
                .await?
                .await
        }
    }))
    .await;
    let mut fates = vec![Fate::Confirmed; bodies.len()];
    for (number, confirmation) in confirmations.into_iter().enumerate() {
        let confirmation = confirmation?;
        if confirmation.is_nack() {
            fates[number] = Fate::Nacked;
        }
        // The library hands a returned message out with whichever confirm comes next.
        let returned = confirmation.take_message().and_then(|message| {
            let number = message.properties.message_id().as_ref()?;
            number.as_str().parse::<usize>().ok()
        });
        if let Some(fate) = returned.and_then(|number| fates.get_mut(number)) {
            *fate = Fate::Returned;
        }
    }
    Ok(fates)
}
