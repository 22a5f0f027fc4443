//! The whole, from the outside: a server process, a real engine, real functions, a real client.

mod abuse;
mod answers;
mod bad_settings;
mod capacity;
mod cluster;
mod containers;
mod detached;
mod docs;
mod durable;
mod engine_outage;
mod examples;
mod failed_calls;
mod headers;
mod hostile_answers;
mod images;
mod invoke;
mod netns;
mod python;
mod recovery;
mod startup;
mod syslog;
mod time_limits;
mod triggers;
