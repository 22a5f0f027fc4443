//! The front door over real HTTP, rule by rule.

mod durable;
mod flow;
mod invoke;
mod keyed;
mod lookup;
mod node;
mod plane;
mod records;
mod triggers;
