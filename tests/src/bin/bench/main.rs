//! The benchmark harness: Hearth against nginx and against a bare proxy, in one run, interleaved.
//! `tests/bench` starts it; `docs/performance.md` explains it and keeps its last table.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a harness tells what it finds, and stops when it cannot go on"
)]

mod cluster;
mod cold;
mod connection;
mod document;
mod durable;
mod engine_api;
mod idleness;
mod launches;
mod machine;
mod memory;
mod nginx;
mod open_loop;
mod overload;
mod plan;
mod proxy;
mod records;
mod report;
mod rounds;
mod sql;
mod statistics;
mod targets;
mod throughput;
mod twin;
mod wrk;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use hearth_tests::authority::Authority;
use hearth_tests::{binary, functions};
use tokio::signal::unix::{SignalKind, signal};

use crate::plan::{Command, Part, Plan};
use crate::report::Report;
use crate::rounds::{Rounds, Target};
use crate::targets::{CLUSTER, CLUSTER_TLS, HEARTH, Hearth, Limits, NGINX, PROXY};

fn main() -> ExitCode {
    let plan = Plan::parse();
    let mut runtime = match &plan.command {
        // One thread, as wrk has.
        Some(Command::Generator(_)) => tokio::runtime::Builder::new_current_thread(),
        // As many threads, and of the same kind, as the server's own runtime.
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build().expect("a runtime");
    let ended = runtime.block_on(async {
        match &plan.command {
            Some(Command::Proxy(proxy)) => return proxy::serve(proxy).await,
            Some(Command::Generator(generator)) => return open_loop::run(generator).await,
            None => {}
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
    let mut report = Report::new(machine::facts());
    if plan.has_records() {
        records::measure(plan, &mut report).await?;
    }
    if !plan.only_records() {
        calls(plan, &mut report).await?;
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

/// Everything that is measured by calls of a function.
async fn calls(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    tell("building what is measured");
    let image = functions::image(plan::FUNCTION);
    if plan.has(Part::Memory) {
        memory::measure(plan, &image, report).await?;
    }
    hot(plan, &image, report).await?;
    if plan.has(Part::Overload) {
        overload::measure(plan, report).await?;
    }
    if plan.has(Part::Durable) {
        durable::measure(plan, report).await?;
    }
    Ok(())
}

/// Everything that is measured with a function that is in use.
async fn hot(plan: &Plan, image: &str, report: &mut Report) -> anyhow::Result<()> {
    let hearth = match plan.has_any(&[
        Part::Throughput,
        Part::Idleness,
        Part::ColdStart,
        Part::Launches,
    ]) {
        true => Some(Hearth::start(image, plan).await?),
        false => None,
    };
    let authority = Authority::new("bench");
    let clusters = match plan.has(Part::Cluster) {
        true => Some([
            Hearth::start_cluster(image, plan, None).await?,
            Hearth::start_cluster(image, plan, Some(&authority)).await?,
        ]),
        false => None,
    };
    let like = hearth
        .as_ref()
        .or(clusters.as_ref().map(|[plain, _]| plain));
    if let Some(like) = like
        && plan.has_any(&[Part::Throughput, Part::Cluster, Part::Idleness])
    {
        let limits = Limits::start(like).await?;
        report.note(format!(
            "Hearth kept {0} container(s) of the function after the warm-up with 64 clients; nginx and the proxy \
             shared {0} twin(s) of them.",
            limits.containers()
        ));
        side_by_side(plan, &limits, hearth.as_ref(), clusters.as_ref(), report).await?;
        if let Some(hearth) = hearth.as_ref().filter(|_| plan.has(Part::Idleness)) {
            idleness::measure(plan, hearth, &limits, report).await?;
        }
    }
    drop(clusters);
    if let Some(hearth) = &hearth {
        if plan.has(Part::ColdStart) {
            cold::measure(plan, hearth, image, report).await?;
        }
        if plan.has(Part::Launches) {
            launches::measure(plan, hearth, image, report).await?;
        }
    }
    Ok(())
}

/// Throughput of everything that is wanted, in the same rounds.
async fn side_by_side(
    plan: &Plan,
    limits: &Limits,
    hearth: Option<&Hearth>,
    clusters: Option<&[Hearth; 2]>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let hearth = hearth.filter(|_| plan.has(Part::Throughput));
    if hearth.is_none() && clusters.is_none() {
        return Ok(());
    }
    let target = |name, url| Target { name, url };
    let mut targets = vec![
        target(NGINX, limits.nginx_url()),
        target(PROXY, limits.proxy_url()),
    ];
    targets.extend(hearth.map(|hearth| target(HEARTH, hearth.url())));
    if let Some([plain, tls]) = clusters {
        targets.push(target(CLUSTER, plain.url()));
        targets.push(target(CLUSTER_TLS, tls.url()));
    }
    let rounds = Rounds::measure(plan, &targets, report).await?;
    if hearth.is_some() {
        throughput::tell(&rounds, report);
    }
    if let Some([plain, tls]) = clusters {
        report.note(format!(
            "The runners of the clusters kept {} and, with TLS, {} container(s).",
            plain.server.containers().len(),
            tls.server.containers().len()
        ));
        cluster::tell(&rounds, report);
    }
    Ok(())
}
