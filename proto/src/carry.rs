//! What both ends of `Carry` take for granted.
//!
//! A runner that ends a stream without an error has told the outcome of every call on it that it has
//! begun: any other may be tried elsewhere. A load balancer always reads the stream, and holds a
//! call back by its credit.

/// How many bytes of a call's input, and of its output, may be under way before the other side has
/// given credit for more. The first piece of an input counts.
pub const INITIAL_CREDIT: u64 = 64 * 1024;
/// The most calls at a time on one stream; further ones are refused.
pub const MAX_CALLS: usize = 1024;
/// The most functions that are named on one stream; a runner ends a stream that goes beyond, and its
/// load balancer opens another.
pub const MAX_FUNCTIONS: usize = 64 * 1024;
