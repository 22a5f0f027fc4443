//! How a container ended, for the call that ran in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SetOnce;

use crate::driver::Exit;

/// How long a function that hung up may take to end, so that its exit can be told. It is past the
/// engine's own delay between an exit and the word of an exhausted memory limit.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Tells how one container ended, without keeping anything of it. Clones tell of the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending(Arc<SetOnce<Option<Exit>>>);

impl Ending {
    /// The container is over: by an exit of its own, or because the runner ended it.
    pub(super) fn tell(&self, exit: Option<Exit>) {
        // Only the first one counts.
        let _ = self.0.set(exit);
    }

    /// How the function ended by itself; nothing if it did not. To be asked when a call has lost its
    /// connection: the container is on its way out then.
    pub(super) async fn exit(&self) -> Option<Exit> {
        // Who watches the container waits for its last words, and for little else.
        let told = tokio::time::timeout(2 * LAST_WORDS, self.0.wait()).await;
        told.ok().and_then(|exit| *exit)
    }
}
