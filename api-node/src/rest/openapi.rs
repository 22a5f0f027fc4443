//! The OpenAPI document: made of the handlers, served at `/openapi.json`, and checked in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Extension;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use domain::ErrorCode;
use http::header::CONTENT_TYPE;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Ref, RefOr,
    Response as Described, ResponseBuilder,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::front_door;
use super::state::FrontDoor;

/// The document of a node that serves `/invoke` and `/t` itself, or leaves them to load balancers.
pub fn document(front_door: FrontDoor) -> OpenApi {
    let (_, api) = super::routes().split_for_parts();
    complete(api, front_door)
}

/// What the document holds before the handlers are added.
pub(super) fn skeleton() -> OpenApi {
    let tag = |name: &str, text: &str| TagBuilder::new().name(name).description(Some(text)).build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Hearth")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Apps, functions and triggers, and how to call them. Compatible with the Fn Project's API v2."))
                .license(Some(License::new("Apache-2.0"))),
        )
        .tags(Some([
            tag("apps", "Groups of functions that share configuration."),
            tag("fns", "Functions: container images with limits and configuration."),
            tag("triggers", "HTTP paths that lead to functions."),
            tag("calls", "Records of calls."),
            tag("invoke", "The front door: calling functions."),
            tag("node", "What every node serves."),
        ]))
        .build()
}

/// Adds what is not made of handlers.
pub(super) fn complete(mut api: OpenApi, front_door: FrontDoor) -> OpenApi {
    if front_door == FrontDoor::Beside {
        api.paths.merge(front_door::paths());
    }
    api
}

/// The document as text.
#[derive(Debug, Clone)]
pub(super) struct Rendered(Bytes);

impl Rendered {
    /// Renders `api` once, for all requests.
    pub(super) fn new(api: &OpenApi) -> Self {
        Self(
            api.to_json()
                .expect("a document of strings, numbers and maps is JSON")
                .into(),
        )
    }
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "node", operation_id = "OpenApi",
    responses((status = 200, description = "The OpenAPI document.", content_type = "application/json", body = serde_json::Value))
)]
pub(super) async fn serve(Extension(document): Extension<Rendered>) -> Response {
    (
        [(CONTENT_TYPE, "application/json; charset=utf-8")],
        document.0,
    )
        .into_response()
}

/// The body of every error (spec/01 1.2), described; `nodekit::error_response` renders it.
pub(super) struct ErrorBody;

impl PartialSchema for ErrorBody {
    fn schema() -> RefOr<Schema> {
        let message = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What went wrong."));
        ObjectBuilder::new()
            .property("message", message)
            .required("message")
            .examples([serde_json::json!({"message": "App not found"})])
            .into()
    }
}

impl ToSchema for ErrorBody {
    fn name() -> Cow<'static, str> {
        "Error".into()
    }
}

/// What every request that needs the store may be answered.
pub(super) struct ServerErrors;

/// What every request with a body may be answered.
pub(super) struct BodyErrors;

impl IntoResponses for ServerErrors {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        described([
            (ErrorCode::Internal, "The server failed."),
            (
                ErrorCode::StoreUnavailable,
                "The database cannot be reached.",
            ),
        ])
    }
}

impl IntoResponses for BodyErrors {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        described([
            (
                ErrorCode::InvalidJson,
                "The body breaks a rule; the message says which.",
            ),
            (
                ErrorCode::RequestBodyTimeout,
                "The body was not received in time.",
            ),
            (
                ErrorCode::RequestTooLarge,
                "The body is larger than this server takes.",
            ),
        ])
    }
}

fn described<const N: usize>(errors: [(ErrorCode, &str); N]) -> BTreeMap<String, RefOr<Described>> {
    errors
        .map(|(code, text)| (code.status().to_string(), error_response(text).into()))
        .into()
}

/// The description of an answer whose body is an error.
pub(super) fn error_response(text: &str) -> Described {
    let schema = Ref::from_schema_name(ErrorBody::name());
    ResponseBuilder::new()
        .description(text)
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(schema)).build(),
        )
        .build()
}
