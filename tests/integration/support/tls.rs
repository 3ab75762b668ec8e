//! Certificates, and servers that have one.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// Writes `cert.pem` and `key.pem`, self-signed for `localhost`.
pub fn write_certificate(folder: &Path) {
    write_as(folder, "");
}

/// The same, with a prefix before their names.
pub fn write_as(folder: &Path, prefix: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, pem: String| fs::write(folder.join(format!("{prefix}{name}")), pem);
    write("cert.pem", made.cert.pem()).unwrap();
    write("key.pem", made.signing_key.serialize_pem()).unwrap();
}

/// Writes `cert.pem` and `key.pem` for `localhost` as `openssl req -x509` makes them: of an
/// authority.
pub fn write_certificate_of_an_authority(folder: &Path) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(
        folder.join("cert.pem"),
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// An authority that makes certificates.
pub struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Makes one, whose certificate is written to `file`.
    pub fn new(file: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: what a stranger issued must not look like a forgery of this one's.
        let name = file.to_string_lossy().into_owned();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority(Issuer::new(params, key))
    }

    /// Writes `cert.pem` and `key.pem` into the folder, for these names, until `year` begins.
    pub fn issue(&self, folder: &Path, names: &[&str], year: i32) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.0).unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.join("cert.pem"), made.pem()).unwrap();
    }
}

/// A server's side, with `cert.pem` and `key.pem` of the folder; where `clients` names
/// authorities, for clients with their certificates alone.
pub fn server_config(folder: &Path, clients: Option<&Path>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = |file: &Path| -> Vec<CertificateDer<'static>> {
        let read = CertificateDer::pem_file_iter(file).unwrap();
        read.map(Result::unwrap).collect()
    };
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file) {
                roots.add(certificate).unwrap();
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = certificates(&folder.join("cert.pem"));
    builder.with_single_cert(chain, key).unwrap()
}

/// A TLS connection to a gateway whose certificate lies in `folder`, with this protocol by ALPN.
pub fn dial(
    address: SocketAddr,
    folder: &Path,
    protocol: &[u8],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    StreamOwned::new(session, stream)
}
