//! Changes as a stream of messages. It is as bounded as the store's own channel: who reads too
//! slowly is told that everything may have changed.

use domain::Change;
use futures_util::{Stream, StreamExt as _, stream};
use proto::hybrid::ChangeNotice;
use proto::hybrid_messages::notice_of;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// An empty message, then each change, until `stop`.
pub(super) fn of(
    changes: Receiver<Change>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<ChangeNotice, Status>> + Send {
    let notices = stream::unfold(changes, async |mut changes| {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Everything,
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(notice_of(&change)), changes))
    });
    stream::once(async { Ok(ChangeNotice { what: None }) })
        .chain(notices)
        .take_until(stop.cancelled_owned())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use domain::FnId;
    use proto::hybrid_messages::change_of;
    use tokio::sync::broadcast;

    use super::*;

    #[tokio::test]
    async fn a_watcher_that_lags_is_told_that_everything_may_have_changed() {
        let (sender, receiver) = broadcast::channel(2);
        let stop = CancellationToken::new();
        let mut stream = pin!(of(receiver, stop.clone()));
        let begun = stream.next().await.expect("a message").expect("no error");
        assert_eq!(begun, ChangeNotice { what: None });
        for n in 0..3 {
            let change = Change::Fn(FnId::from(n.to_string()));
            sender.send(change).expect("a receiver");
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let notice = stream.next().await.expect("a message").expect("no error");
            seen.push(change_of(notice));
        }
        let change = |id: &str| Change::Fn(FnId::from(id));
        assert_eq!(seen, [Change::Everything, change("1"), change("2")]);
        stop.cancel();
        assert!(stream.next().await.is_none());
    }
}
