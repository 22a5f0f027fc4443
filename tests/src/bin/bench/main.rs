//! The benchmark harness: Hearth against nginx and against a bare proxy, in one run, interleaved.
//! `tests/bench` starts it; `docs/performance.md` explains it and keeps its last table.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a harness tells what it finds, and stops when it cannot go on"
)]

mod cold;
mod connection;
mod document;
mod engine_api;
mod idleness;
mod launches;
mod machine;
mod memory;
mod nginx;
mod plan;
mod proxy;
mod report;
mod statistics;
mod targets;
mod throughput;
mod twin;
mod wrk;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use hearth_tests::{binary, functions};
use tokio::signal::unix::{SignalKind, signal};

use crate::plan::{Command, Part, Plan};
use crate::report::Report;
use crate::targets::{Hearth, Limits};

fn main() -> ExitCode {
    let plan = Plan::parse();
    // As many threads, and of the same kind, as the server's own runtime.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ended = runtime.block_on(async {
        if let Some(Command::Proxy(proxy)) = &plan.command {
            return proxy::serve(proxy).await;
        }
        tokio::select! {
            ended = run(&plan) => ended,
            // Dropping the run stops whatever it has started.
            ended = told_to_stop() => ended,
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    anyhow::bail!("stopped before its end")
}

/// Says what is being done.
fn tell(what: impl std::fmt::Display) {
    eprintln!("-- {what}");
}

async fn run(plan: &Plan) -> anyhow::Result<()> {
    tell("building what is measured");
    let image = functions::image(plan::FUNCTION);
    let mut report = Report::new(machine::facts());

    if plan.has(Part::Memory) {
        memory::measure(plan, &image, &mut report).await?;
    }
    if plan.has_any(&[
        Part::Throughput,
        Part::Idleness,
        Part::ColdStart,
        Part::Launches,
    ]) {
        let hearth = Hearth::start(&image, plan).await?;
        if plan.has_any(&[Part::Throughput, Part::Idleness]) {
            let limits = Limits::start(&hearth).await?;
            report.note(format!(
                "Hearth kept {0} container(s) of the function after the warm-up with 64 clients; nginx and the proxy \
                 shared {0} twin(s) of them.",
                limits.containers()
            ));
            if plan.has(Part::Throughput) {
                throughput::measure(plan, &hearth, &limits, &mut report).await?;
            }
            if plan.has(Part::Idleness) {
                idleness::measure(plan, &hearth, &limits, &mut report).await?;
            }
        }
        if plan.has(Part::ColdStart) {
            cold::measure(plan, &hearth, &image, &mut report).await?;
        }
        if plan.has(Part::Launches) {
            launches::measure(plan, &hearth, &image, &mut report).await?;
        }
    }

    println!("{}", report.markdown());
    let json = binary::profile().with_file_name("bench.json");
    std::fs::write(&json, report.json(plan))
        .with_context(|| format!("cannot write {}", json.display()))?;
    tell(format_args!("all numbers are in {}", json.display()));
    if plan.write_docs {
        document::write(
            &binary::repository().join("docs/performance.md"),
            &report,
            plan,
        )?;
        tell("docs/performance.md is written");
    }
    Ok(())
}
