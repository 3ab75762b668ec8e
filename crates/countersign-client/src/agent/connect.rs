//! A connection to the gateway: name resolution, TCP, TLS. Each step has its own error, so that the
//! doctor can name the failed step.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::answer_first::AnswerFirst;
use super::tls_fault::{self, Tried};
use crate::file;
use crate::gateway_url::GatewayUrl;

/// Deadline of each step: name resolution, TCP over all addresses, and TLS.
pub const STEP: Duration = Duration::from_secs(5);

/// The step that resolves the gateway's name.
pub const NAME_RESOLUTION: &str = "name resolution";

/// Largest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Connects to one gateway.
pub struct Connector {
    /// The gateway.
    pub gateway: GatewayUrl,
    ca: Option<PathBuf>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Sends requests over one connection.
pub type Sender = SendRequest<Full<Bytes>>;

/// Why there is no connection. Nothing has been sent.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The name does not resolve.
    #[error("{0} does not resolve: {1}")]
    Name(String, io::Error),
    /// The TCP connection failed.
    #[error("{0} takes no connection: {1}")]
    Tcp(String, io::Error),
    /// A step took longer than [`STEP`].
    #[error("{0} took longer than 5 s")]
    Slow(&'static str),
    /// The TLS handshake failed, or the peer did not speak HTTP over TLS.
    #[error("TLS: {text}")]
    Tls {
        /// The cause and the next step.
        text: String,
        /// Whether the certificate is at fault, so that the peer does speak TLS.
        of_certificate: bool,
    },
}

/// A TCP connection, plain or with TLS.
pub enum Wire {
    /// Plain.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// A connector to `gateway` that trusts the authorities in the PEM file `ca`, by default the
    /// system's.
    ///
    /// # Errors
    ///
    /// If the file holds no authorities, or the system has none.
    pub fn new(gateway: GatewayUrl, ca: Option<&Path>) -> Result<Connector, String> {
        let tls = match gateway.tls {
            false => None,
            true => Some(tls_to(&gateway, client_config(ca)?)?),
        };
        let ca = ca.map(Path::to_owned);
        Ok(Connector { gateway, ca, tls })
    }

    /// A connector with this configuration of TLS, whatever the scheme of `gateway`.
    ///
    /// # Errors
    ///
    /// If the host is no name or address.
    pub fn with_tls(gateway: GatewayUrl, config: ClientConfig) -> Result<Connector, String> {
        let tls = Some(tls_to(&gateway, config)?);
        Ok(Connector {
            gateway,
            ca: None,
            tls,
        })
    }

    /// Connects, TLS included.
    ///
    /// # Errors
    ///
    /// The failed step and its cause.
    pub async fn wire(&self) -> Result<Wire, NoConnection> {
        let stream = self.tcp().await?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Wire::Plain(stream));
        };
        match timeout(STEP, connector.connect(name.clone(), stream)).await {
            Ok(Ok(stream)) => Ok(Wire::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(self.no_tls(&error)),
            Err(_) => Err(NoConnection::Slow("TLS")),
        }
    }

    fn no_tls(&self, error: &(dyn Error + 'static)) -> NoConnection {
        let found = tls_fault::of(error);
        NoConnection::Tls {
            text: self.tried().words(error),
            of_certificate: matches!(found, Some(rustls::Error::InvalidCertificate(_))),
        }
    }

    /// The endpoint, for error texts.
    pub fn tried(&self) -> Tried<'_> {
        Tried {
            host: &self.gateway.host,
            authority: &self.gateway.authority,
            ca: self.ca.as_deref(),
        }
    }

    /// Makes the TCP connection alone. All addresses of the name are tried in turn, under one
    /// deadline.
    ///
    /// # Errors
    ///
    /// The failed step and its cause.
    pub async fn tcp(&self) -> Result<TcpStream, NoConnection> {
        let GatewayUrl { host, port, .. } = &self.gateway;
        let looked_up = timeout(STEP, tokio::net::lookup_host((host.as_str(), *port))).await;
        let addresses = looked_up
            .map_err(|_| NoConnection::Slow(NAME_RESOLUTION))?
            .map_err(|error| NoConnection::Name(host.clone(), error))?;
        let mut last = NoConnection::Name(host.clone(), io::ErrorKind::NotFound.into());
        let connected = timeout(STEP, async {
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Some(stream),
                    Err(error) => last = NoConnection::Tcp(address.to_string(), error),
                }
            }
            None
        })
        .await;
        match connected {
            Ok(Some(stream)) => {
                // Nagle's algorithm would only delay small requests.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(None) => Err(last),
            Err(_) => Err(NoConnection::Slow("the TCP connection")),
        }
    }

    /// A connection that speaks HTTP/1.1.
    ///
    /// # Errors
    ///
    /// See [`Connector::wire`].
    pub async fn open(&self) -> Result<Sender, NoConnection> {
        let wire = TokioIo::new(AnswerFirst::new(self.wire().await?));
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(wire)
            .await
            .map_err(|error| self.no_tls(&error))?;
        tokio::spawn(async move {
            // The sender reports the error to the request.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

fn tls_to(
    gateway: &GatewayUrl,
    config: ClientConfig,
) -> Result<(TlsConnector, ServerName<'static>), String> {
    let host = &gateway.host;
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        format!(
            "{host} is not a host name that a certificate can hold; use a DNS name or an address"
        )
    })?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// The TLS configuration of a client, with HTTP/1.1 by ALPN.
///
/// # Errors
///
/// See [`Connector::new`].
fn client_config(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match ca {
        Some(file) => authorities(file)?,
        None => system_authorities()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Largest file of certificates, in bytes: four times a bundle of all public authorities.
const MAX_CERTIFICATES: usize = 1 << 20;

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let fail = |what: String| format!("{}: {what}", file.display());
    let mut roots = RootCertStore::empty();
    let pem = file::read(file, MAX_CERTIFICATES).map_err(|fault| fail(fault.to_string()))?;
    let read = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(format!("cannot be read as PEM: {error}")))?;
    if read.is_empty() {
        return Err(fail("holds no certificate".into()));
    }
    for certificate in read {
        roots
            .add(certificate)
            .map_err(|error| fail(format!("holds no authority: {error}")))?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (found, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match found {
        0 => Err(
            "this system has no certificate authorities; install them (Debian: ca-certificates), \
                  or name a PEM file of them"
                .into(),
        ),
        _ => Ok(roots),
    }
}

macro_rules! either {
    ($wire:expr, $call:ident, $($argument:expr),*) => {
        match $wire.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).$call($($argument),*),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).$call($($argument),*),
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read, context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown, context)
    }
}
