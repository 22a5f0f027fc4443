//! An answer as a list of steps, byte for byte: everything that no HTTP library would write.

use std::io::{self, BufRead, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Deserialize;

use crate::request::Body;

/// One step.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Step {
    /// Write text as it is; line ends are not added.
    Text(String),
    /// Write bytes, given in hexadecimal digits.
    Hex(Bytes),
    /// Write a text so many times.
    Repeat {
        /// The text.
        text: String,
        /// How often.
        times: u64,
    },
    /// Write a chunk of a chunked body; an empty one ends it.
    Chunk(String),
    /// Do steps so many times.
    Loop {
        /// The steps.
        steps: Vec<Step>,
        /// How often.
        times: u64,
    },
    /// Read the request's body to its end.
    ReadBody,
    /// Read so many bytes of the request's body, or what there is.
    ReadBytes(u64),
    /// Wait, in milliseconds.
    SleepMs(u64),
    /// Write to stdout.
    Stdout(String),
    /// Write to stderr.
    Stderr(String),
    /// End the answer, and go on reading.
    CloseWrite,
    /// Close the connection.
    Close,
    /// Say nothing more until the platform closes the connection.
    Hold,
    /// End the process with this code.
    Exit(i32),
    /// Kill the process.
    Crash,
}

/// Bytes, given in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Bytes(Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(digits: String) -> Result<Self, String> {
        let pair = |pair: &[u8]| {
            let text = str::from_utf8(pair)
                .ok()
                .filter(|text| text.len() == 2 && !text.starts_with('+'))?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes = digits.as_bytes().chunks(2).map(pair).collect::<Option<_>>();
        bytes
            .map(Self)
            .ok_or_else(|| format!("{digits} is not hexadecimal"))
    }
}

/// What becomes of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It is good for another call.
    Keep,
    /// It is closed.
    Close,
}

/// Does the steps on a connection. An error is the platform's having closed it.
pub(crate) fn run(
    steps: &[Step],
    reader: &mut impl BufRead,
    body: &mut Body,
    stream: &mut UnixStream,
) -> io::Result<After> {
    for step in steps {
        match step {
            Step::Text(text) => stream.write_all(text.as_bytes())?,
            Step::Hex(Bytes(bytes)) => stream.write_all(bytes)?,
            Step::Repeat { text, times } => repeat(text, *times, stream)?,
            Step::Chunk(text) => write!(stream, "{:x}\r\n{text}\r\n", text.len())?,
            Step::Loop { steps, times } => {
                for _ in 0..*times {
                    if run(steps, reader, body, stream)? == After::Close {
                        return Ok(After::Close);
                    }
                }
            }
            Step::ReadBody => drop(body.read_all(reader, 0)?),
            Step::ReadBytes(bytes) => read_some(body, reader, *bytes)?,
            Step::SleepMs(millis) => std::thread::sleep(Duration::from_millis(*millis)),
            Step::Stdout(text) => print!("{text}"),
            Step::Stderr(text) => eprint!("{text}"),
            Step::CloseWrite => stream.shutdown(Shutdown::Write)?,
            Step::Close => return Ok(After::Close),
            Step::Hold => {
                // Read past the request as well, to see the end.
                io::copy(reader, &mut io::sink())?;
                return Ok(After::Close);
            }
            Step::Exit(code) => std::process::exit(*code),
            Step::Crash => std::process::abort(),
        }
    }
    Ok(After::Keep)
}

fn repeat(text: &str, times: u64, stream: &mut UnixStream) -> io::Result<()> {
    let length = text.len() as u64;
    if length == 0 {
        return Ok(());
    }
    let total = length.saturating_mul(times);
    // Whole texts, in pieces of about 64 KiB.
    let piece = text.repeat((64 << 10) / text.len() + 1);
    let mut left = total;
    while left > 0 {
        let now = left.min(piece.len() as u64);
        let now = usize::try_from(now).unwrap_or(piece.len());
        stream.write_all(&piece.as_bytes()[..now])?;
        left -= now as u64;
    }
    Ok(())
}

fn read_some(body: &mut Body, reader: &mut impl BufRead, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = body.read(reader, &mut buffer[..most])?;
        if read == 0 {
            return Ok(());
        }
        left -= read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn wire(script: &str, input: &str) -> (String, After) {
        let steps: Vec<Step> = serde_json::from_str(script).unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mut reader = BufReader::new(input.as_bytes());
        let after = run(
            &steps,
            &mut reader,
            &mut Body::Length(input.len() as u64),
            &mut ours,
        );
        drop(ours);
        let mut written = String::new();
        theirs.read_to_string(&mut written).unwrap();
        (written, after.unwrap())
    }

    #[test]
    fn steps_are_done_in_order() {
        let script = r#"[{"text": "a"}, {"hex": "620D0a"}, "readBody", {"repeat": {"text": "xy", "times": 3}},
            {"chunk": "hello"}, {"chunk": ""}, {"loop": {"steps": [{"text": "l"}], "times": 2}}]"#;
        let (written, after) = wire(script, "input");
        assert_eq!(written, "ab\r\nxyxyxy5\r\nhello\r\n0\r\n\r\nll");
        assert_eq!(after, After::Keep);
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let script =
            r#"[{"text": "a"}, {"loop": {"steps": ["close"], "times": 2}}, {"text": "b"}]"#;
        assert_eq!(wire(script, ""), ("a".to_owned(), After::Close));
        assert_eq!(
            wire(r#"["hold", {"text": "b"}]"#, "input"),
            (String::new(), After::Close)
        );
    }

    #[test]
    fn long_texts_have_their_length() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || io::copy(&mut theirs, &mut io::sink()).unwrap());
        let mut ours = ours;
        repeat("abc", 100_000, &mut ours).unwrap();
        drop(ours);
        assert_eq!(reader.join().unwrap(), 300_000);
    }
}
