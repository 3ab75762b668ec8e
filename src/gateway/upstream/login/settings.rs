//! The settings on which the tokens of a login depend.

use std::sync::Arc;

use http::HeaderValue;

use crate::config::{Login, TlsMaterial, Upstream};

/// Tokens are not carried over to other settings: those may lead to another backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoginSettings {
    pub(super) upstream: String,
    pub(super) login: Login,
    pub(super) issuer: String,
    pub(super) servers: Vec<LoginServer>,
    /// The trusted authorities, and the gateway's own certificate.
    pub(super) tls: Option<Arc<TlsMaterial>>,
}

/// What tells a server from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoginServer {
    pub(super) authority: String,
    pub(super) host: HeaderValue,
    pub(super) certified_name: Option<String>,
}

impl LoginSettings {
    /// Those of the upstream; `None` if it has no login.
    pub(super) fn of(upstream: &Upstream, issuer: &str) -> Option<LoginSettings> {
        let servers = upstream.servers.iter().map(|server| LoginServer {
            authority: server.authority.clone(),
            host: server.host.clone(),
            certified_name: server.certified_name.clone(),
        });
        Some(LoginSettings {
            upstream: upstream.name.clone(),
            login: upstream.login.clone()?,
            issuer: issuer.to_owned(),
            servers: servers.collect(),
            tls: (upstream.tls.as_ref()).map(|tls| Arc::clone(&tls.material)),
        })
    }
}
