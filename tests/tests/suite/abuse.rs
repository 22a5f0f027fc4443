//! Clients and functions that mean harm, or know no better (the server must live, stay small, and
//! serve everybody else).

mod any_bytes;
mod header_injection;
mod large_bodies;
mod request_framing;
mod slow_clients;

use hearth_tests::Server;

/// How much the server may grow, whatever is done to it.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

/// Remembers how large the server is, to see how large it becomes.
struct Size<'a> {
    server: &'a Server,
    before: u64,
}

impl<'a> Size<'a> {
    fn of(server: &'a Server) -> Self {
        server.forget_peak_memory();
        Self {
            server,
            before: server.resident_memory(),
        }
    }

    /// Checks that the server has never been much larger since.
    #[track_caller]
    fn is_bounded(&self) {
        let grown = self.server.peak_memory().saturating_sub(self.before);
        assert!(
            grown < MAX_GROWTH_BYTES,
            "the server grew by {} MiB from {} MiB",
            grown >> 20,
            self.before >> 20
        );
    }
}
