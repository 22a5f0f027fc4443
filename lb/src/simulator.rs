//! Placement tried out in virtual time: many runners, several load balancers with old views, bursty
//! calls; the production code of `placement` beside ports of other rules. The same seed gives the
//! same result, to the last call. `simulate` (in `src/bin`) is its command.

pub mod dice;
pub mod grey;
pub mod machine;
pub mod measure;
pub mod policy;
pub mod report;
pub mod trace;
pub mod world;

#[cfg(test)]
mod tests;
