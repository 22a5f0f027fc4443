//! Calls over HTTP, in front of the real service and real databases.

mod cancel;
mod dead_letters;
mod list;
mod runner;
mod show;
mod submit;
