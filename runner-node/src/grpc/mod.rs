//! The runner's gRPC services: the runner protocol of original load balancers (spec/08), and what
//! only Hearth's know of.
//!
//! ```text
//! RunnerProtocol.Engage ─► Engagement ─► TryCall ─► Agent::submit_watched ─► result_start, data, finished
//!                              ╰── Input ──────────────╯
//! RunnerProtocol.Status2 ─► StatusImage ─► Agent::submit_watched
//! RunnerExtension.WatchState ─► Agent::watch
//! RunnerExtension.Carry ─► Carrier ─► CarriedCall, a task for each ─► Agent::submit_watched
//! ```

mod access;
mod carried_call;
mod carried_input;
mod carry;
mod counters;
mod engage;
mod extension;
mod finished;
mod header_list;
mod input;
mod protocol;
mod settings;
mod status_image;
mod status_number;
mod struct_json;
mod targets;
mod try_call;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use proto::runner::runner_protocol_server::RunnerProtocolServer;
use proto::runner_extension::runner_extension_server::RunnerExtensionServer;
use tonic::service::Routes;

use self::counters::Counters;
use self::extension::Extension;
use self::protocol::Protocol;
use self::status_image::StatusImage;
use self::status_number::StatusNumbers;
use self::targets::Targets;
use crate::agent::Agent;

pub use self::access::ACCESS;
pub use self::settings::Settings;

/// What the services share.
struct Shared {
    agent: Agent,
    settings: Settings,
    targets: Targets,
    counters: Arc<Counters>,
    status_image: Option<StatusImage>,
}

/// The services of the runner that `agent` is, to be mounted on a gRPC server.
///
/// A stop in good order: [`Agent::drain`] tells the load balancers and refuses new calls; when
/// [`Agent::drained`] completes, the server may stop, which waits for the streams that are left; at
/// last [`Agent::close`].
pub fn services(agent: Agent, settings: Settings) -> Routes {
    let shared = Arc::new(Shared {
        targets: Targets::default(),
        counters: Arc::default(),
        status_image: StatusImage::new(&agent, &settings),
        agent,
        settings,
    });
    let protocol = RunnerProtocolServer::new(Protocol(Arc::clone(&shared)));
    let extension = RunnerExtensionServer::new(Extension(shared));
    Routes::new(StatusNumbers(protocol)).add_service(extension)
}
