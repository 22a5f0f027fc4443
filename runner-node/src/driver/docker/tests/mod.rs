//! Tests against a real engine. They need the engine's socket and `/bin/busybox`, statically
//! linked (Debian's `busybox-static`), from which their image is made.

mod bench;
mod containers;
mod images;
mod lifecycle;
mod logs;
mod predecessors;
mod registry;

use crate::driver::contract::contract_tests;
use bench::DockerBench;

contract_tests!(DockerBench::new().await);
