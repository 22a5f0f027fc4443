//! How load balancers and runners reach the control plane: what they may ask, the cache that keeps
//! the answers off the path of a call, and the client that asks API nodes over gRPC.

pub mod cache;
pub mod calls;
pub mod calls_messages;
pub mod config;
pub mod control_plane;
pub mod remote;

pub use cache::{CacheSettings, CachedControlPlane};
pub use calls::{BeginKeyed, CallPlane, Dequeue, Keyed, LogChunk, Work, WorkSource};
pub use control_plane::{Change, ControlPlane};
pub use remote::{
    ApiNode, ApiNodes, RegisteredRunners, Registration, RemoteCalls, RemoteCallsSettings,
    RemoteControlPlane, RemoteSettings,
};
