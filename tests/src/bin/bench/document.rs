//! `docs/performance.md`: the last table, and what people have written below it.

use std::path::Path;

use anyhow::Context as _;

use crate::plan::{BODY, FUNCTION, Plan};
use crate::report::Report;

/// Everything below this line is kept.
const NOTES: &str = "<!-- notes: what is below is written by hand, and kept -->";

/// Writes the document anew, but for its notes.
pub(crate) fn write(path: &Path, report: &Report, plan: &Plan) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    let notes = old.split_once(NOTES).map_or("\n", |(_, notes)| notes);
    let text = format!("{}\n{NOTES}{notes}", generated(report, plan));
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn generated(report: &Report, plan: &Plan) -> String {
    format!(
        "# Performance

`tests/bench --rounds {rounds} --seconds {seconds} --write-docs` made this page. It measures, in one run
and in turns:

- **nginx**, the limit: one worker, kept connections to the function's Unix socket;
- **proxy**: hyper from TCP to the function's Unix socket, one connection per container, nothing else;
- **hearth**: `hearth up` from the release profile, metrics on, Docker driver, `/invoke`;
- **cluster**: the same binary as an API node on SQLite, a runner and a load balancer, each a process on
  this machine, without and with mutual TLS between them.

The function is the example `{FUNCTION}` on the Rust kit, called with a body of {bytes} bytes; nginx and the
proxy have containers of their own that are twins of Hearth's. nginx opens a connection to a container for
each client, so that calls meet in the function; Hearth and the proxy send a container one call at a time. The load is `wrk -t1`; client, server
and function share the machine. Numbers are medians of {rounds} rounds of {seconds} s; a round with a failed
request does not count. What the original reached was measured once, on a machine of the same kind,
with an echo in Go (the last column). Machines differ and are noisy: only the ratios of one run mean something.

## Bars

{table}",
        rounds = plan.rounds,
        seconds = plan.seconds,
        bytes = BODY.len(),
        table = report.markdown(),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn notes_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("performance.md");
        let (report, plan) = (Report::new(Vec::new()), Plan::parse_from(["bench"]));
        write(&path, &report, &plan).expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        std::fs::write(
            &path,
            format!(
                "{}\n## What we learned\n",
                text.replace("# Performance", "# Old")
            ),
        )
        .expect("written");
        write(&path, &report, &plan).expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.starts_with("# Performance\n"), "{text}");
        assert!(text.ends_with("-->\n\n## What we learned\n"), "{text}");
    }
}
