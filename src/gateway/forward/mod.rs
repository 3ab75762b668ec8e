//! Forwarding: an authorized request goes to a server of its upstream, and the response comes back.

pub(crate) mod client;
mod echo;
mod exchange;
mod failure;
pub(crate) mod forwarder;
mod response;
mod response_filter;
mod token_lookup;
mod upstream_request;
