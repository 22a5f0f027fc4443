//! Asking a runner how it is: `Status`.

use bytes::BytesMut;
use prost::Message as _;
use proto::runner::RunnerStatus;

use super::connection::Rpc;
use super::link::Link;
use super::message;
use super::stream::{self, Received};

/// Whether the runner answers, and does not say itself that it fails. Whoever calls this limits the
/// time.
pub(crate) async fn check(link: &Link) -> bool {
    let Ok(mut opened) = link.open(Rpc::Status).await else {
        return false;
    };
    let mut request = BytesMut::new();
    message::encode(&(), &mut request);
    if opened.send.send_data(request.freeze(), true).is_err() {
        return false;
    }
    let mut failed = false;
    loop {
        match opened.receive.next().await {
            Ok(Received::Message(status)) => {
                failed |= RunnerStatus::decode(status).is_ok_and(|status| status.failed);
            }
            // A runner that has no such method is there all the same.
            Ok(Received::End(status)) => {
                let answered = matches!(status.code, stream::OK | stream::UNIMPLEMENTED);
                return answered && !failed;
            }
            Err(_) => return false,
        }
    }
}
