//! The whole, from the outside: a server process, a real engine, real functions, a real client.

mod answers;
mod docs;
mod invoke;
mod recovery;
mod startup;
mod time_limits;
