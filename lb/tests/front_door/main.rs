//! The front door over real HTTP, rule by rule.

mod flow;
mod invoke;
mod lookup;
mod node;
mod triggers;
