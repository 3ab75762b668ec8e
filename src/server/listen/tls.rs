//! TLS on a listener, by rustls: TLS 1.2 and 1.3, HTTP/2 by ALPN, and never early data, which
//! anyone could replay. Its files are read again while the gateway runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::config::{CertificateValidity, TlsFiles};
use crate::metrics::{CertificateEnd, CertificateUse, Metrics};
use countersign_client::file::{self, Unusable};

/// Largest PEM file, in bytes: a bundle of all authorities of the web has a quarter of it.
const MAX_FILE: usize = 1 << 20;

/// The TLS of one listener: the last files that were good. A handshake takes what is in force when
/// it begins; open connections keep what they began with.
pub(crate) struct Tls {
    /// The listener's address, as metrics name it.
    listener: String,
    purpose: TlsPurpose,
    files: TlsFiles,
    loaded: ArcSwap<LoadedFiles>,
}

/// The kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsPurpose {
    /// For requests: HTTP/2 and HTTP/1.1.
    Data,
    /// The admin listener: HTTP/1.1 alone, whose connections it can tell apart and bound.
    Admin,
}

impl TlsPurpose {
    /// The metric labels of its own certificate and of its clients' authorities.
    fn uses(self) -> [CertificateUse; 2] {
        match self {
            TlsPurpose::Data => [CertificateUse::Listener, CertificateUse::ListenerClientCa],
            TlsPurpose::Admin => [CertificateUse::Admin, CertificateUse::AdminClientCa],
        }
    }

    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            TlsPurpose::Data => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            TlsPurpose::Admin => vec![b"http/1.1".to_vec()],
        }
    }
}

/// The files as they were last good.
struct LoadedFiles {
    acceptor: Arc<Acceptor>,
    digest: [u8; 32],
    certificate: Option<CertificateValidity>,
    /// Of the authorities for clients.
    client_ca: Option<CertificateValidity>,
}

impl Tls {
    /// Reads the files of the listener at this address.
    ///
    /// # Errors
    ///
    /// The file and its mistake, without the content of the key.
    pub(crate) fn load(
        listener: &str,
        files: &TlsFiles,
        purpose: TlsPurpose,
    ) -> Result<Tls, Unusable> {
        let contents = Contents::read(files)?;
        Ok(Tls {
            listener: listener.to_owned(),
            purpose,
            loaded: ArcSwap::from_pointee(contents.load(files, purpose)?),
            files: files.clone(),
        })
    }

    /// Shows in the metrics when the certificates expire.
    pub(crate) fn show(&self, metrics: &Metrics) {
        for certificate in self.certificates() {
            metrics.certificate_expiry(certificate.usage, &self.listener, certificate.until);
        }
    }

    /// The certificates in force.
    pub(crate) fn certificates(&self) -> Vec<CertificateEnd> {
        let loaded = self.loaded.load();
        let [own, authorities] = self.purpose.uses();
        let of = |usage, file: Option<&PathBuf>, validity: Option<CertificateValidity>| {
            Some(CertificateEnd {
                usage,
                owner: self.listener.clone(),
                file: file?.clone(),
                until: validity?.until,
            })
        };
        let own = of(own, Some(&self.files.cert), loaded.certificate);
        let client_ca = of(authorities, self.files.client_ca.as_ref(), loaded.client_ca);
        own.into_iter().chain(client_ca).collect()
    }

    /// The warnings about the certificates at `now` (Unix seconds), one line each.
    pub(crate) fn warnings(&self, now: u64) -> Vec<String> {
        let loaded = self.loaded.load();
        let client_ca = self.files.client_ca.as_ref().zip(loaded.client_ca);
        (loaded
            .certificate
            .map(|validity| (&self.files.cert, validity))
            .into_iter())
        .chain(client_ca)
        .filter_map(|(file, validity)| {
            let warning = validity.warning(now)?;
            Some(format!("{}: the certificate {warning}", file.display()))
        })
        .collect()
    }

    /// The acceptor for a handshake that begins now.
    pub(crate) fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.loaded.load().acceptor)
    }

    /// The files that it is read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let TlsFiles {
            cert,
            key,
            client_ca,
        } = &self.files;
        [Some(cert), Some(key), client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| &**path)
    }

    /// Reads the files again, and puts them in force if they are good; `false` if they have not
    /// changed. The caller sees to it that no two reloads run at once.
    ///
    /// # Errors
    ///
    /// The file and its mistake. The files that were in force stay.
    pub(crate) fn reload(&self) -> Result<bool, Unusable> {
        let contents = Contents::read(&self.files)?;
        if contents.digest() == self.loaded.load().digest {
            return Ok(false);
        }
        self.loaded
            .store(Arc::new(contents.load(&self.files, self.purpose)?));
        Ok(true)
    }
}

/// The contents of a listener's files, each read once: the bytes that are compared are put in
/// force.
struct Contents {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Zeroizing<Vec<u8>>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Contents, Unusable> {
        let read =
            |path: &PathBuf| file::read_secret(path, MAX_FILE).map_err(|fault| fault.of(path));
        Ok(Contents {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_ref().map(read).transpose()?,
        })
    }

