//! A load balancer against scripted runners, flow by flow and error by error (spec/08 8.3).

mod balancer;
mod carry;
mod carrying;
mod cuts;
mod engage;
mod errors;
mod feeds;
mod headers;
mod management;
mod members;
mod once;
mod peer;
mod placing;
