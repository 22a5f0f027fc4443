//! The headers of `/invoke`: passed through both ways (spec/01 1.8).
//!
//! `Accept-Encoding` is passed through as well, and none is added. The original's HTTP library asks the
//! function for gzip and unpacks the answer; nothing here unpacks, so a client that cannot would get
//! bytes that it did not ask for.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use nodekit::hop;

/// What the function sees of a client's headers. `Host` names this server and not the function's;
/// `Expect` is answered by this server.
pub(super) fn request_headers(mut headers: HeaderMap) -> HeaderMap {
    hop::strip(&mut headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    headers
}

/// What the client sees of a function's headers. The length is that of the body itself: a function
/// that lies about it must not desynchronise the client's connection.
pub(super) fn response_headers(mut headers: HeaderMap) -> HeaderMap {
    hop::strip(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers
}
