//! `/1/lb/nodes`: the runners that operators list, and whether they are there (spec/07 7.2).

use std::collections::BTreeMap;

use domain::{ApiError, ErrorCode, HostPort};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body};
use serde::{Deserialize, Serialize};

use super::{Shared, json};
use crate::placement::Health;

/// More than the longest address needs.
const MAX_BODY_BYTES: usize = 16 << 10;

#[derive(Deserialize)]
struct Change {
    node: String,
}

#[derive(Serialize)]
struct Message<'a> {
    msg: &'a str,
}

#[derive(Serialize)]
struct Nodes {
    nodes: BTreeMap<String, &'static str>,
}

pub(super) async fn answer(shared: &Shared, request: Request<Body>) -> Response<Body> {
    let answer = match *request.method() {
        Method::GET => list(shared).await,
        Method::PUT => add(shared, request).await,
        Method::DELETE => remove(shared, request).await,
        // As the original does.
        _ => Ok(Response::new(body::empty())),
    };
    answer.unwrap_or_else(|error| {
        let status = match error.status() {
            400..=499 => StatusCode::BAD_REQUEST,
            _ => {
                tracing::warn!(?error, "the list of nodes could not be read or changed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let msg = error.message();
        json(status, &Message { msg })
    })
}

/// All runners, and the nodes that are listed and are none yet.
async fn list(shared: &Shared) -> Result<Response<Body>, ApiError> {
    let listed = shared.nodes.list().await?;
    let mut nodes: BTreeMap<_, _> = listed
        .iter()
        .map(|node| (node.to_string(), "offline"))
        .collect();
    for runner in shared.runners.view() {
        let state = match runner.health {
            Health::Healthy | Health::Probing => "online",
            Health::Ejected { .. } | Health::Draining => "offline",
        };
        nodes.insert(runner.address.to_string(), state);
    }
    Ok(json(StatusCode::OK, &Nodes { nodes }))
}

async fn add(shared: &Shared, request: Request<Body>) -> Result<Response<Body>, ApiError> {
    shared.nodes.add(&node(request).await?).await?;
    shared.runners.nodes_changed();
    Ok(json(StatusCode::OK, &Message { msg: "node added" }))
}

async fn remove(shared: &Shared, request: Request<Body>) -> Result<Response<Body>, ApiError> {
    shared.nodes.remove(&node(request).await?).await?;
    shared.runners.nodes_changed();
    Ok(json(
        StatusCode::OK,
        &Message {
            msg: "node deleted",
        },
    ))
}

/// The node that a request names.
async fn node(request: Request<Body>) -> Result<HostPort, ApiError> {
    let invalid = |why: String| ApiError::with_message(ErrorCode::InvalidJson, why);
    let mut body = request.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| invalid(error.to_string()))?;
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if text.len() > MAX_BODY_BYTES {
            return Err(invalid("the body is too long".to_owned()));
        }
    }
    let change: Change =
        serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    HostPort::parse(&change.node).map_err(|error| invalid(format!("node: {error}")))
}
