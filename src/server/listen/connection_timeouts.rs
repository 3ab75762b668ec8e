//! The time-outs of a connection, besides those of its requests.

use std::time::Duration;

/// The time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTimeouts {
    /// Longest time for a PROXY line, again for a TLS handshake, and again for HTTP/2's preface.
    pub(crate) handshake: Duration,
    /// Longest time that an HTTP/2 connection may be idle.
    pub(crate) idle: Duration,
}
