//! The settings of an API node (spec/01 1.1).

use nodekit::settings;
use nodekit::settings::kinds::{Int, Text, Url};

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
