//! Forwarding: an authorized request goes to a server of its upstream, and the response comes back.

pub(crate) mod client;
mod exchange;
mod failure;
pub(crate) mod forwarder;
mod response;
mod upstream_request;
