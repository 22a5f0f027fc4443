//! Where log lines go.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::TelemetryError;
use super::syslog::{Severity, Syslog};

/// An opened destination.
#[derive(Debug)]
pub(super) enum Destination {
    Stderr,
    File(File),
    Syslog(Syslog),
}

impl Destination {
    /// Opens what `FN_LOG_DEST` names (spec/01 1.1): a value without a scheme is a syslog server
    /// behind UDP.
    pub(super) fn open(value: &str) -> Result<Self, TelemetryError> {
        let refuse = |reason: String| TelemetryError::Destination {
            value: value.to_owned(),
            reason,
        };
        if value == "stderr" {
            return Ok(Self::Stderr);
        }
        let (scheme, rest) = value
            .split_once("://")
            .unwrap_or(match value.strip_prefix("file:") {
                Some(path) => ("file", path),
                None => ("udp", value),
            });
        match scheme {
            "file" if rest.starts_with('/') => OpenOptions::new()
                .create(true)
                .append(true)
                .open(rest)
                .map(Self::File)
                .map_err(|error| refuse(error.to_string())),
            "file" => Err(refuse(
                "a file needs an absolute path, and no host".to_owned(),
            )),
            "udp" => Syslog::udp(rest).map(Self::Syslog).map_err(refuse),
            "tcp" => Syslog::tcp(rest).map(Self::Syslog).map_err(refuse),
            _ => Err(refuse(
                "only stderr, file, udp and tcp are supported".to_owned(),
            )),
        }
    }
}

/// Gives each event to the destination, as one line in one write.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    destination: Arc<Destination>,
    prefix: Arc<str>,
}

impl LogWriter {
    pub(super) fn new(destination: Destination, prefix: &str) -> Self {
        Self {
            destination: Arc::new(destination),
            prefix: prefix.into(),
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            log: self,
            severity: Severity::Info,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter {
            log: self,
            severity: match *meta.level() {
                Level::ERROR => Severity::Error,
                Level::WARN => Severity::Warning,
                Level::INFO => Severity::Info,
                _ => Severity::Debug,
            },
        }
    }
}

/// Takes one event, which the formatter writes whole.
pub(super) struct LineWriter<'a> {
    log: &'a LogWriter,
    severity: Severity,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = one_line(event, &self.log.prefix);
        match &*self.log.destination {
            Destination::Stderr => io::stderr().write_all(&line)?,
            Destination::File(file) => {
                let mut file = file;
                file.write_all(&line)?;
            }
            Destination::Syslog(syslog) => syslog.send(self.severity, &line),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event behind its prefix, with the line breaks inside of it made visible: a value of a client
/// must not look like a line of ours.
fn one_line<'a>(event: &'a [u8], prefix: &str) -> Cow<'a, [u8]> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    let breaks = text.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if prefix.is_empty() && !breaks {
        return Cow::Borrowed(event);
    }
    let mut line = Vec::with_capacity(prefix.len() + event.len() + 8);
    line.extend_from_slice(prefix.as_bytes());
    for &byte in text {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(byte),
        }
    }
    line.push(b'\n');
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_destination_is_refused_by_name() {
        for (value, reason) in [
            ("file://relative/path", "absolute path"),
            ("file:", "absolute path"),
            ("file:///nonexistent-folder/log", "No such file"),
            ("http://host", "only stderr"),
            ("udp://host:514/path", "host"),
            ("tcp://", "host"),
        ] {
            let error = Destination::open(value).expect_err(value).to_string();
            assert!(
                error.starts_with(&format!("error invalid FN_LOG_DEST={value}: "))
                    && error.contains(reason),
                "{error}"
            );
        }
    }
}
