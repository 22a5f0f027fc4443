//! Reads requests: just enough of HTTP/1.1 for what the platform sends.

use std::io::{self, BufRead, Error, ErrorKind, Read};

/// The longest head and the longest line of a chunk that is read.
const HEAD_LIMIT: u64 = 1 << 20;

/// The head of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Names as Go writes them (`Fn-Call-Id`), values as they came, in the order of arrival.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` when the connection ended before one.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut reader = reader.take(HEAD_LIMIT);
        if line(&mut reader)?.is_none() {
            return Ok(None);
        }
        let mut head = Self::default();
        loop {
            let line = line(&mut reader)?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(head));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("header"))?;
            head.headers
                .push((canonical(name), value.trim().to_owned()));
        }
    }

    /// The first value of a header, whose name is in canonical form.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// How the body is framed.
    pub(crate) fn body(&self) -> io::Result<Body> {
        if self.get("Transfer-Encoding").is_some() {
            return Ok(Body::Chunked {
                left: 0,
                is_first: true,
            });
        }
        let length = self.get("Content-Length").unwrap_or("0");
        length
            .parse()
            .map(Body::Length)
            .map_err(|_| invalid("content length"))
    }
}

/// What of a body is still to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, with so many bytes left of this one.
    Chunked {
        /// Bytes left.
        left: u64,
        /// No chunk has begun yet.
        is_first: bool,
    },
}

impl Body {
    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        *self == Self::Length(0)
    }

    /// Reads the next bytes; 0 at the end.
    pub(crate) fn read(
        &mut self,
        reader: &mut impl BufRead,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if let Self::Chunked { left: 0, is_first } = *self {
            self.next_chunk(reader, is_first)?;
        }
        let (Self::Length(left) | Self::Chunked { left, .. }) = self;
        if *left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        *left -= read as u64;
        Ok(read)
    }

    fn next_chunk(&mut self, reader: &mut impl BufRead, is_first: bool) -> io::Result<()> {
        let mut reader = reader.take(HEAD_LIMIT);
        let mut next = || line(&mut reader)?.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof));
        if !is_first && !next()?.is_empty() {
            return Err(invalid("end of a chunk"));
        }
        let size = next()?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
        *self = Self::Chunked {
            left: size,
            is_first: false,
        };
        if size == 0 {
            // Trailers, up to an empty line.
            while !next()?.is_empty() {}
            *self = Self::Length(0);
        }
        Ok(())
    }

    /// Reads to the end, and keeps at most `limit` bytes. Answers with them and the length of all.
    pub(crate) fn read_all(
        &mut self,
        reader: &mut impl BufRead,
        limit: usize,
    ) -> io::Result<(Vec<u8>, u64)> {
        let (mut kept, mut length) = (Vec::new(), 0);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.read(reader, &mut buffer)?;
            if read == 0 {
                return Ok((kept, length));
            }
            length += read as u64;
            kept.extend_from_slice(&buffer[..read.min(limit - kept.len())]);
        }
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(Some(String::from_utf8_lossy(line).into_owned())),
        None => Err(invalid("end of a line")),
    }
}

fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("the request has an invalid {what}"),
    )
}

fn canonical(name: &str) -> String {
    let mut upper = true;
    let letter = |letter: char| {
        let wanted = if upper {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        };
        upper = letter == '-';
        wanted
    };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_and_a_body_of_known_length() {
        let mut input = &b"POST /call HTTP/1.1\r\nhost: localhost\r\nFN-CALL-id:  a b \r\ncontent-length: 5\r\n\r\nhellorest"[..];
        let head = Head::read(&mut input).unwrap().unwrap();
        assert_eq!(head.get("Fn-Call-Id"), Some("a b"));
        assert_eq!(head.get("Host"), Some("localhost"));
        let mut body = head.body().unwrap();
        assert!(!body.is_done());
        assert_eq!(body.read_all(&mut input, 3).unwrap(), (b"hel".to_vec(), 5));
        assert!(body.is_done());
        assert_eq!(input, b"rest");
    }

    #[test]
    fn a_chunked_body() {
        let mut input = &b"POST /call HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nt: v\r\n\r\nrest"[..];
        let head = Head::read(&mut input).unwrap().unwrap();
        let mut body = head.body().unwrap();
        assert_eq!(
            body.read_all(&mut input, 100).unwrap(),
            (b"abc0123456789".to_vec(), 13)
        );
        assert!(body.is_done());
        assert_eq!(input, b"rest");
    }

    #[test]
    fn the_end_of_the_connection() {
        assert_eq!(Head::read(&mut &b""[..]).unwrap(), None);
        assert!(Head::read(&mut &b"POST /call HTTP/1.1\r\nhost: l"[..]).is_err());
        assert!(Body::Length(5).read_all(&mut &b"1234"[..], 9).is_err());
        let mut chunked = Body::Chunked {
            left: 0,
            is_first: true,
        };
        assert!(chunked.read_all(&mut &b"5\r\n1234"[..], 9).is_err());
    }

    #[test]
    fn garbage_is_an_error() {
        for garbage in ["x\n\n", "POST / HTTP/1.1\r\nno colon\r\n\r\n"] {
            assert!(Head::read(&mut garbage.as_bytes()).is_err(), "{garbage}");
        }
        for garbage in ["zz\r\n", "\r\n", "3\r\nabcd\r\n0\r\n\r\n"] {
            let mut chunked = Body::Chunked {
                left: 0,
                is_first: true,
            };
            assert!(
                chunked.read_all(&mut garbage.as_bytes(), 9).is_err(),
                "{garbage}"
            );
        }
    }
}
