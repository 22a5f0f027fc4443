//! Answers an HTTP trigger with its own status and headers, and shows what it was asked.

use std::collections::BTreeMap;
use std::process::ExitCode;

use hearth_fdk::http::StatusCode;
use hearth_fdk::{Body, Context, Error, Intent, Response};
use serde::Serialize;

#[derive(Serialize)]
struct Seen<'a> {
    method: &'a str,
    url: Option<&'a str>,
    headers: BTreeMap<&'a str, &'a str>,
    body: &'a str,
}

async fn answer(ctx: Context, body: Body) -> Result<Response, Error> {
    if ctx.intent() == Intent::Invoke {
        return Ok(Response::text("call me through a trigger: /t/APP/SOURCE\n"));
    }
    if ctx.method() == "DELETE" {
        let refusal = Response::text("this cannot be deleted\n");
        return refusal
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header("allow", "GET, POST");
    }
    let text = |(name, value)| Some((name, str::from_utf8(value).ok()?));
    let headers = ctx.headers().iter();
    let body = body.text().await?;
    let seen = Seen {
        method: ctx.method(),
        url: ctx.request_url(),
        headers: headers
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .filter_map(text)
            .collect(),
        body: &body,
    };
    Response::json(&seen)?
        .status(StatusCode::CREATED)
        .header("location", "/things/1")?
        .header("set-cookie", "seen=yes")
}

fn main() -> ExitCode {
    hearth_fdk::run(answer)
}
