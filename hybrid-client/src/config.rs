//! The settings of nodes that ask API nodes.

use nodekit::settings;
use nodekit::settings::kinds::{Text, Words};

settings! {
    /// Settings of nodes that ask API nodes, and of runners that register with them.
    pub struct HybridConfig {
        /// gRPC addresses of the API nodes, such as http://api:9190, separated by commas or spaces. Any of them will do; the others are asked when it is gone.
        FN_RUNNER_API_URL: Words = "" => runner_api_url: Vec<String>;
        /// Address, as host:port, at which load balancers reach this runner. Empty takes the local address towards the API nodes, and the port of the gRPC listener.
        FN_RUNNER_ADVERTISE_ADDRESS: Text = "" => runner_advertise_address: String;
    }
}
