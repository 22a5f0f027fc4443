//! `simulate`: the tables of `docs/placement.md`, without a server.

use std::io::Write;
use std::process::ExitCode;

use lb::simulator::measure::decisions;
use lb::simulator::policy::Policy;
use lb::simulator::report::{Plan, ratios, table};
use lb::simulator::{grey, policy};

const USAGE: &str = "\
Usage: simulate [--quick] [--grey] [--decisions] [OPTIONS]

  (nothing)          the table: p50, p95, p99 of the overhead, cold starts, tries
  --quick            a small form of it that is over in seconds
  --grey             one of eleven runners is ten times slower for half a minute
  --decisions        how long a decision takes on this machine

  --runners N  --functions N  --balancers N  --seconds N
  --loads 0.6,0.7  --slow 0,0.03  --seeds 1,2  --policies ewma,ch
";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut out = std::io::stdout();
    if has("--help") {
        write!(out, "{USAGE}")?;
        return Ok(());
    }
    let mut plan = if has("--quick") {
        Plan::quick()
    } else {
        Plan::full()
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if ["--quick", "--grey", "--decisions"].contains(&argument.as_str()) {
            continue;
        }
        let value = rest
            .next()
            .ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--runners" => plan.runners = value.parse()?,
            "--functions" => plan.functions = value.parse()?,
            "--balancers" => plan.balancers = value.parse()?,
            "--seconds" => plan.seconds = value.parse()?,
            "--loads" => plan.loads = list(value)?,
            "--slow" => plan.slow = list(value)?,
            "--seeds" => plan.seeds = list(value)?,
            "--policies" => plan.policies = list(value)?,
            _ => return Err(format!("unknown option {argument}\n{USAGE}").into()),
        }
    }
    if has("--decisions") {
        return measure(&mut out, &plan);
    }
    if has("--grey") {
        return play_grey(&mut out, &plan);
    }
    play(&mut out, &plan)
}

fn play(out: &mut impl Write, plan: &Plan) -> Result<(), Failure> {
    writeln!(
        out,
        "| load | slow | rule | p50 | p95 | p99 | cold | tries | tries p99 | unanswered |\n|---|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut beside = String::new();
    for load in &plan.loads {
        for slow in &plan.slow {
            let rows = plan.row(*load, *slow, |_, _| {});
            write!(out, "{}", table(plan, *load, *slow, &rows))?;
            out.flush()?;
            beside += &ratios(plan, *load, *slow, &rows);
        }
    }
    if !beside.is_empty() {
        writeln!(
            out,
            "\n| load | slow | random state | p99, ewma / ch | cold, ewma / ch | healthy runners ejected |\n|---|---|---|---|---|---|\n{beside}"
        )?;
    }
    Ok(())
}

fn play_grey(out: &mut impl Write, plan: &Plan) -> Result<(), Failure> {
    writeln!(
        out,
        "| random state | rule | below 1 s | p99 | p99 before | ejected after | back after |\n|---|---|---|---|---|---|---|"
    )?;
    let time = |seconds: Option<f64>| seconds.map_or("–".to_owned(), |s| format!("{s:.2} s"));
    for seed in &plan.seeds {
        for policy in policy::ALL
            .into_iter()
            .filter(|policy| plan.policies.contains(policy))
        {
            let one = grey::play_grey(*seed, policy);
            writeln!(
                out,
                "| {seed} | `{policy}` | {:.3} % | {:.0} ms | {:.0} ms | {} | {} |",
                one.within_a_second * 100.0,
                one.p99 * 1e3,
                one.p99_well * 1e3,
                time(one.ejected_after.filter(|_| policy == Policy::Ewma)),
                time(one.back_after.filter(|_| policy == Policy::Ewma)),
            )?;
        }
    }
    Ok(())
}

fn measure(out: &mut impl Write, plan: &Plan) -> Result<(), Failure> {
    for seed in &plan.seeds {
        let one = decisions(plan.runners, plan.functions, 1_000_000, *seed);
        writeln!(
            out,
            "{} runners, {} functions, {} decisions ({:.0} % with an idle container): p50 {:?}, p99 {:?}, p99.9 {:?}; reading the clock {:?}",
            plan.runners,
            plan.functions,
            one.count,
            one.warm as f64 * 100.0 / one.count as f64,
            one.p50,
            one.p99,
            one.p999,
            one.clock,
        )?;
    }
    Ok(())
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, Failure>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.split(',').map(|one| Ok(one.trim().parse()?)).collect()
}
