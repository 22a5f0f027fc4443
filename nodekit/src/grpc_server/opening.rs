//! The first bytes of a connection: whether the peer speaks HTTP/2 at all, before anything is
//! spent on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::{self, InvalidMessage};

/// What every HTTP/2 client sends first (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS client.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpeningError {
    /// Nothing was asked: somebody looked whether the port is open.
    #[error("the peer said nothing")]
    Nothing,
    #[error("the peer speaks TLS, and this node has no certificate (FN_NODE_CERT)")]
    Tls,
    #[error("the peer does not speak TLS, and this node demands it (FN_NODE_CERT)")]
    NotTls,
    #[error("the peer does not speak HTTP/2")]
    NotHttp2,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpeningError {
    /// Why TLS was not agreed on.
    pub(super) fn of_handshake(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Self::NotTls,
            _ => Self::Io(error),
        }
    }
}

/// A connection whose preface was read, and is read again by the parser.
pub(super) struct Opened<T> {
    io: T,
    preface: &'static [u8],
}

impl<T: AsyncRead + Unpin> Opened<T> {
    /// Waits for the preface.
    ///
    /// # Errors
    /// Something else came, or the end.
    pub(super) async fn wait(mut io: T) -> Result<Self, OpeningError> {
        let mut buffer = [0; PREFACE.len()];
        let mut length = 0;
        while length < buffer.len() {
            let count = io.read(&mut buffer[length..]).await?;
            if count == 0 {
                return Err(match length {
                    0 => OpeningError::Nothing,
                    _ => OpeningError::NotHttp2,
                });
            }
            length += count;
            if buffer[..length] != PREFACE[..length] {
                return Err(match buffer[0] {
                    TLS_HANDSHAKE => OpeningError::Tls,
                    _ => OpeningError::NotHttp2,
                });
            }
        }
        Ok(Self {
            io,
            preface: PREFACE,
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Opened<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.preface.is_empty() {
            let (now, later) = this
                .preface
                .split_at(buffer.remaining().min(this.preface.len()));
            buffer.put_slice(now);
            this.preface = later;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Opened<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_preface_is_read_twice() {
        let sent = [&PREFACE[..], b"frames"].concat();
        let mut opened = Opened::wait(&sent[..]).await.expect("HTTP/2");
        let mut first = [0; 5];
        opened.read_exact(&mut first).await.expect("bytes");
        let mut rest = Vec::new();
        opened.read_to_end(&mut rest).await.expect("bytes");
        assert_eq!([&first[..], &rest].concat(), sent);
    }

    #[tokio::test]
    async fn what_is_not_http2_is_named() {
        for (sent, expected) in [
            (&b""[..], "the peer said nothing"),
            (b"PRI * HTTP", "the peer does not speak HTTP/2"),
            (b"GET / HTTP/1.1\r\n", "the peer does not speak HTTP/2"),
            (
                b"\x16\x03\x01",
                "the peer speaks TLS, and this node has no certificate (FN_NODE_CERT)",
            ),
        ] {
            let error = Opened::wait(sent).await.err().expect("an error");
            assert_eq!(error.to_string(), expected);
        }
    }
}
