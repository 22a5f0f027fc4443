//! The clients: each hands in its call once (with a key, until it knows more), and keeps what it was
//! told.

use std::time::Duration;

use bytes::Bytes;
use hearth_tests::{Answer, Client};
use http::{Request, StatusCode};
use tokio::time::{sleep, timeout};

use super::plan::{Cancel, Plan};

/// Whoever has no answer after this time does not wait for it any more.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a call with a key is handed in by one client.
const TRIES: u32 = 3;

/// What a client was told of a call that it handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It is accepted, or was before, and has this id.
    Accepted(String),
    /// It is refused.
    Refused(StatusCode),
    /// Nothing.
    Nothing(String),
}

/// What a client was told when it cancelled a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelTold {
    /// It is cancelled.
    Cancelled,
    /// It is not.
    Refused(StatusCode),
    /// Nothing.
    Nothing,
}

/// What one client did, and what it was told.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) plan: Plan,
    pub(super) told: Told,
    /// What the API said of the call right after it was accepted, if it said something.
    pub(super) looked: Option<StatusCode>,
    pub(super) cancel: Option<CancelTold>,
}

/// A client of a load balancer and of an API node.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) lb: Client,
    pub(super) api: Client,
    /// The paths of the functions.
    pub(super) paths: std::sync::Arc<[String]>,
}

impl Caller {
    /// Does what is planned.
    pub(super) async fn follow(&self, plan: Plan) -> Account {
        let mut told = self.hand_in(&plan).await;
        for _ in 1..TRIES {
            if plan.key.is_none() || !matches!(told, Told::Nothing(_)) {
                break;
            }
            told = self.hand_in(&plan).await;
        }
        let mut account = Account {
            plan,
            told,
            looked: None,
            cancel: None,
        };
        let Told::Accepted(id) = &account.told else {
            return account;
        };
        let path = format!("/v2/calls/{id}");
        let looked = answer(&self.api, Request::get(&path), Bytes::new()).await;
        account.looked = looked.ok().map(|answer| answer.status);
        match account.plan.cancel {
            Cancel::Never => return account,
            Cancel::Waiting => {}
            Cancel::After(time) => sleep(time).await,
        }
        let answer = answer(&self.api, Request::delete(&path), Bytes::new()).await;
        account.cancel = Some(match answer.map(|answer| answer.status) {
            Ok(status) if status.is_success() => CancelTold::Cancelled,
            Ok(status) if status.is_client_error() => CancelTold::Refused(status),
            _ => CancelTold::Nothing,
        });
        account
    }

    async fn hand_in(&self, plan: &Plan) -> Told {
        let mut request = Request::post(&self.paths[plan.function]);
        for (name, value) in plan.headers() {
            request = request.header(name, value);
        }
        match answer(&self.lb, request, plan.input()).await {
            Ok(answer) => what_is_told(&answer),
            Err(why) => Told::Nothing(why),
        }
    }
}

fn what_is_told(answer: &Answer) -> Told {
    let replayed = answer.header("Idempotent-Replayed") == Some("true");
    match answer.header("Fn-Call-Id") {
        // What comes of a call that is over is told to the next one with its key.
        Some(id) if answer.status == StatusCode::ACCEPTED || replayed => {
            Told::Accepted(id.to_owned())
        }
        _ if answer.status == StatusCode::ACCEPTED => Told::Nothing("202 without an id".to_owned()),
        // It may have been accepted all the same.
        _ if answer.status.is_server_error() => {
            Told::Nothing(format!("{} {}", answer.status, answer.text()))
        }
        _ => Told::Refused(answer.status),
    }
}

async fn answer(
    client: &Client,
    request: http::request::Builder,
    body: Bytes,
) -> Result<Answer, String> {
    let request = request.body(body).expect("a valid request");
    match timeout(PATIENCE, client.try_send(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