    fn load(&self, files: &TlsFiles, purpose: TlsPurpose) -> Result<LoadedFiles, Unusable> {
        let parsed = |pem: &[u8]| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(pem)
                .filter_map(Result::ok)
                .collect()
        };
        let client_ca = self.client_ca.as_deref();
        Ok(LoadedFiles {
            acceptor: Arc::new(self.acceptor(files, purpose)?),
            digest: self.digest(),
            certificate: CertificateValidity::of_chain(&parsed(&self.cert)),
            client_ca: client_ca.and_then(|pem| CertificateValidity::of_authorities(&parsed(pem))),
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let none = Zeroizing::default();
        for content in [
            &self.cert,
            &self.key,
            self.client_ca.as_ref().unwrap_or(&none),
        ] {
            digest.update((content.len() as u64).to_le_bytes());
            digest.update(&**content);
        }
        digest.finalize().into()
    }

    fn acceptor(&self, files: &TlsFiles, purpose: TlsPurpose) -> Result<Acceptor, Unusable> {
        let TlsFiles { cert, key, .. } = files;
        let chain = certificates(cert, &self.cert)?;
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            bad(format!(
                "{}: cannot read the private key: {error}",
                key.display()
            ))
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = (files.client_ca.as_deref().zip(self.client_ca.as_deref()))
            .map(|(file, content)| clients(file, content, &provider))
            .transpose()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                match clients {
                    Some(verifier) => builder.with_client_cert_verifier(verifier),
                    None => builder.with_no_client_auth(),
                }
                .with_single_cert(chain, private)
            })
            .map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                bad(format!("{cert} and {key} do not go together: {error}"))
            })?;
        config.alpn_protocols = purpose.protocols();
        config.max_early_data_size = 0;
        Ok(Acceptor::from_server_config(Arc::new(config)))
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            let file = file.display();
            bad(format!("{file}: cannot read the certificate: {error}"))
        })?;
    match certificates.is_empty() {
        true => Err(bad(format!(
            "{}: there is no certificate in it",
            file.display()
        ))),
        false => Ok(certificates),
    }
}

/// Accepts only clients with a certificate of these authorities. It fails closed: without one there
/// is no connection.
fn clients(
    file: &Path,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    let failed = |error: &dyn std::fmt::Display| {
        let file = file.display();
        bad(format!(
            "{file}: is no authority for client certificates: {error}"
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| failed(&error))
}

fn bad(text: String) -> Unusable {
    Unusable::content(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::fs;

    use super::*;

    fn write(folder: &Path, names: [&str; 2]) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.join(names[0]), made.cert.pem()).unwrap();
        fs::write(folder.join(names[1]), made.signing_key.serialize_pem()).unwrap();
    }

    fn files(folder: &Path) -> TlsFiles {
        TlsFiles {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
        }
    }

    #[test]
    fn files_that_did_not_change_are_not_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), ["cert.pem", "key.pem"]);
        let tls = Tls::load("a:1", &files(folder.path()), TlsPurpose::Data).unwrap();
        let before = tls.acceptor();
        assert_eq!(tls.reload(), Ok(false));
        assert!(Arc::ptr_eq(&before, &tls.acceptor()));
        write(folder.path(), ["cert.pem", "key.pem"]);
        assert_eq!(tls.reload(), Ok(true));
        assert!(!Arc::ptr_eq(&before, &tls.acceptor()));
    }

    #[test]
    fn a_certificate_without_its_key_changes_nothing_until_the_key_is_there_too() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), ["cert.pem", "key.pem"]);
        let tls = Tls::load("a:1", &files(folder.path()), TlsPurpose::Data).unwrap();
        let before = tls.acceptor();
        write(folder.path(), ["cert.pem", "new-key.pem"]);
        assert!(
            tls.reload()
                .unwrap_err()
                .to_string()
                .contains("do not go together")
        );
        assert!(Arc::ptr_eq(&before, &tls.acceptor()));
        fs::rename(
            folder.path().join("new-key.pem"),
            folder.path().join("key.pem"),
        )
        .unwrap();
        assert_eq!(tls.reload(), Ok(true));
    }

    #[test]
    fn each_bad_file_is_named_and_nothing_of_the_key_is_told() {
        for (name, content, says) in [
            ("cert.pem", "", "cert.pem: there is no certificate in it"),
            ("key.pem", "s3cret", "key.pem: cannot read the private key"),
            ("ca.pem", "", "ca.pem: there is no certificate in it"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), ["cert.pem", "key.pem"]);
            write(folder.path(), ["ca.pem", "ca-key.pem"]);
            fs::write(folder.path().join(name), content).unwrap();
            let client_ca = Some(folder.path().join("ca.pem"));
            let files = TlsFiles {
                client_ca,
                ..files(folder.path())
            };
            let text = Tls::load("a:1", &files, TlsPurpose::Data)
                .err()
                .unwrap()
                .to_string();
            assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
        }
    }
}
