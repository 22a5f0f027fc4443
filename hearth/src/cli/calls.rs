//! Durable calls on the command line: handing one in, looking after calls, and dead letters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use domain::call::{Attempt, CallOptions};
use domain::{CallId, CallRecord, CallState, Func, Timestamp};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::client::{Client, Page};
use super::{find_function, print, query};

/// How often a call is looked at whose end is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What may be asked of a durable call.
#[derive(clap::Args)]
pub(super) struct Options {
    /// Seconds before it may run.
    #[arg(long, requires = "is_async", conflicts_with = "run_at")]
    delay: Option<u64>,
    /// When it may run, such as 2030-01-01T00:00:00Z.
    #[arg(long, requires = "is_async", value_parser = time)]
    run_at: Option<Timestamp>,
    /// Seconds after which it is given up, counted from when it may run.
    #[arg(long, requires = "is_async")]
    expiry: Option<u64>,
    /// 0 to 9; higher ones go first.
    #[arg(long, requires = "is_async")]
    priority: Option<i32>,
    /// How often it may be tried.
    #[arg(long, requires = "is_async")]
    max_attempts: Option<u32>,
    /// Where its outcome is posted to.
    #[arg(long, requires = "is_async")]
    callback_url: Option<String>,
    /// A word to find it by, as NAME=VALUE. May be given several times.
    #[arg(long = "tag", requires = "is_async", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Calls of one function with one key are one call.
    #[arg(long, requires = "is_async")]
    idempotency_key: Option<String>,
    /// Wait for its end, and print the answer.
    #[arg(long, requires = "is_async")]
    wait: bool,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "expected a time such as 2030-01-01T00:00:00Z".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Looks after calls.
#[derive(clap::Subcommand)]
pub(crate) enum Calls {
    /// Lists calls, newest first.
    List(Filter),
    /// Shows a call with its attempts.
    Get { id: String },
    /// Prints what the function of a call printed.
    Log {
        id: String,
        /// Go on until the call is over.
        #[arg(long, short)]
        follow: bool,
    },
    /// Prints what the function answered.
    Result { id: String },
    /// Cancels calls, also running ones.
    Cancel {
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Looks after durable calls that were given up.
#[derive(clap::Subcommand)]
pub(crate) enum DeadLetters {
    /// Lists them, newest first.
    List(Filter),
    /// Hands them in again, as new calls.
    Redrive(Selection),
    /// Deletes them.
    Purge(Selection),
}

/// Which calls are listed.
#[derive(clap::Args)]
pub(crate) struct Filter {
    /// Of this app.
    #[arg(long)]
    app: Option<String>,
    /// Of this function of the app.
    #[arg(long, requires = "app")]
    function: Option<String>,
    /// With one of these states, with commas between them.
    #[arg(long)]
    status: Option<String>,
    /// With this tag, as name:value.
    #[arg(long)]
    tag: Option<String>,
    /// How many at most.
    #[arg(long, short = 'n', default_value_t = 30)]
    number: usize,
}

/// Which dead letters.
#[derive(clap::Args)]
pub(crate) struct Selection {
    /// These.
    ids: Vec<String>,
    /// All of this app.
    #[arg(long, conflicts_with = "ids")]
    app: Option<String>,
    /// All of this function of the app.
    #[arg(long, requires = "app")]
    function: Option<String>,
    /// All with this tag, as name:value.
    #[arg(long, conflicts_with = "ids")]
    tag: Option<String>,
    /// All there are.
    #[arg(long, conflicts_with_all = ["ids", "app", "tag"])]
    all: bool,
}

#[derive(Serialize)]
struct Draft {
    payload_base64: String,
    #[serde(flatten)]
    options: CallOptions,
}

#[derive(Deserialize)]
struct Accepted {
    call_id: CallId,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(flatten)]
    call: CallRecord,
    #[serde(default)]
    history: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Redriven {
    items: Vec<RedrivenCall>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct RedrivenCall {
    id: CallId,
    call_id: Option<CallId>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
    next_cursor: Option<String>,
}

/// Hands in a call; prints its id, or waits for its end and prints the answer.
pub(super) async fn submit(
    client: &Client,
    func: &Func,
    data: &[u8],
    options: Options,
) -> anyhow::Result<()> {
    let draft = Draft {
        payload_base64: base64(data),
        options: CallOptions {
            delay_seconds: options.delay,
            run_at: options.run_at,
            expiry_seconds: options.expiry,
            priority: options.priority,
            max_attempts: options.max_attempts,
            callback_url: options.callback_url,
            tags: BTreeMap::from_iter(options.tags),
            idempotency_key: options.idempotency_key,
        },
    };
    let accepted: Accepted = client
        .create(&format!("/v2/fns/{}/calls", func.id), &draft)
        .await?;
    if !options.wait {
        return print(format!("{}\n", accepted.call_id).as_bytes());
    }
    let call = loop {
        let call: CallRecord = client
            .get(&format!("/v2/calls/{}", accepted.call_id))
            .await?;
        if call.status.is_final() {
            break call;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if call.result_status.is_some() {
        result(client, call.id.as_str()).await?;
    }
    if call.status != CallState::Success {
        bail!("call {} ended: {}", call.id, outcome(&call));
    }
    Ok(())
}

pub(crate) async fn calls(url: &str, command: Calls) -> anyhow::Result<()> {
    let client = Client::new(url);
    match command {
        Calls::List(filter) => list(&client, "/v2/calls", filter).await,
        Calls::Get { id } => {
            let shown: Shown = client.get(&format!("/v2/calls/{}", query(&id))).await?;
            print(details(&shown).as_bytes())
        }
        Calls::Log { id, follow } => {
            let path = format!("/v2/calls/{}/log?follow={follow}", query(&id));
            client.copy(&path, "text/plain", print).await
        }
        Calls::Result { id } => result(&client, &id).await,
        Calls::Cancel { ids } => {
            for id in ids {
                let call: CallRecord = client.delete(&format!("/v2/calls/{}", query(&id))).await?;
                print(format!("{} {}\n", call.id, outcome(&call)).as_bytes())?;
            }
            Ok(())
        }
    }
}

pub(crate) async fn dead_letters(url: &str, command: DeadLetters) -> anyhow::Result<()> {
    let client = Client::new(url);
    match command {
        DeadLetters::List(filter) => list(&client, "/v2/dead-letters", filter).await,
        DeadLetters::Redrive(selection) => redrive(&client, &selection).await,
        DeadLetters::Purge(selection) => purge(&client, &selection).await,
    }
}

/// Prints the answer of a call's function. What is not the function's is an error.
async fn result(client: &Client, id: &str) -> anyhow::Result<()> {
    let path = format!("/v2/calls/{}/result", query(id));
    let answer = client.send(Method::GET, &path, Bytes::new()).await?;
    if !answer.headers().contains_key("fn-call-id") {
        return Err(client.refusal(&Method::GET, &path, &answer));
    }
    print(answer.body())?;
    if !answer.body().ends_with(b"\n") {
        print(b"\n")?;
    }
    if answer.status() >= StatusCode::INTERNAL_SERVER_ERROR {
        bail!("the function answered with {}", answer.status());
    }
    Ok(())
}

async fn list(client: &Client, path: &str, filter: Filter) -> anyhow::Result<()> {
    let mut asked = format!("{path}?");
    narrow(client, &mut asked, filter.app, filter.function, filter.tag).await?;
    if let Some(status) = filter.status {
        write!(asked, "&status={}", query(&status))?;
    }
    let (mut left, mut cursor) = (filter.number, String::new());
    while left > 0 {
        let page: Page<CallRecord> = client
            .get(&format!("{asked}&per_page={left}&cursor={cursor}"))
            .await?;
        left = left.saturating_sub(page.items.len());
        for call in &page.items {
            print(line(call).as_bytes())?;
        }
        match page.next_cursor {
            Some(next) => cursor = query(&next),
            None => break,
        }
    }
    Ok(())
}

async fn redrive(client: &Client, selection: &Selection) -> anyhow::Result<()> {
    let mut failed = 0;
    let mut cursor = None;
    loop {
        let mut document = serde_json::json!({ "cursor": cursor });
        if selection.ids.is_empty() {
            document["all"] = selection.all.into();
            let (app, func) = ids_of(client, &selection.app, &selection.function).await?;
            document["app_id"] = app.into();
            document["fn_id"] = func.into();
            document["tag"] = selection.tag.clone().into();
        } else {
            document["ids"] = selection.ids.clone().into();
        }
        let redriven: Redriven = client.create("/v2/dead-letters/redrive", &document).await?;
        for item in redriven.items {
            let told = match (item.call_id, item.message) {
                (Some(call_id), _) => format!("{} -> {call_id}\n", item.id),
                (None, message) => {
                    failed += 1;
                    format!("{}: {}\n", item.id, message.unwrap_or_default())
                }
            };
            print(told.as_bytes())?;
        }
        cursor = redriven.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} were not redriven"),
    }
}

async fn purge(client: &Client, selection: &Selection) -> anyhow::Result<()> {
    let mut asked = "/v2/dead-letters?".to_owned();
    let Selection {
        app, function, tag, ..
    } = selection;
    narrow(
        client,
        &mut asked,
        app.clone(),
        function.clone(),
        tag.clone(),
    )
    .await?;
    for id in &selection.ids {
        write!(asked, "&id={}", query(id))?;
    }
    if selection.all {
        asked.push_str("&all=true");
    }
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let purged: Purged = client.delete(&format!("{asked}&cursor={cursor}")).await?;
        count += purged.purged;
        match purged.next_cursor {
            Some(next) => cursor = query(&next),
            None => break,
        }
    }
    print(format!("{count} purged\n").as_bytes())
}

/// Adds filters to a query.
async fn narrow(
    client: &Client,
    asked: &mut String,
    app: Option<String>,
    function: Option<String>,
    tag: Option<String>,
) -> anyhow::Result<()> {
    let (app, func) = ids_of(client, &app, &function).await?;
    for (name, value) in [("app_id", app), ("fn_id", func), ("tag", tag)] {
        if let Some(value) = value {
            write!(asked, "&{name}={}", query(&value))?;
        }
    }
    Ok(())
}

/// The ids of an app, and of a function in it.
async fn ids_of(
    client: &Client,
    app: &Option<String>,
    function: &Option<String>,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let Some(app) = app else {
        return Ok((None, None));
    };
    if let Some(function) = function {
        let func = find_function(client, app, function).await?;
        return Ok((Some(func.app_id.to_string()), Some(func.id.to_string())));
    }
    let found: domain::App = client
        .find(&format!("/v2/apps?name={}", query(app)))
        .await?
        .with_context(|| format!("there is no app {app}"))?;
    Ok((Some(found.id.to_string()), None))
}

fn line(call: &CallRecord) -> String {
    format!(
        "{} {} {} {}\n",
        call.id,
        call.created_at,
        call.path,
        outcome(call)
    )
}

/// How far a call is, and why.
fn outcome(call: &CallRecord) -> String {
    let mut text = call.status.as_str().to_owned();
    if let Some(reason) = call.reason {
        text = format!("{text} ({})", reason.as_str());
    }
    if let Some(error) = &call.error {
        text = format!("{text}: {error}");
    }
    text
}

fn details(shown: &Shown) -> String {
    let call = &shown.call;
    let mut text = String::new();
    let mut tell = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<10} {value}\n"));
        }
    };
    let at = |time: Timestamp| match time.is_unset() {
        true => String::new(),
        false => time.to_string(),
    };
    let tags: Vec<_> = call
        .tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let origin = call.origin_id.as_ref();
    tell("id", call.id.to_string());
    tell("status", outcome(call));
    tell("type", call.kind.as_str().to_owned());
    tell("path", call.path.clone());
    tell("fn", call.fn_id.to_string());
    tell("app", call.app_id.to_string());
    tell("origin", origin.map_or(String::new(), CallId::to_string));
    tell("tags", tags.join(","));
    tell("created", at(call.created_at));
    tell("due", at(call.due_at));
    tell("expires", at(call.expires_at));
    tell("started", at(call.started_at));
    tell("completed", at(call.completed_at));
    for attempt in &shown.history {
        let error = attempt.error.as_deref().unwrap_or_default();
        let told = format!(
            "{} {} on {} {error}",
            attempt.claimed_at,
            attempt.status.as_str(),
            attempt.runner_id
        );
        tell(
            &format!("attempt {}", attempt.epoch),
            told.trim_end().to_owned(),
        );
    }
    text
}

fn base64(data: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(data)
}
