//! Binding: the sockets of the data listeners and of the admin listener, and the TLS of the former.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::accept::{BoundListener, ListenerOptions};
use super::tls::{Tls, TlsPurpose};
use crate::config::{Config, TlsFiles, only_ipv6};
use crate::metrics::Metrics;
use crate::server::start_error::StartError;

/// The listeners of a configuration, bound.
pub(in crate::server) struct BoundListeners {
    pub(in crate::server) listeners: Vec<BoundListener>,
    /// Of the data listeners, with the ports that the system chose for port 0.
    pub(in crate::server) addresses: Vec<SocketAddr>,
    pub(in crate::server) admin: BoundListener,
    pub(in crate::server) admin_address: SocketAddr,
}

/// Binds the data listeners, each with its TLS, and the admin listener.
///
/// # Errors
///
/// [`StartError::System`] with the address that cannot be bound.
pub(in crate::server) fn bind_all(
    config: &Config,
    tls: &ListenerTls,
) -> Result<BoundListeners, StartError> {
    let listening = config.listeners.iter().map(|listener| listener.address);
    let all = || listening.clone().chain([config.admin]);
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for (listener, tls) in config.listeners.iter().zip(tls.data.iter().cloned()) {
        let (socket, address) = bind(listener.address, all())?;
        addresses.push(address);
        let proxies = listener.proxy_protocol;
        let options = ListenerOptions {
            tls,
            proxies: proxies.then(|| config.trusted_proxies.clone()),
            health: listener.health.as_deref().map(Arc::from),
        };
        listeners.push(BoundListener {
            socket,
            options: Arc::new(options),
        });
    }
    let (socket, admin_address) = bind(config.admin, all())?;
    let options = ListenerOptions {
        tls: tls.admin.clone(),
        ..ListenerOptions::default()
    };
    Ok(BoundListeners {
        listeners,
        addresses,
        admin: BoundListener {
            socket,
            options: Arc::new(options),
        },
        admin_address,
    })
}

/// Most connections that the system completes before they are accepted.
const BACKLOG: u32 = 1024;

/// Listens on `address`, which is one of `all` addresses of this gateway.
fn bind(
    address: SocketAddr,
    all: impl IntoIterator<Item = SocketAddr>,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed =
        |error: io::Error| StartError::System(format!("cannot listen on {address}: {error}"));
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            // The system's default (net.ipv6.bindv6only) does not decide.
            SockRef::from(&socket).set_only_v6(only_ipv6(address, all))?;
        }
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(failed)
}

/// The TLS of the listeners, where they have it.
pub(in crate::server) struct ListenerTls {
    /// One for each data listener.
    data: Vec<Option<Arc<Tls>>>,
    admin: Option<Arc<Tls>>,
}

impl ListenerTls {
    /// Those that there are.
    pub(in crate::server) fn all(&self) -> Vec<Arc<Tls>> {
        let all = self.data.iter().chain([&self.admin]);
        all.flatten().cloned().collect()
    }
}

/// Reads the TLS files of every listener, and shows in the metrics when its certificates expire.
pub(in crate::server) fn load_tls(
    config: &Config,
    metrics: &Metrics,
) -> Result<ListenerTls, StartError> {
    let load = |address: SocketAddr, files: Option<&TlsFiles>, purpose: TlsPurpose| {
        let Some(files) = files else {
            return Ok(None);
        };
        let tls = Tls::load(&address.to_string(), files, purpose)
            .map_err(|why| StartError::Configuration(why.to_string()))?;
        tls.show(metrics);
        Ok(Some(Arc::new(tls)))
    };
    let data = config.listeners.iter();
    let data = data.map(|listener| load(listener.address, listener.tls.as_ref(), TlsPurpose::Data));
    let admin = config.admin_tls.as_ref().map(|tls| &tls.files);
    Ok(ListenerTls {
        data: data.collect::<Result<_, _>>()?,
        admin: load(config.admin, admin, TlsPurpose::Admin)?,
    })
}
