//! A source of work that follows a script and writes down what it is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::call::{AttemptEnd, AttemptOutcome, LeaseRef, LeasedCall};
use domain::{ApiError, ErrorCode};
use hybrid_client::{Dequeue, LogChunk, Work, WorkSource};
use tokio::sync::{mpsc, watch};

use crate::agent::tests::soon;

/// What the source has been told, and how it answers.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Open connections so far.
    pub(crate) opened: usize,
    /// Credits of the last connection that were not used.
    pub(crate) credits: u32,
    /// Questions whether a call may start, in order.
    pub(crate) starts: Vec<LeaseRef>,
    /// Questions whether leases hold.
    pub(crate) renewals: Vec<Vec<LeaseRef>>,
    /// Reports, accepted ones and others.
    pub(crate) ends: Vec<AttemptEnd>,
    /// Logs.
    pub(crate) chunks: Vec<LogChunk>,
    /// It answers nothing.
    pub(crate) down: bool,
    /// It takes no answers, for good.
    pub(crate) answers_refused: bool,
    /// It takes no logs.
    pub(crate) logs_down: bool,
    /// Questions whether a call may start are left without an answer.
    pub(crate) start_held: bool,
    /// Leases that do not hold.
    pub(crate) lost: HashSet<LeaseRef>,
}

/// The source.
pub(crate) struct Source {
    pub(crate) said: watch::Sender<Said>,
    link: watch::Sender<Option<mpsc::Sender<Work>>>,
    /// How long leases are renewed for.
    lease_for: Duration,
}

impl Source {
    pub(crate) fn new(lease_for: Duration) -> Arc<Self> {
        Arc::new(Self {
            said: watch::Sender::default(),
            link: watch::Sender::new(None),
            lease_for,
        })
    }

    /// Changes how it answers from now on.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Said)) {
        self.said.send_modify(change);
    }

    /// The first claim of the call does not hold any more.
    pub(crate) fn lose(&self, id: &str) {
        let lease = super::lease(id, 1);
        self.set(|said| {
            said.lost.insert(lease);
        });
    }

    /// Waits until it has been told enough.
    pub(crate) async fn until(&self, condition: impl Fn(&Said) -> bool) {
        let mut said = self.said.subscribe();
        drop(
            soon(said.wait_for(|said| condition(said)))
                .await
                .expect("it lives"),
        );
    }

    /// Waits for a credit, and uses it for a call.
    pub(crate) async fn send(&self, call: LeasedCall) {
        self.until(|said| said.credits > 0).await;
        self.said.send_modify(|said| said.credits -= 1);
        self.tell(Work::Run(Box::new(call))).await;
    }

    /// Sends without a credit.
    pub(crate) async fn tell(&self, work: Work) {
        self.way().send(work).await.expect("connected");
    }

    /// The way on which calls are sent; it keeps the connection open.
    pub(crate) fn way(&self) -> mpsc::Sender<Work> {
        self.link.borrow().clone().expect("a connection")
    }

    /// Ends the connection.
    pub(crate) fn cut(&self) {
        self.link.send_replace(None);
    }

    /// Waits for the reports on a call, and returns the last of them.
    pub(crate) async fn end_of(&self, id: &str) -> AttemptOutcome {
        let of = |end: &&AttemptEnd| end.lease.call_id.as_str() == id;
        self.until(|said| said.ends.iter().any(|end| of(&end)))
            .await;
        let said = self.said.borrow();
        let end = said.ends.iter().rev().find(of).expect("a report");
        end.outcome.clone()
    }

    fn unless_down(&self) -> Result<(), ApiError> {
        match self.said.borrow().down {
            true => Err(ErrorCode::StoreUnavailable.into()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl WorkSource for Source {
    async fn dequeue(&self, runner_id: Arc<str>, capacity: u32) -> Result<Dequeue, ApiError> {
        assert_eq!((&*runner_id, capacity > 0), ("runner", true));
        self.unless_down()?;
        let (credits, mut granted) = mpsc::channel(4);
        let (sender, work) = mpsc::channel(4);
        self.link.send_replace(Some(sender));
        let mut number = 0;
        self.said.send_modify(|said| {
            said.opened += 1;
            said.credits = 0;
            number = said.opened;
        });
        let (said, link) = (self.said.clone(), self.link.clone());
        tokio::spawn(async move {
            while let Some(credits) = granted.recv().await {
                said.send_modify(|said| said.credits += credits);
            }
            // As it is with a connection: who grants nothing any more is done with it.
            if said.borrow().opened == number {
                link.send_replace(None);
            }
        });
        Ok(Dequeue { credits, work })
    }

    async fn start(&self, runner_id: &str, lease: LeaseRef) -> Result<(), ApiError> {
        assert_eq!(runner_id, "runner");
        self.said
            .send_modify(|said| said.starts.push(lease.clone()));
        let mut said = self.said.subscribe();
        drop(said.wait_for(|said| !said.start_held).await);
        self.unless_down()?;
        match self.said.borrow().lost.contains(&lease) {
            true => Err(ErrorCode::CallLeaseLost.into()),
            false => Ok(()),
        }
    }

    async fn renew(
        &self,
        _runner_id: &str,
        leases: Vec<LeaseRef>,
    ) -> Result<(Vec<LeaseRef>, Duration), ApiError> {
        self.said
            .send_modify(|said| said.renewals.push(leases.clone()));
        self.unless_down()?;
        let said = self.said.borrow();
        let mut held = leases;
        held.retain(|lease| !said.lost.contains(lease));
        Ok((held, self.lease_for))
    }

    async fn finish(&self, _runner_id: &str, end: AttemptEnd) -> Result<bool, ApiError> {
        let held = !self.said.borrow().lost.contains(&end.lease);
        let refused = self.said.borrow().answers_refused
            && matches!(end.outcome, AttemptOutcome::Answered { .. });
        self.said.send_modify(|said| said.ends.push(end));
        self.unless_down()?;
        if refused {
            return Err(ErrorCode::Internal.into());
        }
        Ok(held)
    }

    async fn append_logs(&self, _runner_id: &str, chunks: Vec<LogChunk>) -> Result<(), ApiError> {
        self.unless_down()?;
        if self.said.borrow().logs_down {
            return Err(ErrorCode::StoreUnavailable.into());
        }
        self.said.send_modify(|said| said.chunks.extend(chunks));
        Ok(())
    }
}
