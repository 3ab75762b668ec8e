//! TLS on a listener, by rustls: TLS 1.2 and 1.3, HTTP/2 by ALPN, and never early data, which
//! anyone could replay. Its files are read again while the gateway runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use crate::config::TlsFiles;

/// The TLS of one listener: the last files that were good. A handshake takes what is there when it
/// begins; connections that are open go on with what they began with.
pub(super) struct Tls {
    files: TlsFiles,
    acceptor: ArcSwap<Acceptor>,
    /// What the files held when they were last good.
    known: Mutex<[u8; 32]>,
}

impl Tls {
    /// Reads the files of a listener.
    ///
    /// # Errors
    ///
    /// What is wrong with which file; nothing of the key's content.
    pub(super) fn load(files: &TlsFiles) -> Result<Tls, String> {
        // First, so that what is written meanwhile counts as new.
        let known = digest(files);
        Ok(Tls {
            acceptor: ArcSwap::from_pointee(acceptor(files)?),
            files: files.clone(),
            known: Mutex::new(known),
        })
    }

    /// What a handshake that begins now is made with.
    pub(super) fn acceptor(&self) -> Arc<Acceptor> {
        self.acceptor.load_full()
    }

    /// The files that it is read from.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
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

    /// Reads the files again, and puts them in force if they are good; `false` if they are as they
    /// were.
    ///
    /// # Errors
    ///
    /// What is wrong with which file. What was in force stays.
    pub(super) fn reload(&self) -> Result<bool, String> {
        // Held to the end: two at once could put the older one in force.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = digest(&self.files);
        if now == *known {
            return Ok(false);
        }
        self.acceptor.store(Arc::new(acceptor(&self.files)?));
        *known = now;
        Ok(true)
    }
}

/// Of all the files together; one that cannot be read counts as empty, and is told of when it is
/// loaded.
fn digest(files: &TlsFiles) -> [u8; 32] {
    let mut digest = Sha256::new();
    for path in [
        Some(&files.cert),
        Some(&files.key),
        files.client_ca.as_ref(),
    ] {
        let content = path.and_then(|path| std::fs::read(path).ok());
        let content = zeroize::Zeroizing::new(content.unwrap_or_default());
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(&*content);
    }
    digest.finalize().into()
}

fn acceptor(files: &TlsFiles) -> Result<Acceptor, String> {
    let TlsFiles {
        cert,
        key,
        client_ca,
    } = files;
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{}: cannot read the private key: {error}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = client_ca
        .as_deref()
        .map(|file| clients(file, &provider))
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
            format!(
                "{} and {} do not go together: {error}",
                cert.display(),
                key.display()
            )
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    Ok(Acceptor::from_server_config(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: cannot read the certificate: {error}", file.display()))?;
    match certificates.is_empty() {
        true => Err(format!("{}: there is no certificate in it", file.display())),
        false => Ok(certificates),
    }
}

/// Lets in only who has a certificate of these authorities. It fails closed: without one there is
/// no connection.
fn clients(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "{}: is no authority for client certificates: {error}",
            file.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| failed(&error))
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
        let tls = Tls::load(&files(folder.path())).unwrap();
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
        let tls = Tls::load(&files(folder.path())).unwrap();
        let before = tls.acceptor();
        write(folder.path(), ["cert.pem", "new-key.pem"]);
        assert!(tls.reload().unwrap_err().contains("do not go together"));
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
            let text = Tls::load(&files).err().unwrap();
            assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
        }
    }
}
