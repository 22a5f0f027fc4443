//! Slow and hungry, for trying out a function's limits. The body is a JSON object; every field is
//! optional: `sleep_ms`, `allocate_mib` (given back after the call), `busy_ms` (uses the CPU),
//! `answer_kib`, `fail` (a message), `exit` (a code).

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hearth_fdk::{Body, Context, Response};
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Wishes {
    sleep_ms: u64,
    allocate_mib: usize,
    busy_ms: u64,
    answer_kib: usize,
    fail: Option<String>,
    exit: Option<i32>,
}

async fn try_limits(ctx: Context, body: Body) -> Result<Response, String> {
    let wishes = body.json_or_none::<Wishes>().await;
    let wishes = wishes
        .map_err(|error| error.to_string())?
        .unwrap_or_default();

    // Written to, because memory that is only reserved counts for nothing.
    let memory = black_box(vec![1_u8; wishes.allocate_mib << 20]);
    // The deadline ends this sleep: the kit then answers 504.
    tokio::time::sleep(Duration::from_millis(wishes.sleep_ms)).await;
    if wishes.busy_ms > 0 {
        // On a thread of its own: the kit's thread must be free to keep the deadline.
        let spin = move || spin(Duration::from_millis(wishes.busy_ms));
        let done = tokio::task::spawn_blocking(spin).await;
        done.map_err(|error| error.to_string())?;
    }

    if let Some(code) = wishes.exit {
        std::process::exit(code);
    }
    if let Some(message) = wishes.fail {
        return Err(message);
    }
    if wishes.answer_kib > 0 {
        return Ok(Response::bytes(vec![b'x'; wishes.answer_kib << 10]));
    }
    let left = ctx.remaining().unwrap_or(Duration::MAX);
    Ok(Response::text(format!(
        "used {} MiB, {} s left\n",
        memory.len() >> 20,
        left.as_secs()
    )))
}

fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn main() -> ExitCode {
    hearth_fdk::run(try_limits)
}
