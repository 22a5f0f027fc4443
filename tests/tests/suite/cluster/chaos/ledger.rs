//! The ledger: how often each call was executed. Each execution says its call's number before it
//! does anything else.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use hearth_tests::ledger;

/// How often each call was executed.
pub(super) type Executions = HashMap<u64, u32>;

/// The ledger. It is closed when it is dropped.
pub(super) struct Ledger(ledger::Ledger);

impl Ledger {
    /// Opens one at an address of the machine that containers reach.
    pub(super) async fn start(address: Ipv4Addr) -> Self {
        Self(ledger::Ledger::start(address).await)
    }

    /// Where executions are told, as `host:port`.
    pub(super) fn address(&self) -> &str {
        self.0.address()
    }

    /// What was executed until now.
    pub(super) fn executions(&self) -> Executions {
        let mut executions = Executions::new();
        for line in self.0.lines() {
            let number = line.parse().expect("the number of a call");
            *executions.entry(number).or_default() += 1;
        }
        executions
    }

    /// Begins anew.
    pub(super) fn forget(&self) {
        self.0.forget();
    }
}
