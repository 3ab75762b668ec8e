//! The backend's side: an authorized request goes to a server, and the answer comes back.

pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod forwarder;
pub(crate) mod response;
pub(crate) mod upstream_request;
