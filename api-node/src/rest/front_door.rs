//! The description of `/invoke` and `/t`, which the front door serves (spec/01 1.8 to 1.10).

use domain::ErrorCode;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
    Paths,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::{ContentBuilder, Required, Response, ResponseBuilder};

use super::openapi::error_response;

const TRIGGER_METHODS: [(HttpMethod, &str); 7] = [
    (HttpMethod::Get, "Get"),
    (HttpMethod::Head, "Head"),
    (HttpMethod::Post, "Post"),
    (HttpMethod::Put, "Put"),
    (HttpMethod::Patch, "Patch"),
    (HttpMethod::Delete, "Delete"),
    (HttpMethod::Options, "Options"),
];

/// What a call may be answered beside the function's own answer.
const CALL_ERRORS: &[(ErrorCode, &str)] = &[
    (
        ErrorCode::RequestBodyBroken,
        "The body broke, an option is none, or the function can never run here.",
    ),
    (
        ErrorCode::FnNotFound,
        "There is no such function, app or trigger.",
    ),
    (
        ErrorCode::RequestBodyTimeout,
        "The body was not received in time.",
    ),
    (
        ErrorCode::IdempotencyKeyInUse,
        "A call with this idempotency key is being made, or its answer was too large to be kept.",
    ),
    (
        ErrorCode::RequestTooLarge,
        "The body is larger than this server takes.",
    ),
    (
        ErrorCode::IdempotencyKeyReused,
        "The idempotency key was used with another request.",
    ),
    (ErrorCode::Internal, "The server failed."),
    (
        ErrorCode::DetachedUnsupported,
        "This server cannot run detached calls.",
    ),
    (
        ErrorCode::FunctionFailed,
        "The function, its image or its container failed.",
    ),
    (
        ErrorCode::ServerBusy,
        "There is no room for the call now, or a durable call cannot be committed.",
    ),
    (
        ErrorCode::CallTimeout,
        "The function, or getting it ready, took too long.",
    ),
];

/// The paths of the front door.
pub(super) fn paths() -> Paths {
    Paths::builder()
        .path("/invoke/{fn_id}", PathItem::new(HttpMethod::Post, invoke()))
        .path(
            "/t/{app_name}",
            trigger(
                "CallRootTrigger",
                &[segment("app_name", "The name of the app.")],
            ),
        )
        .path(
            "/t/{app_name}/{source}",
            trigger(
                "CallTrigger",
                &[
                    segment("app_name", "The name of the app."),
                    segment(
                        "source",
                        "The source of the trigger; its slashes are not escaped.",
                    ),
                ],
            ),
        )
        .build()
}

fn invoke() -> Operation {
    with_errors(
        OperationBuilder::new()
            .tag("invoke")
            .operation_id(Some("InvokeFn"))
            .summary(Some("Calls a function."))
            .description(Some("The status is 200 whenever the function answered; its own status is in `Fn-Http-Status`."))
            .parameter(segment("fn_id", "The function."))
            .parameters(Some(call_headers()))
            .request_body(Some(any_body()))
            .response("200", answered("The function's answer."))
            .response("202", accepted()),
    )
}

fn trigger(operation: &str, parameters: &[Parameter]) -> PathItem {
    let operations = TRIGGER_METHODS.map(|(method, name)| {
        let described = OperationBuilder::new()
            .tag("invoke")
            .operation_id(Some(format!("{operation}By{name}")))
            .summary(Some("Calls the function behind an HTTP trigger."))
            .parameters(Some(parameters.iter().cloned().chain(call_headers())))
            .request_body(Some(any_body()))
            .response("202", accepted())
            .response(
                "default",
                answered("The function's answer, with the status it chose."),
            );
        (method, with_errors(described))
    });
    operations
        .into_iter()
        .fold(PathItem::builder(), |item, (method, operation)| {
            item.operation(method, operation)
        })
        .build()
}

/// The headers that say who waits for a call, and what is asked of a durable one.
const CALL_HEADERS: [(&str, &str); 10] = [
    (
        "Fn-Invoke-Type",
        "`detached` hands in a durable call (on a server that keeps no calls: answers when the execution starts, and discards the output).",
    ),
    ("Prefer", "`respond-async` hands in a durable call, too."),
    (
        "Idempotency-Key",
        "Requests for one function with one key make one call; 1 to 255 bytes.",
    ),
    (
        "Fn-Call-Delay",
        "Durable calls: seconds before it may run, at most 1209600.",
    ),
    (
        "Fn-Call-Run-At",
        "Durable calls: when it may run, as RFC 3339 has it; not together with a delay.",
    ),
    (
        "Fn-Call-Expiry",
        "Durable calls: seconds, 1 to 1209600, after which it is given up, counted from when it may run; 21600 when absent.",
    ),
    (
        "Fn-Call-Priority",
        "Durable calls: 0 to 9; higher ones go first; 0 when absent.",
    ),
    (
        "Fn-Call-Max-Attempts",
        "Durable calls: 1 to 100; 3 when absent.",
    ),
    (
        "Fn-Call-Callback-Url",
        "Durable calls: where the outcome is posted to.",
    ),
    (
        "Fn-Call-Tags",
        "Durable calls: words to find it by, as `name=value`, with commas between them.",
    ),
];

fn call_headers() -> impl Iterator<Item = Parameter> {
    CALL_HEADERS.into_iter().map(|(name, description)| {
        let schema = match name {
            "Fn-Invoke-Type" => text().enum_values(Some(["sync", "detached"])),
            _ => text(),
        };
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema))
            .build()
    })
}

/// The answer to a durable call, and to one that was detached.
fn accepted() -> Response {
    let header = |description: &str| {
        HeaderBuilder::new()
            .schema(Some(text()))
            .description(Some(description))
            .build()
    };
    let document = ObjectBuilder::new()
        .property("call_id", text().description(Some("Names the call.")))
        .required("call_id");
    with_call_id("The durable call is committed; without a body: the detached call has started.")
        .header("Location", header("The path of the durable call."))
        .header(
            "Preference-Applied",
            header("`respond-async`, if that was preferred."),
        )
        .header(
            "Idempotent-Replayed",
            header("`true` if the idempotency key was known."),
        )
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(document)).build(),
        )
        .build()
}

fn with_errors(operation: OperationBuilder) -> Operation {
    CALL_ERRORS
        .iter()
        .fold(operation, |operation, (code, text)| {
            operation.response(code.status().to_string(), error_response(text))
        })
        .build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(utoipa::openapi::schema::Type::String)
}

fn segment(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(text().min_length(Some(1))))
        .build()
}

fn any_body() -> RequestBody {
    RequestBodyBuilder::new()
        .description(Some("Passed to the function as it is."))
        .content("*/*", ContentBuilder::new().build())
        .build()
}

fn with_call_id(description: &str) -> ResponseBuilder {
    let header = HeaderBuilder::new()
        .schema(Some(text()))
        .description(Some("Names the call."))
        .build();
    ResponseBuilder::new()
        .description(description)
        .header("Fn-Call-Id", header)
}

fn answered(description: &str) -> Response {
    with_call_id(description)
        .content("*/*", ContentBuilder::new().build())
        .build()
}
