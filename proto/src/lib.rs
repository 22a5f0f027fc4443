//! The gRPC protocols between nodes: the code generated from the `.proto` files, and conversions
//! between its messages and the domain. No logic is here.

pub mod call_json;
pub mod calls_messages;
pub mod carry;
pub mod engage_extensions;
pub mod hybrid_messages;
pub mod status;

/// The runner protocol of original load balancers and runners (spec/08).
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated"
)]
pub mod runner {
    tonic::include_proto!("_");
}

/// What a Hearth runner offers beyond the runner protocol.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated"
)]
pub mod runner_extension {
    tonic::include_proto!("hearth.runner.v1");
}

/// What load balancers and runners ask of API nodes.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated"
)]
pub mod hybrid {
    tonic::include_proto!("hearth.hybrid.v1");
}

/// What load balancers and runners ask of API nodes about calls.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated"
)]
pub mod calls {
    tonic::include_proto!("hearth.calls.v1");
}
