//! P4: the same calls through a load balancer and gRPC to a runner, with and without TLS.

use crate::report::{Bar, Report, Row};
use crate::rounds::Rounds;
use crate::targets::{CLUSTER, CLUSTER_TLS, NGINX, PROXY};

/// Tells how the cluster stands.
pub(crate) fn tell(rounds: &Rounds, report: &mut Report) {
    for (name, how, least) in [(CLUSTER, "plain", 0.40), (CLUSTER_TLS, "mutual TLS", 0.30)] {
        for clients in [16, 64] {
            let original = match (name, clients) {
                (CLUSTER, 16) => "0.05",
                (CLUSTER, _) => "0.025",
                _ => "–",
            };
            report.row(Row {
                what: format!("hot call through a cluster, {how}, c={clients}: throughput / nginx"),
                bar: Bar::AtLeast(least),
                original,
                ..rounds.ratio("P4", clients, name, NGINX)
            });
        }
    }
    let all = [NGINX, PROXY, CLUSTER, CLUSTER_TLS];
    let table = format!(
        "One API node on SQLite, one runner and one load balancer, each a process of the release \
         profile on this machine: wrk → load balancer → gRPC → runner → Unix socket → function. Measured in \
         the same rounds as nginx and the proxy above. The aim with multiplexed calls is 0.55.\n\n{}\n\
         The original's load balancer and runner, without TLS, before a Go echo on a machine of this kind: \
         1.1 k/s, 1.4 k/s and 0.65 k/s at 1, 16 and 64 clients, p99 at 64 clients 477 ms.\n",
        rounds.table(&all)
    );
    report.section("Cluster", table, rounds.json(&all));
}
