//! Greets whom the call names: `{"name": "Ada"}` gives `{"message": "Hello Ada"}`.
#![allow(clippy::print_stdout, reason = "stdout is the function's log")]

use std::process::ExitCode;

use hearth_fdk::{Body, Context, Error, Response};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Greet {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    message: String,
}

async fn hello(ctx: Context, body: Body) -> Result<Response, Error> {
    let name = match body.json_or_none::<Greet>().await? {
        Some(greet) => greet.name,
        None => "World".to_owned(),
    };
    println!("call {} greets {name}", ctx.call_id());
    Response::json(&Greeting {
        message: format!("Hello {name}"),
    })
}

fn main() -> ExitCode {
    hearth_fdk::run(hello)
}
