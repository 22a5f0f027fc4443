//! Answers with the body and the content type of the call. The benchmarks use it.

use std::process::ExitCode;

use hearth_fdk::http::header::CONTENT_TYPE;
use hearth_fdk::{Body, Context, Error, Response};

async fn echo(ctx: Context, body: Body) -> Result<Response, Error> {
    let answer = Response::bytes(body.bytes().await?);
    match ctx.headers().get(CONTENT_TYPE) {
        Some(kind) => answer.content_type(kind.clone()),
        None => Ok(answer),
    }
}

fn main() -> ExitCode {
    hearth_fdk::run(echo)
}
