//! The log: its form, level, prefix and destination (spec/10 10.4).

use crate::settings::Kind;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Reads a [`LogFormat`].
#[derive(Debug)]
pub struct LogFormatKind;

impl Kind for LogFormatKind {
    type Value = LogFormat;
    const NAME: &'static str = "text or json";

    fn parse(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("neither text nor json".to_owned()),
        }
    }
}
