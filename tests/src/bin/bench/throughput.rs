//! P1, P2, P3: calls per second and latency of a hot function on one node.

use crate::report::{Bar, Report, Row};
use crate::rounds::Rounds;
use crate::targets::{HEARTH, NGINX, PROXY};

/// Tells how one node stands.
pub(crate) fn tell(rounds: &Rounds, report: &mut Report) {
    for clients in [16, 64] {
        let original = if clients == 16 { "0.05" } else { "0.04" };
        report.row(Row {
            bar: Bar::AtLeast(0.70),
            original,
            ..rounds.ratio("P1", clients, HEARTH, NGINX)
        });
        report.row(Row {
            bar: Bar::AtLeast(0.85),
            ..rounds.ratio("P1", clients, HEARTH, PROXY)
        });
    }
    let (ours, theirs) = (rounds.of(HEARTH, 64).p99(), rounds.of(NGINX, 64).p99());
    report.row(Row {
        id: "P2",
        what: "hot call, c=64: p99 / nginx".to_owned(),
        ours: format!("{ours:.2} ms"),
        theirs: format!("{theirs:.2} ms"),
        value: ours / theirs,
        unit: "",
        bar: Bar::AtMost(2.0),
        original: "20–60",
    });
    report.row(Row {
        bar: Bar::AtLeast(0.60),
        original: "0.17",
        ..rounds.ratio("P3", 1, HEARTH, NGINX)
    });
    let all = [NGINX, PROXY, HEARTH];
    report.section("Throughput", rounds.table(&all), rounds.json(&all));
}
