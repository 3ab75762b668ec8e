//! The deadlines of a connection, besides those of its requests.

use std::time::Duration;

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Longest time for a TLS handshake, and again for HTTP/2's preface.
    pub(crate) handshake: Duration,
    /// Longest time that an HTTP/2 connection may be idle.
    pub(crate) idle: Duration,
}
