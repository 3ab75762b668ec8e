//! The client's side of TLS.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Believes one certificate, for `localhost`.
#[derive(Clone)]
pub(crate) struct Tls {
    certificate: CertificateDer<'static>,
}

impl Tls {
    pub(crate) fn believing(certificate: CertificateDer<'static>) -> Tls {
        Tls { certificate }
    }

    /// A session that has agreed on this protocol (ALPN).
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect("localhost".try_into().unwrap(), stream)
            .await?;
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(alpn),
            "the protocol"
        );
        Ok(stream)
    }
}
