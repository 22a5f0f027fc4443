//! The settings of an API node (spec/01 1.1).

use std::time::Duration;

use nodekit::settings;
use nodekit::settings::kinds::{Bool, Bytes, Int, Text, Timeout, Url, Words};

use crate::calls::{CallbackSettings, CallsSettings, Network};
use crate::store::Retention;

settings! {
    /// Settings of an API node.
    pub struct ApiConfig {
        /// The database: `sqlite3://` and a path, or `postgres://user:password@host:port/database`.
        FN_DB_URL: Url = "sqlite3://./data/fn.db" => db_url: String;
        /// Where logs of calls are kept: empty for the database, `file:///` and a directory, or `s3://key:secret@host/region/bucket?ssl=true` for S3 and what speaks its protocol (key and secret URL-encoded; without TLS: `ssl=false`).
        FN_LOGSTORE_URL: Url = "" => logstore_url: String;
        /// How many times a database that does not answer is tried at start, one second apart.
        FN_DS_DB_PING_MAX_RETRIES: Int<u32> = "10" => ds_db_ping_max_retries: u32;
        /// Base URL of the load balancers, for the endpoint annotations; empty takes the one that the request was sent to.
        FN_PUBLIC_LB_URL: Url = "" => public_lb_url: String;
        /// The queue that tells API nodes of waiting calls: `amqp://user:password@host:port/vhost` or `amqps://...` for a RabbitMQ; empty for one within the process, which is enough for one API node.
        FN_MQ_URL: Url = "" => mq_url: String;
        /// The name of the queue at the broker. What has to do with it is named after it.
        FN_MQ_QUEUE: Text = "hearth.calls" => mq_queue: String;
        /// File with the authority that the broker's certificate is checked against, besides those that browsers trust, in PEM form.
        FN_MQ_CERT_AUTHORITY: Text = "" => mq_cert_authority: String;
    }
}

settings! {
    /// Settings of durable calls.
    pub struct CallsConfig {
        /// Largest input of a durable call, in bytes.
        FN_MAX_CALL_BODY: Bytes = "6291456" => max_call_body: u64;
        /// How much is kept of a function's answer to a durable call, in bytes.
        FN_MAX_CALL_RESULT: Bytes = "1048576" => max_call_result: u64;
        /// How long a runner holds a durable call without a sign of life.
        FN_CALL_LEASE: Timeout = "10s" => call_lease: Option<Duration>;
        /// How many calls of one function the queue is told of while no runner has taken them; the next ones wait in the database, so that the calls of others are not behind them.
        FN_CALL_WINDOW: Int<u32> = "128" => call_window: u32;
        /// Whether a call that is due when it is accepted goes straight to a runner that is connected to the API node that accepted it, if that has room at that moment; every other call goes through the queue.
        FN_CALL_DIRECT: Bool = "true" => call_direct: bool;
        /// How long a waiting call gains one step of priority.
        FN_CALL_AGEING: Timeout = "30s" => call_ageing: Option<Duration>;
        /// How long nothing may happen to a call that is due before the queue is told of it once more.
        FN_CALL_SILENCE: Timeout = "60s" => call_silence: Option<Duration>;
        /// How long the record of a call is kept after its end; 0 keeps it for ever.
        FN_CALL_RETENTION: Timeout = "720h" => call_retention: Option<Duration>;
        /// How long request, answer and idempotency key of a call are kept after its end; 0 keeps them for ever.
        FN_CALL_RESULT_RETENTION: Timeout = "24h" => call_result_retention: Option<Duration>;
        /// How long the log of a call is kept after its end; 0 keeps it for ever.
        FN_CALL_LOG_RETENTION: Timeout = "168h" => call_log_retention: Option<Duration>;
        /// How long a callback URL may take to answer.
        FN_CALLBACK_TIMEOUT: Timeout = "10s" => callback_timeout: Option<Duration>;
        /// How long after the end of a call its callback is tried.
        FN_CALLBACK_RETRY_FOR: Timeout = "24h" => callback_retry_for: Option<Duration>;
        /// How many callbacks are made at once.
        FN_CALLBACK_PARALLEL: Int<u32> = "16" => callback_parallel: u32;
        /// Networks, as 169.254.0.0/16, that callbacks may reach although they are link-local or of another kind that is refused (docs/async.md).
        FN_CALLBACK_ALLOW: Networks = "" => callback_allow: Vec<Network>;
    }
}

/// Stands for ever: far from the end of time.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// A lease that is renewed three times before it runs out is renewed once a second at most.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

impl CallsConfig {
    /// How the service of calls behaves.
    pub fn calls_settings(&self) -> CallsSettings {
        let or_ever = |limit: Option<Duration>| limit.unwrap_or(FOR_EVER).min(FOR_EVER);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        CallsSettings {
            max_body: size(self.max_call_body),
            max_result: size(self.max_call_result),
            lease: or_ever(self.call_lease).max(SHORTEST_LEASE),
            window: self.call_window.max(1),
            direct: self.call_direct,
            ageing: or_ever(self.call_ageing),
            silence: or_ever(self.call_silence),
            retention: Retention {
                calls: or_ever(self.call_retention),
                results: or_ever(self.call_result_retention),
                logs: or_ever(self.call_log_retention),
            },
            callbacks: CallbackSettings {
                timeout: or_ever(self.callback_timeout),
                retry_for: or_ever(self.callback_retry_for),
                parallel: self.callback_parallel.max(1),
                allow: self.callback_allow.clone(),
            },
        }
    }
}

/// Networks, each an address or an address and the length of its prefix.
#[derive(Debug)]
pub struct Networks;

impl nodekit::settings::Kind for Networks {
    type Value = Vec<Network>;
    const NAME: &'static str = "list of networks";

    fn parse(text: &str) -> Result<Vec<Network>, String> {
        let words = Words::parse(text)?;
        let parsed = words.iter().map(|word| {
            word.parse()
                .map_err(|_| "not a network such as 10.0.0.0/8 or fd00::/8".to_owned())
        });
        parsed.collect()
    }
}

#[cfg(test)]
mod tests {
    use nodekit::settings::Kind as _;

    use super::*;

    #[test]
    fn the_defaults_are_those_that_are_promised() {
        let settings = CallsConfig::default().calls_settings();
        assert_eq!(settings.max_body, domain::call::new_call::DEFAULT_MAX_BODY);
        assert_eq!(settings.lease, Duration::from_secs(10));
        assert_eq!(settings.retention, Retention::default());
    }

    #[test]
    fn networks_are_checked() {
        let networks = Networks::parse("127.0.0.1, fd00::/8").expect("networks");
        assert_eq!(networks.len(), 2);
        assert!(Networks::parse("10.0.0.0/33").is_err());
        assert!(Networks::parse("localhost").is_err());
    }
}
