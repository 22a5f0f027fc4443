//! Answers with server-sent events, one at a time, as they come about.
//!
//! The body is the number of events (10 when empty); the config variable `EVENT_INTERVAL_MS` is the
//! time between two of them (100 when not set).

use std::process::ExitCode;
use std::time::Duration;

use hearth_fdk::{Body, Context, Error, Response};

async fn count(ctx: Context, body: Body) -> Result<Response, Error> {
    let events = body.text().await?.trim().parse().unwrap_or(10_u64);
    let interval = ctx.config().get("EVENT_INTERVAL_MS");
    let interval = interval.and_then(|text| text.parse().ok()).unwrap_or(100);

    let answer = Response::streaming(move |mut writer| async move {
        for number in 1..=events {
            writer
                .write(format!(
                    "id: {number}\ndata: event {number} of {events}\n\n"
                ))
                .await?;
            if number < events {
                tokio::time::sleep(Duration::from_millis(interval)).await;
            }
        }
        Ok::<_, Error>(())
    });
    answer.content_type("text/event-stream")
}

fn main() -> ExitCode {
    hearth_fdk::run(count)
}
