//! How load balancers and runners reach the control plane: what they may ask, and the cache that
//! keeps the answers off the path of a call.

pub mod cache;
pub mod control_plane;

pub use cache::{CacheSettings, CachedControlPlane};
pub use control_plane::{Change, ControlPlane};
