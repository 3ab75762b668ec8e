//! TLS towards the gateway's own admin listener, by the files of its configuration.
//!
//! The certificate that `admin.tls.cert` holds is accepted as it is: whoever wrote the configuration
//! wrote that file, and the handshake proves that the peer has its key. A gateway that still presents
//! another one, because the file was replaced and is not in force, must show one of the authorities in
//! `admin.tls`, for one of its names. So `reload` can tell the mistake in a new file.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::{AdminAccess, AdminTls};
use countersign_client::file;

/// Largest PEM file, in bytes.
const MAX_FILE: usize = 1 << 20;

/// Accepts the certificate of the configuration, or one of its authorities' for one of its names.
#[derive(Debug)]
struct AdminVerifier {
    own: CertificateDer<'static>,
    by_authority: Option<Arc<WebPkiServerVerifier>>,
    names: Vec<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

/// The TLS configuration of a command.
///
/// # Errors
///
/// The file and its mistake; nothing of a key's content.
pub(super) fn client_config(access: &AdminAccess, tls: &AdminTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&tls.files.cert)?;
    let mut roots = RootCertStore::empty();
    let authorities = match &tls.files.client_ca {
        Some(file) => certificates(file)?,
        None => Vec::new(),
    };
    roots.add_parsable_certificates(chain.iter().skip(1).cloned().chain(authorities));
    let by_authority = match roots.is_empty() {
        true => None,
        false => {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(builder.build().map_err(|error| error.to_string())?)
        }
    };
    let own_names = [access.address.ip().to_string(), "localhost".to_owned()];
    let names = access.hosts.iter().chain(&own_names);
    let own = chain.into_iter().next().ok_or_else(|| {
        let file = tls.files.cert.display();
        format!("{file}: there is no certificate in it")
    })?;
    let verifier = AdminVerifier {
        own,
        by_authority,
        names: names
            .filter_map(|name| ServerName::try_from(name.clone()).ok())
            .collect(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = read(&client.key)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
                let file = client.key.display();
                format!("{file}: cannot read the private key: {error}")
            })?;
            let chain = certificates(&client.cert)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let (cert, key) = (client.cert.display(), client.key.display());
                format!("{cert} and {key} do not go together: {error}")
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    file::read_secret(file, MAX_FILE).map_err(|fault| fault.of(file).to_string())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: cannot read the certificate: {error}", file.display()))
}

impl ServerCertVerifier for AdminVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.own {
            return Ok(ServerCertVerified::assertion());
        }
        let another = || {
            let why = "the admin listener presents another certificate than the one in \
                       admin.tls.cert; was the file replaced with a mistake? Read the log, or send \
                       SIGHUP";
            Error::General(why.to_owned())
        };
        let by_authority = self.by_authority.as_ref().ok_or_else(another)?;
        let valid = |name: &ServerName<'_>| {
            by_authority
                .verify_server_cert(end_entity, intermediates, name, ocsp, now)
                .ok()
        };
        self.names.iter().find_map(valid).ok_or_else(another)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        (self.provider.signature_verification_algorithms).supported_schemes()
    }
}
