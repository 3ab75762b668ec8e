//! A connection to the gateway: resolve, connect, TLS; each may fail in its own way, and the doctor
//! tells them apart.

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

/// Longest time for each of: the name, all its addresses together, and TLS.
pub const STEP: Duration = Duration::from_secs(5);

/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Makes connections to one gateway.
pub struct Connector {
    /// Where it is.
    pub gateway: GatewayUrl,
    ca: Option<PathBuf>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Sends requests over one connection.
pub type Sender = SendRequest<Full<Bytes>>;

/// Why there is no connection. Nothing has been sent.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The name has no address.
    #[error("its name, {0}, cannot be resolved: {1}")]
    Name(String, io::Error),
    /// Nobody listens there, or the network does not lead there.
    #[error("{0} takes no connection: {1}")]
    Tcp(String, io::Error),
    /// A step took longer than [`STEP`].
    #[error("{0} took longer than 5 s")]
    Slow(&'static str),
    /// There was no agreement on TLS, or what came then was not HTTP.
    #[error("TLS: {text}")]
    Tls {
        /// The fault and the next step, in words.
        text: String,
        /// It is the certificate: so TLS is spoken there.
        of_certificate: bool,
    },
}

/// TCP, plain or within TLS.
pub enum Wire {
    /// Plain.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    /// For a gateway, believing the authorities in the PEM file `ca`, or the system's.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; that the system has no authorities.
    pub fn new(gateway: GatewayUrl, ca: Option<&Path>) -> Result<Connector, String> {
        let tls = match gateway.tls {
            false => None,
            true => {
                let name = ServerName::try_from(gateway.host.clone()).map_err(|_| {
                    format!("{} is no name that a certificate can have", gateway.host)
                })?;
                Some((TlsConnector::from(Arc::new(client_config(ca)?)), name))
            }
        };
        let ca = ca.map(Path::to_owned);
        Ok(Connector { gateway, ca, tls })
    }

    /// Makes a connection, TLS included.
    ///
    /// # Errors
    ///
    /// At which step it failed, and how.
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

    /// For the words about what goes wrong with it.
    pub fn tried(&self) -> Tried<'_> {
        Tried {
            host: &self.gateway.host,
            authority: &self.gateway.authority,
            ca: self.ca.as_deref(),
        }
    }

    /// Makes the TCP connection alone: the addresses of the name in turn, under one deadline.
    ///
    /// # Errors
    ///
    /// At which step it failed, and how.
    pub async fn tcp(&self) -> Result<TcpStream, NoConnection> {
        let GatewayUrl { host, port, .. } = &self.gateway;
        let looked_up = timeout(STEP, tokio::net::lookup_host((host.as_str(), *port))).await;
        let addresses = looked_up
            .map_err(|_| NoConnection::Slow("the look-up of its name"))?
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
                // Small requests go out whole; waiting for more to send would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(None) => Err(last),
            Err(_) => Err(NoConnection::Slow("the connection")),
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
            // Whoever waits for an answer over it is told what went wrong.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// TLS as a client, HTTP/1.1 by ALPN.
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

/// Largest file of certificates, in bytes: a bundle of all authorities of the web has a quarter of it.
const MAX_CERTIFICATES: usize = 1 << 20;

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let fail = |what: String| format!("{}: {what}", file.display());
    let mut roots = RootCertStore::empty();
    let pem = file::read(file, MAX_CERTIFICATES).map_err(|fault| fail(fault.to_string()))?;
    let read = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(format!("cannot be read as PEM: {error}")))?;
    if read.is_empty() {
        return Err(fail("there is no certificate in it".into()));
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
            "this system has no certificate authorities (Debian: ca-certificates); \
                  name a file of them"
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
