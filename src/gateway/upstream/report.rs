//! The state of servers, credentials and logins, as the status page shows it.

use std::net::SocketAddr;

/// The state of one address of a server, or of a server whose name does not resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerReport {
    pub(crate) upstream: String,
    /// Its name in the configuration.
    pub(crate) server: String,
    pub(crate) address: Option<SocketAddr>,
    /// Why it gets no requests in turn; `None` if it does.
    pub(crate) trouble: Option<String>,
}

/// The state of a credential or a login. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretReport {
    /// Its name in logs and metrics.
    pub(crate) name: String,
    pub(crate) kind: SecretKind,
    /// The file or the variable of a credential; the path of a login.
    pub(crate) source: String,
    pub(crate) trouble: Option<String>,
    /// Whether the trouble keeps requests from being forwarded.
    pub(crate) is_unusable: bool,
}

/// A credential of the gateway, or the logins of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    Credential,
    Login,
}
