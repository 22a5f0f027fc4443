//! Which nodes may ask a runner for what (docs/adr/0017): load balancers, and nobody else.

use nodekit::grpc_server::Access;
use nodekit::tls::Role::Lb;

/// All that runners serve.
pub const ACCESS: Access = Access(&[
    ("/RunnerProtocol/Engage", Lb),
    ("/RunnerProtocol/Status", Lb),
    ("/RunnerProtocol/ConfigureRunner", Lb),
    ("/RunnerProtocol/StreamLogs", Lb),
    ("/RunnerProtocol/Status2", Lb),
    ("/hearth.runner.v1.RunnerExtension/WatchState", Lb),
    ("/hearth.runner.v1.RunnerExtension/Carry", Lb),
]);

#[cfg(test)]
mod tests {
    use super::*;

    /// A method that is not in the list is not served.
    #[test]
    fn every_method_is_in_the_list() {
        let mut methods = Vec::new();
        for (service, proto) in [
            (
                "RunnerProtocol",
                include_str!("../../../proto/proto/runner.proto"),
            ),
            (
                "hearth.runner.v1.RunnerExtension",
                include_str!("../../../proto/proto/runner_extension.proto"),
            ),
        ] {
            for line in proto.lines() {
                if let Some(rest) = line.trim().strip_prefix("rpc ") {
                    let (name, _) = rest.split_once('(').expect("a request");
                    methods.push(format!("/{service}/{name}"));
                }
            }
        }
        let listed: Vec<_> = ACCESS.0.iter().map(|(path, _)| *path).collect();
        assert_eq!(listed, methods);
    }
}
