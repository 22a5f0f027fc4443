//! Which nodes may ask an API node for what (docs/adr/0017). That a runner asks for itself only is
//! seen to by the services, which know whom a request is about.

use nodekit::grpc_server::Access;
use nodekit::tls::Role::{Lb, Runner};

/// All that API nodes serve.
pub const ACCESS: Access = Access(&[
    ("/hearth.hybrid.v1.Hybrid/GetApp", Lb),
    ("/hearth.hybrid.v1.Hybrid/GetFn", Lb),
    ("/hearth.hybrid.v1.Hybrid/GetTrigger", Lb),
    ("/hearth.hybrid.v1.Hybrid/WatchChanges", Lb),
    ("/hearth.hybrid.v1.Hybrid/Register", Runner),
    ("/hearth.hybrid.v1.Hybrid/Deregister", Runner),
    ("/hearth.hybrid.v1.Hybrid/WatchRunners", Lb),
    ("/hearth.hybrid.v1.Hybrid/ListNodes", Lb),
    ("/hearth.hybrid.v1.Hybrid/AddNode", Lb),
    ("/hearth.hybrid.v1.Hybrid/RemoveNode", Lb),
    ("/hearth.calls.v1.Calls/Enqueue", Lb),
    ("/hearth.calls.v1.Calls/RecordCalls", Lb),
    ("/hearth.calls.v1.Calls/BeginKeyed", Lb),
    ("/hearth.calls.v1.Calls/EndKeyed", Lb),
    ("/hearth.calls.v1.Calls/Dequeue", Runner),
    ("/hearth.calls.v1.Calls/StartCalls", Runner),
    ("/hearth.calls.v1.Calls/RenewCalls", Runner),
    ("/hearth.calls.v1.Calls/FinishCall", Runner),
    ("/hearth.calls.v1.Calls/AppendLogs", Runner),
]);
