//! The settings that every node has (spec/01 1.1, spec/10 10.4), and those of nodes that speak gRPC.

use std::time::Duration;

use crate::settings;
use crate::settings::kinds::{Bool, Bytes, Int, Ip, Text, Timeout, Words};

settings! {
    /// Settings of every node: its listener and its log.
    pub struct NodeConfig {
        /// Port of the HTTP listener; 0 takes any free port.
        FN_PORT: Int<u16> = "8080" => port: u16;
        /// Address that the listeners bind, an IP address.
        FN_BIND_ADDRESS: Ip = "0.0.0.0" => bind_address: std::net::IpAddr;
        /// Form of the log: `text` or `json`.
        FN_LOG_FORMAT: crate::telemetry::LogFormatKind = "text" => log_format: crate::telemetry::LogFormat;
        /// Least severe level that is logged: `trace`, `debug`, `info`, `warn`, `error`, `fatal` or `panic`. Anything else means `info`, with a warning.
        FN_LOG_LEVEL: Text = "info" => log_level: String;
        /// Where the log goes: `stderr`, `file:///path`, or a syslog server as `udp://host:port` or `tcp://host:port`; without a scheme it is `udp`.
        FN_LOG_DEST: Text = "stderr" => log_dest: String;
        /// Text before each line of the log.
        FN_LOG_PREFIX: Text = "" => log_prefix: String;
        /// Request header that carries the request id; an id is made when a request has none. Empty turns request ids off.
        FN_RID_HEADER: Text = "" => rid_header: String;
        /// Origins that browsers may call from; `*` first means any. Empty turns CORS off.
        FN_API_CORS_ORIGINS: Words = "" => api_cors_origins: Vec<String>;
        /// Request headers that browsers may send, instead of the usual ones.
        FN_API_CORS_HEADERS: Words = "" => api_cors_headers: Vec<String>;
        /// Largest request body; 0 is no limit.
        FN_MAX_REQUEST_SIZE: Bytes = "0" => max_request_size: u64;
        /// Largest request head: request line and headers together, at least 8192.
        FN_MAX_REQUEST_HEADER_SIZE: Bytes = "65536" => max_request_header_size: u64;
        /// Time for a whole request body to arrive, from the end of its head.
        FN_REQUEST_BODY_READ_TIMEOUT: Timeout = "0" => request_body_read_timeout: Option<Duration>;
        /// Longest pause within a request body while the server waits for more of it.
        FN_REQUEST_BODY_STALL_TIMEOUT: Timeout = "30s" => request_body_stall_timeout: Option<Duration>;
        /// Time for a request head to arrive, from its first byte or from the start of the connection.
        FN_REQUEST_HEADER_READ_TIMEOUT: Timeout = "10s" => request_header_read_timeout: Option<Duration>;
        /// Time from the end of a request head to the end of its answer.
        FN_RESPONSE_WRITE_TIMEOUT: Timeout = "0" => response_write_timeout: Option<Duration>;
        /// Longest pause of a client that has an answer to take and takes nothing of it.
        FN_RESPONSE_STALL_TIMEOUT: Timeout = "60s" => response_stall_timeout: Option<Duration>;
        /// How long a connection may stay open between two requests.
        FN_HTTP_IDLE_TIMEOUT: Timeout = "120s" => http_idle_timeout: Option<Duration>;
        /// Most connections that are open at a time; further ones wait to be accepted. Bounded by the limit of open files too.
        FN_MAX_CONNECTIONS: Int<u32> = "10000" => max_connections: u32;
        /// How long a node that was told to stop waits for the requests that it has.
        FN_SHUTDOWN_TIMEOUT: Timeout = "310s" => shutdown_timeout: Option<Duration>;
    }
}

settings! {
    /// Settings of nodes that speak gRPC with each other (DESIGN 2, 7).
    pub struct GrpcConfig {
        /// Port of the gRPC listener; 0 takes any free port.
        FN_GRPC_PORT: Int<u16> = "9190" => grpc_port: u16;
        /// File with this node's certificate and what lies between it and the authority, in PEM form. With it, nodes speak mutual TLS, and FN_NODE_CERT_KEY and FN_NODE_CERT_AUTHORITY are needed too. A change of the files is taken over without a restart.
        FN_NODE_CERT: Text = "" => node_cert: String;
        /// File with the private key of this node's certificate, in PEM form.
        FN_NODE_CERT_KEY: Text = "" => node_cert_key: String;
        /// File with the certificates of the authorities whose nodes this node speaks with, in PEM form.
        FN_NODE_CERT_AUTHORITY: Text = "" => node_cert_authority: String;
        /// Name that the certificate of every server must have, where nodes are reached by addresses that are not in it. Empty expects the host of the address.
        FN_NODE_CERT_NAME: Text = "" => node_cert_name: String;
        /// Whether the certificates of other nodes must say what kind of node they are for, in a URI among their names: `hearth://role/api`, `hearth://role/lb` or `hearth://role/runner`. A certificate that says so is held to it in any case; one that does not is good for every kind unless this is true.
        FN_NODE_CERT_ROLES_REQUIRED: Bool = "false" => node_cert_roles_required: bool;
        /// Most gRPC connections that are open at a time; further ones are closed at once, so that the peer goes elsewhere.
        FN_GRPC_MAX_CONNECTIONS: Int<u32> = "2000" => grpc_max_connections: u32;
        /// Most calls at a time on one gRPC connection; the peer keeps further ones back.
        FN_GRPC_MAX_STREAMS: Int<u32> = "2000" => grpc_max_streams: u32;
        /// Time for a new gRPC connection to get through TLS and to its first HTTP/2 frame.
        FN_GRPC_HANDSHAKE_TIMEOUT: Timeout = "5s" => grpc_handshake_timeout: Option<Duration>;
        /// Time to connect to another node, with TLS.
        FN_GRPC_CONNECT_TIMEOUT: Timeout = "2s" => grpc_connect_timeout: Option<Duration>;
        /// Silence after which a peer is asked whether it is there; 0 never asks.
        FN_GRPC_KEEPALIVE_INTERVAL: Timeout = "5s" => grpc_keepalive_interval: Option<Duration>;
        /// Time for the answer to that, or the connection is given up with all its calls.
        FN_GRPC_KEEPALIVE_TIMEOUT: Timeout = "5s" => grpc_keepalive_timeout: Option<Duration>;
        /// Connections to each other node; calls take turns.
        FN_GRPC_CONNECTIONS: Int<u16> = "4" => grpc_connections: u16;
    }
}
