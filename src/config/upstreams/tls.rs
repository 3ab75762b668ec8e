//! TLS to the servers of an upstream: the trusted authorities, and the gateway's own certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::super::certificate::CertificateValidity;
use super::super::environment::Environment;
use super::super::operation;
use super::servers;
use crate::yaml::{Field, Table};
use countersign_client::file::{self, Unusable};

/// Largest PEM file, in bytes: a bundle of all authorities of the web has a quarter of it.
const MAX_FILE: usize = 1024 * 1024;

/// The TLS settings of an upstream. Certificates are always verified: no setting turns that off.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// The trusted authorities, PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate and key for the servers to verify, PEM. Default: none.
    pub identity: Option<ClientFiles>,
    /// The contents of the files when the configuration was read.
    pub material: Arc<TlsMaterial>,
}

/// The files of the gateway's own certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate chain, the gateway's own first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The content of the files, every certificate of it in a form that Pingora can take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// The trusted authorities; empty means the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// The gateway's own chain and key. (The `Debug` of a key shows nothing of it.)
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl TlsMaterial {
    /// Until when one of the authorities is valid, where some are named.
    pub fn authorities(&self) -> Option<CertificateValidity> {
        CertificateValidity::of_authorities(&self.roots)
    }

    /// Until when the gateway's own certificate is valid.
    pub fn chain(&self) -> Option<CertificateValidity> {
        CertificateValidity::of_chain(&self.identity.as_ref()?.0)
    }
}

impl ClientTls {
    /// Reads the files again.
    ///
    /// # Errors
    ///
    /// The mistake and its file; nothing of the key's content.
    pub fn load(&self) -> Result<TlsMaterial, Unusable> {
        Ok(TlsMaterial {
            roots: (self.ca.as_deref().map(authorities).transpose()?).unwrap_or_default(),
            identity: self.identity.as_ref().map(identity).transpose()?,
        })
    }

    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.identity.as_ref();
        (self.ca.iter())
            .chain(own.map(|files| &files.cert))
            .chain(own.map(|files| &files.key))
            .map(PathBuf::as_path)
    }
}

/// The settings of an upstream's `tls`: what holds for connections, and the name that
/// certificates must be valid for, where it is not the one in the URL.
pub(super) struct Settings {
    pub(super) tls: ClientTls,
    pub(super) server_name: Option<String>,
}

/// Reads `{ ca, server_name, cert, key }` and the files it names.
pub(super) fn read(
    table: &mut Table<'_>,
    base: &Path,
    environment: &Environment,
) -> Option<Settings> {
    let field = table.field("tls")?;
    let mut table = field.table();
    let server_name = table.field("server_name").and_then(|field| {
        field.parse(|text| servers::certified_name(text.trim_matches(['[', ']'])))
    });
    let file = |field: &Field<'_>| operation::file(field, base);
    let ca = table.field("ca");
    let ca_file = ca.as_ref().and_then(file);
    let own = match (table.field("cert"), table.field("key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(cert), None) => {
            cert.mistake("has no `key` beside it; add it");
            None
        }
        (None, Some(key)) => {
            key.mistake("has no `cert` beside it; add it");
            None
        }
    };
    let identity_files = own.as_ref().and_then(|(cert, key)| {
        let (cert, key) = (file(cert), file(key));
        Some(ClientFiles {
            cert: cert?,
            key: key?,
        })
    });
    let note = |field: Option<&Field<'_>>, why: Unusable| {
        if let Some(field) = field {
            field.mistake(why);
        }
    };
    let roots = ca_file.as_deref().map(authorities).transpose();
    let roots = roots.map_err(|why| note(ca.as_ref(), why)).ok();
    let identity = identity_files.as_ref().map(identity).transpose();
    let identity = identity
        .map_err(|why| note(own.as_ref().map(|(cert, _)| cert), why))
        .ok();
    if let (Some((_, key)), Some(files)) = (&own, &identity_files) {
        operation::warn_of_mode(key, &files.key);
    }
    let material = TlsMaterial {
        roots: roots.flatten().unwrap_or_default(),
        identity: identity.flatten(),
    };
    let now = environment.now;
    let warn = |field: Option<&Field<'_>>, warning: Option<String>| {
        if let (Some(field), Some(text)) = (field, warning) {
            field.warning(format!("the certificate {text}"));
        }
    };
    warn(
        ca.as_ref(),
        material.authorities().and_then(|it| it.warning(now)),
    );
    let cert = own.as_ref().map(|(cert, _)| cert);
    warn(cert, material.chain().and_then(|it| it.warning(now)));
    Some(Settings {
        tls: ClientTls {
            ca: ca_file,
            identity: identity_files,
            material: Arc::new(material),
        },
        server_name,
    })
}

impl Default for ClientTls {
    /// Nothing but the system's authorities.
    fn default() -> ClientTls {
        ClientTls {
            ca: None,
            identity: None,
            material: Arc::default(),
        }
    }
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates = certificates(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        (roots.add(certificate.clone()))
            .map_err(|error| bad(format!("{} holds no authority: {error}", file.display())))?;
    }
    Ok(certificates)
}

fn identity(
    files: &ClientFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
    let ClientFiles { cert, key } = files;
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_slice(&content(key)?)
        .map_err(|error| bad(format!("{} holds no private key: {error}", key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            (builder.with_root_certificates(RootCertStore::empty()))
                .with_client_auth_cert(chain.clone(), private.clone_key())
        })
        .map_err(|error| {
            let (cert, key) = (cert.display(), key.display());
            bad(format!("{cert} and {key} do not go together: {error}"))
        })?;
    Ok((chain, private))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&content(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(format!("{} is not a PEM file: {error}", file.display())))?;
    if certificates.is_empty() {
        return Err(bad(format!("{} holds no certificate", file.display())));
    }
    // Pingora parses each with this very crate, and panics where that fails.
    let parses = |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok();
    if !certificates.iter().all(parses) {
        return Err(bad(format!(
            "{} holds a certificate that cannot be parsed",
            file.display()
        )));
    }
    Ok(certificates)
}

fn content(file: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    file::read_secret(file, MAX_FILE).map_err(|fault| fault.of(file))
}

fn bad(text: String) -> Unusable {
    Unusable::content(text)
}
