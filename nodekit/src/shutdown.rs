//! The end of a process: told once, waited for, and forced when told twice.
//!
//! There is no reaping of foreign children here, not even as process 1: Hearth starts no processes
//! (containers are the engine's), and a reaper that waits for any child would take the exit status
//! of those that a library starts. An image that runs more beside Hearth needs a small init.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The owner of a process's tasks. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing runs, nothing is told to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process should stop.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tells everything to stop.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Starts a task that [`Shutdown::drain`] waits for; it must end soon after the token is
    /// cancelled.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits until every task has ended, at most for `limit`; whether they all have.
    pub async fn drain(&self, limit: Option<Duration>) -> bool {
        self.tasks.close();
        match limit {
            Some(limit) => timeout(limit, self.tasks.wait()).await.is_ok(),
            None => {
                self.tasks.wait().await;
                true
            }
        }
    }

    /// From now on, SIGINT or SIGTERM tells everything to stop, and the second of them ends the
    /// process at once, as the signal would have.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = self.token.clone();
        // Not tracked: it is there for a shutdown that hangs, and so outlives every other task.
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                    _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                };
                if token.is_cancelled() {
                    tracing::warn!(signal = number, "told twice, stopping at once");
                    std::process::exit(128 + number);
                }
                tracing::info!(signal = number, "stopping");
                token.cancel();
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[tokio::test]
    async fn tasks_are_waited_for_up_to_the_limit() {
        let shutdown = Shutdown::new();
        let token = shutdown.token().clone();
        shutdown.spawn(async move { token.cancelled().await });
        assert!(!shutdown.drain(Some(Duration::from_millis(1))).await);
        shutdown.trigger();
        assert!(shutdown.drain(None).await);
    }

    const CHILD: &str = "NODEKIT_SHUTDOWN_TEST_CHILD";

    /// Runs as the child of the test below: says when it is ready, and when it was told to stop.
    #[tokio::test]
    async fn signalled_child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let shutdown = Shutdown::new();
        shutdown.on_signals().expect("handlers");
        println!("\nready");
        shutdown.token().cancelled().await;
        println!("\nstopping");
        // Ends by itself when nobody is there to end it.
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    #[test]
    fn the_first_signal_stops_and_the_second_ends() {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "shutdown::tests::signalled_child", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let pid = Pid::from_child(&child);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut wait_for = |word: &str| {
            let found = lines.any(|line| line.is_ok_and(|line| line == word));
            assert!(found, "the child ended before it was {word}");
        };
        wait_for("ready");
        kill_process(pid, Signal::TERM).expect("a signal");
        wait_for("stopping");
        kill_process(pid, Signal::INT).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), Some(130));
    }
}
