//! The listeners: connections are accepted, counted and decrypted, and given to an application.

pub(crate) mod accept;
pub(crate) mod bind;
mod client_stream;
pub(crate) mod connection_timeouts;
pub(crate) mod descriptors;
mod http2;
mod http2_stream;
mod proxy_line;
pub(crate) mod sources;
pub(crate) mod tls;
