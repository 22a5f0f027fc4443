//! The connections to one runner: several, each opened again when it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nodekit::exchange::Target;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::carry::Place;
use super::connection::{Connection, Opened, Rpc, Uris, handshake};
use super::connector::Connector;
use crate::runners::BackOff;

/// A connection that lived so long was a good one: the next is tried soon again.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// How connections to runners are kept.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Connections per runner.
    pub connections: usize,
    /// The longest time to connect, and for which a call waits for a connection that is being
    /// opened.
    pub connect_timeout: Duration,
    /// The longest time to open one with all that it takes.
    pub handshake_timeout: Duration,
    /// For how long a runner that has calls may give no sign of life after it was asked.
    pub silence: Duration,
    /// Whether calls share streams with a runner that knows how.
    pub multiplex: bool,
    /// Randomness for back-off.
    pub random: fn() -> u64,
}

/// The connections to one runner.
#[derive(Debug)]
pub struct Link {
    slots: Vec<Slot>,
    changes: watch::Sender<()>,
    connect_timeout: Duration,
}

#[derive(Debug, Default)]
struct Slot(Mutex<SlotState>);

#[derive(Debug, Default)]
enum SlotState {
    #[default]
    Connecting,
    Open(Arc<Connection>),
    Broken,
}

/// Why no stream was opened: nothing of the call was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no connection to the runner")]
    NoConnection,
    #[error("no stream could be opened: {0}")]
    Refused(String),
}

/// How a call goes to the runner.
pub(crate) enum Way {
    /// On a stream with others.
    Beside(Place),
    /// On its own.
    Own(Opened),
}

impl Link {
    /// Opens the connections and keeps them open until `stop`. Those that have streams then live
    /// on until these are over.
    ///
    /// # Errors
    /// `address` is no `host:port`.
    pub(crate) fn start(
        address: &str,
        connector: &Arc<dyn Connector>,
        settings: &LinkSettings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Option<Arc<Self>> {
        let uris = Arc::new(Uris::new(address)?);
        let link = Arc::new(Self {
            slots: (0..settings.connections.max(1))
                .map(|_| Slot::default())
                .collect(),
            changes: watch::Sender::new(()),
            connect_timeout: settings.connect_timeout,
        });
        for slot in 0..link.slots.len() {
            let keeper = Keeper {
                link: Arc::clone(&link),
                slot,
                address: Arc::from(address),
                uris: Arc::clone(&uris),
                connector: Arc::clone(connector),
                settings: settings.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(keeper.keep());
        }
        Some(link)
    }

    /// The way for a call of `target`: beside others, if the runner knows that.
    pub(crate) async fn way(&self, target: &Target) -> Result<Way, OpenError> {
        let mut refused = OpenError::NoConnection;
        for connection in self.by_load().await? {
            if let Some(place) = connection.place(target) {
                return Ok(Way::Beside(place));
            }
            match connection.open(Rpc::Engage).await {
                Ok(opened) => return Ok(Way::Own(opened)),
                // It is closing. Another one may not be.
                Err(error) => refused = OpenError::Refused(error.to_string()),
            }
        }
        Err(refused)
    }

    /// Opens a stream on the connection with the fewest. Waits for a connection only if one is
    /// being opened.
    pub(crate) async fn open(&self, rpc: Rpc) -> Result<Opened, OpenError> {
        let mut refused = OpenError::NoConnection;
        for connection in self.by_load().await? {
            match connection.open(rpc).await {
                Ok(opened) => return Ok(opened),
                Err(error) => refused = OpenError::Refused(error.to_string()),
            }
        }
        Err(refused)
    }

    /// The connections, the one with the fewest calls first.
    async fn by_load(&self) -> Result<Vec<Arc<Connection>>, OpenError> {
        let mut open = self.connections();
        if open.is_empty() {
            open = self.first_connections().await?;
        }
        open.sort_by_key(|connection| connection.in_flight());
        Ok(open)
    }

    /// Whether any connection is open.
    pub(crate) fn is_connected(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| matches!(*slot.lock(), SlotState::Open(_)))
    }

    /// Changes when a connection is opened or ends.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        let open = self.slots.iter().filter_map(|slot| match &*slot.lock() {
            SlotState::Open(connection) => Some(Arc::clone(connection)),
            _ => None,
        });
        open.collect()
    }

    fn is_connecting(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| matches!(*slot.lock(), SlotState::Connecting))
    }

    async fn first_connections(&self) -> Result<Vec<Arc<Connection>>, OpenError> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                let open = self.connections();
                if !open.is_empty() {
                    return Ok(open);
                }
                if !self.is_connecting() || changes.changed().await.is_err() {
                    return Err(OpenError::NoConnection);
                }
            }
        };
        let waited = tokio::time::timeout(self.connect_timeout, waiting).await;
        waited.unwrap_or(Err(OpenError::NoConnection))
    }

    fn set(&self, slot: usize, state: SlotState) {
        if let Some(slot) = self.slots.get(slot) {
            *slot.lock() = state;
        }
        self.changes.send_replace(());
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What moves a connection, until its end and why.
type Driving = Pin<Box<dyn Future<Output = String> + Send>>;

/// Keeps one of the connections.
struct Keeper {
    link: Arc<Link>,
    slot: usize,
    address: Arc<str>,
    uris: Arc<Uris>,
    connector: Arc<dyn Connector>,
    settings: LinkSettings,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(self) {
        let mut back_off = BackOff::new(self.settings.random);
        loop {
            self.link.set(self.slot, SlotState::Connecting);
            let Some(opened) = self.stop.run_until_cancelled(self.connect()).await else {
                return self.link.set(self.slot, SlotState::Broken);
            };
            let since = Instant::now();
            let why = match opened {
                Ok((connection, driving)) => {
                    let open = SlotState::Open(Arc::new(connection));
                    self.link.set(self.slot, open);
                    self.drive(driving).await
                }
                Err(why) => why,
            };
            self.link.set(self.slot, SlotState::Broken);
            tracing::debug!(runner = %self.address, why, "no connection to a runner");
            if since.elapsed() >= GOOD_LIFE {
                back_off.reset();
            }
            let pause = tokio::time::sleep(back_off.next());
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Opens a connection, and hears from its peer.
    async fn connect(&self) -> Result<(Connection, Driving), String> {
        let connecting = async {
            let io = self.connector.connect(&self.address).await;
            let io = io.map_err(|error| error.to_string())?;
            let opened = handshake(
                io,
                Arc::clone(&self.uris),
                self.settings.silence,
                self.settings.multiplex,
                self.stop.clone(),
            );
            let (connection, driving) = opened.await.map_err(|error| error.to_string())?;
            let mut driving: Driving = Box::pin(driving);
            let ready = async {
                connection.heard().await;
                connection.asked_to_carry().await;
            };
            tokio::select! {
                () = ready => {}
                why = &mut driving => return Err(why),
            }
            Ok((connection, driving))
        };
        let connected = tokio::time::timeout(self.settings.handshake_timeout, connecting).await;
        connected.unwrap_or_else(|_| Err("no connection in time".to_owned()))
    }

    /// Drives a connection to its end. When this is to stop, the streams that are open go on, and
    /// the connection is over when the last of them is.
    async fn drive(&self, mut driving: Driving) -> String {
        tokio::select! {
            why = &mut driving => return why,
            () = self.stop.cancelled() => {}
        }
        self.link.set(self.slot, SlotState::Broken);
        driving.await
    }
}
