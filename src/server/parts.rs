//! What a server is put together from: metrics, files, sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::StartError;
use super::listen::accept::{self, Door};
use super::listen::tls::Tls;
use crate::audit::checkpoint::CheckpointSigner;
use crate::audit::{AuditLog, Bounds, Checkpoints, Sink, TokenNames, UnauthenticatedSink};
use crate::clock::Clock;
use crate::config::{Audit, AuditSink, Config, GatewayKey, Listener, only_ipv6};
use crate::metrics::{Metrics, curve25519_backend};

pub(super) fn metrics() -> Result<Arc<Metrics>, StartError> {
    Metrics::new(env!("CARGO_PKG_VERSION"), curve25519_backend())
        .map(Arc::new)
        .map_err(|error| StartError::System(error.to_string()))
}

pub(super) fn open_audit(
    audit: &Audit,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<AuditLog, StartError> {
    start_audit(audit, clock, metrics).map_err(|error| {
        let text = format!("the audit log: {error}");
        match error.kind() {
            // No other start will end in another way.
            io::ErrorKind::InvalidInput => StartError::Configuration(text),
            _ => StartError::System(text),
        }
    })
}

fn start_audit(audit: &Audit, clock: &Clock, metrics: &Arc<Metrics>) -> io::Result<AuditLog> {
    let rotate = Bounds {
        size: audit.rotate.size,
        age: audit.rotate.age,
        keep_one: false,
    };
    let trail = match &audit.sink {
        AuditSink::Stdout => Sink::stdout()?,
        AuditSink::File(path) => Sink::file(path, rotate)?,
    };
    let refusals = &audit.refusals;
    let bounded = Bounds {
        size: Some(refusals.size),
        age: None,
        keep_one: true,
    };
    let own = refusals.file.as_ref();
    let strangers = UnauthenticatedSink {
        sink: own.map(|path| Sink::file(path, bounded)).transpose()?,
        per_second: refusals.per_second,
    };
    let signer = |key: &GatewayKey| Arc::new(CheckpointSigner::new(key.reveal().clone()));
    let checkpoints = Checkpoints {
        signer: audit.signing_key.as_ref().map(signer),
        records: audit.checkpoint_records,
        interval: audit.checkpoint_interval,
    };
    AuditLog::start(
        trail,
        strangers,
        checkpoints,
        audit.deadline,
        clock.clone(),
        Arc::clone(metrics),
    )
}

/// Names by the key that the configuration says, or by one beside the journal.
pub(super) fn token_names(config: &Config) -> TokenNames {
    let beside_the_journal = || Some(config.replay.state_dir.as_ref()?.join("token-hash.key"));
    TokenNames::new(config.audit.token_key.clone().or_else(beside_the_journal))
}

/// Every listener of a configuration, bound.
pub(super) struct Bound {
    pub(super) listeners: Vec<accept::Listener>,
    /// Of the data listeners, with the ports that the system chose for port 0.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin: TcpListener,
    pub(super) admin_address: SocketAddr,
}

/// Binds the data listeners, each with its TLS, and the admin listener.
pub(super) fn listen(config: &Config, tls: &[Option<Arc<Tls>>]) -> Result<Bound, StartError> {
    let listening = config.listeners.iter().map(|listener| listener.address);
    let all = || listening.clone().chain([config.admin]);
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for (listener, tls) in config.listeners.iter().zip(tls.iter().cloned()) {
        let (socket, address) = bind(listener.address, all())?;
        addresses.push(address);
        let proxies = listener.proxy_protocol;
        let door = Door {
            tls,
            proxies: proxies.then(|| config.trusted_proxies.clone()),
            health: listener.health.as_deref().map(Arc::from),
        };
        listeners.push(accept::Listener {
            socket,
            door: Arc::new(door),
        });
    }
    let (admin, admin_address) = bind(config.admin, all())?;
    Ok(Bound {
        listeners,
        addresses,
        admin,
        admin_address,
    })
}

/// Connections that the system completes before they are accepted, at most.
const BACKLOG: u32 = 1024;

/// Listens on `address`, one of `all` that are listened on.
fn bind(
    address: SocketAddr,
    all: impl IntoIterator<Item = SocketAddr>,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed =
        |error: std::io::Error| StartError::System(format!("cannot listen on {address}: {error}"));
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            // Not as the system's setting (net.ipv6.bindv6only) would have it.
            SockRef::from(&socket).set_only_v6(only_ipv6(address, all))?;
        }
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(failed)
}

/// Reads the TLS files of every listener, and shows until when its certificates are valid.
pub(super) fn tls(config: &Config, metrics: &Metrics) -> Result<Vec<Option<Arc<Tls>>>, StartError> {
    let load = |listener: &Listener| {
        let Some(files) = &listener.tls else {
            return Ok(None);
        };
        let tls = Tls::load(&listener.address.to_string(), files)
            .map_err(|why| StartError::Configuration(why.to_string()))?;
        tls.show(metrics);
        Ok(Some(Arc::new(tls)))
    };
    config.listeners.iter().map(load).collect()
}
