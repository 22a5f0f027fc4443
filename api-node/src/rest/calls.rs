//! The call records of a function: gone, as on the original's last version (spec/01 1.5).

use http::StatusCode;

/// The calls of a function.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}/calls", tag = "calls", operation_id = "ListCalls",
    params(("fn_id" = String, Path, min_length = 1)),
    responses((status = 410, description = "This server keeps no call records."))
)]
pub(super) async fn list() -> StatusCode {
    StatusCode::GONE
}

/// One call of a function.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}/calls/{call_id}", tag = "calls", operation_id = "GetCall",
    params(("fn_id" = String, Path, min_length = 1), ("call_id" = String, Path, min_length = 1)),
    responses((status = 410, description = "This server keeps no call records."))
)]
pub(super) async fn get() -> StatusCode {
    StatusCode::GONE
}

/// The log of one call.
#[utoipa::path(
    get, path = "/v2/fns/{fn_id}/calls/{call_id}/log", tag = "calls", operation_id = "GetCallLog",
    params(("fn_id" = String, Path, min_length = 1), ("call_id" = String, Path, min_length = 1)),
    responses((status = 410, description = "This server keeps no call records."))
)]
pub(super) async fn log() -> StatusCode {
    StatusCode::GONE
}
