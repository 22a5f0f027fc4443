//! The log: its form, level, prefix and destination (spec/10 10.4).

mod destination;
mod syslog;

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::config::NodeConfig;
use crate::settings::Kind;
use destination::{Destination, LogWriter};

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

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `FN_LOG_DEST` is not a destination, or cannot be opened.
    #[error("error invalid FN_LOG_DEST={value}: {reason}")]
    Destination {
        /// The setting's value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log was set up twice")]
    Twice(#[from] TryInitError),
}

/// Crates of others, whose debug output may hold statements, headers and credentials: they are
/// never heard below `info`.
const FOREIGN: [&str; 15] = [
    "amq_protocol",
    "async_rs",
    "bollard",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "rustls",
    "sqlx",
    "tcp_stream",
    "tokio",
    "tokio_util",
    "tonic",
    "tower",
    "tower_http",
];

/// Sets up the log of this process, panics included.
///
/// # Errors
/// `FN_LOG_DEST` names no destination or one that cannot be opened, or there is a log already.
pub fn init(config: &NodeConfig) -> Result<(), TelemetryError> {
    let destination = Destination::open(&config.log_dest)?;
    let colours = matches!(destination, Destination::Stderr) && std::io::stderr().is_terminal();
    let level = level(&config.log_level);
    subscriber(
        config.log_format,
        level.unwrap_or(Level::INFO),
        LogWriter::new(destination, &config.log_prefix),
        colours,
    )
    .try_init()?;
    if level.is_none() {
        tracing::warn!(value = %config.log_level, "FN_LOG_LEVEL is not a level, using info");
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The level of this name; the original's are all known.
fn level(name: &str) -> Option<Level> {
    Some(match name.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Level::ERROR,
        "warn" | "warning" => Level::WARN,
        "info" => Level::INFO,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => return None,
    })
}

/// Tells its callers of every trouble, who log it with its circumstances; by itself it logs each end
/// of a connection as an error, and every message that came back.
const SILENT: &str = "lapin";

fn subscriber(
    format: LogFormat,
    level: Level,
    writer: LogWriter,
    colours: bool,
) -> impl Subscriber + Send + Sync {
    let foreign = LevelFilter::from_level(level.min(Level::INFO));
    let filter = FOREIGN
        .iter()
        .fold(Targets::new().with_default(level), |filter, target| {
            filter.with_target(*target, foreign)
        })
        .with_target(SILENT, LevelFilter::OFF);
    let layer = fmt::layer().with_writer(writer).with_ansi(colours);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    Registry::default().with(layer.with_filter(filter))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload_as_str().unwrap_or("not a text");
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(panic = payload, location, "panic");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: LogFormat, level: Level, prefix: &str, work: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let destination = Destination::open(&format!("file://{}", path.display())).expect("a file");
        let subscriber = subscriber(format, level, LogWriter::new(destination, prefix), false);
        tracing::subscriber::with_default(subscriber, work);
        std::fs::read_to_string(&path).expect("the log")
    }

    #[test]
    fn a_text_line_has_prefix_level_and_fields_and_no_colours() {
        let text = log(LogFormat::Text, Level::INFO, "node-1 ", || {
            tracing::info!(call_id = "01A", "done");
        });
        assert!(text.starts_with("node-1 2"), "{text}");
        assert!(
            text.contains(" INFO ") && text.contains("done call_id=\"01A\""),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_line_break_in_a_value_does_not_forge_a_line() {
        let text = log(LogFormat::Text, Level::INFO, "", || {
            tracing::info!(value = %"a\nERROR forged", "one");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = log(LogFormat::Json, Level::INFO, "", || {
            tracing::warn!(app_id = "A", count = 3, "careful");
        });
        let value: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["message"], "careful");
        assert_eq!(value["app_id"], "A");
        assert_eq!(value["count"], 3);
        assert!(
            value["timestamp"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z')),
            "{text}"
        );
    }

    #[test]
    fn user_logs_are_seen_at_debug_and_others_crates_are_not() {
        let work = || {
            tracing::debug!(user_log = true, "from the function");
            tracing::debug!(target: "bollard::docker", "X-Registry-Auth: secret");
            tracing::info!(target: "sqlx::query", "slow");
        };
        let text = log(LogFormat::Text, Level::DEBUG, "", work);
        assert!(
            text.contains("from the function") && text.contains("slow"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
        let text = log(LogFormat::Text, Level::INFO, "", work);
        assert!(!text.contains("from the function"), "{text}");
        let text = log(LogFormat::Text, Level::WARN, "", work);
        assert_eq!(text, "");
    }

    #[test]
    fn levels_have_the_originals_names() {
        for (name, expected) in [
            ("panic", Some(Level::ERROR)),
            ("FATAL", Some(Level::ERROR)),
            ("warning", Some(Level::WARN)),
            ("Debug", Some(Level::DEBUG)),
            ("loud", None),
            ("", None),
        ] {
            assert_eq!(level(name), expected, "{name}");
        }
    }
}
