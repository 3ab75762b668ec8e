//! The TLS settings of an upstream, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use tracing::{error, info, warn};

use crate::config::{CertificateValidity, ClientTls, TlsMaterial};
use crate::metrics::{CertificateEnd, CertificateUse, Metrics, Reload};
use countersign_client::file::Unusable;
use countersign_client::watch::{Complaint, RETRY, Watch, watch};

/// The TLS of one upstream: the last files that were good.
#[derive(Debug)]
pub(super) struct UpstreamTls {
    upstream: String,
    files: ClientTls,
    current: ArcSwap<PeerTls>,
    known: Mutex<Arc<TlsMaterial>>,
    /// The mistake in the files, while what they hold is not in force.
    fault: Mutex<Option<String>>,
}

/// The material in the form that Pingora takes.
#[derive(Debug)]
struct PeerTls {
    ca: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
    /// Pingora's reuse key ignores the authorities, and takes only the serial number of a client
    /// certificate. This generation covers both: a connection is used with its own value only.
    generation: u64,
}

impl UpstreamTls {
    pub(super) fn new(upstream: &str, files: &ClientTls) -> UpstreamTls {
        UpstreamTls {
            upstream: upstream.to_owned(),
            fault: Mutex::default(),
            current: ArcSwap::from_pointee(PeerTls::of(&files.material)),
            known: Mutex::new(Arc::clone(&files.material)),
            files: files.clone(),
        }
    }

    /// Sets the authorities that verify the server, and the gateway's client certificate. Where no
    /// authorities are named Pingora takes the system's, as they were at the start.
    pub(super) fn apply_to(&self, peer: &mut HttpPeer) {
        let tls = self.current.load();
        peer.options.ca = tls.ca.clone();
        peer.client_cert_key = tls.identity.clone();
        peer.group_key = tls.generation;
    }

    /// Reads the files again from now on whenever they change, for as long as the watch lives.
    /// Bad ones change nothing.
    pub(super) fn watch(self: &Arc<Self>, metrics: &Arc<Metrics>) -> Option<Watch> {
        let upstream = &self.upstream;
        let files: Vec<PathBuf> = self.files.files().map(Path::to_owned).collect();
        if files.is_empty() {
            return None;
        }
        let (this, its_metrics) = (Arc::clone(self), Arc::clone(metrics));
        let complaint = Complaint::default();
        self.show(metrics);
        watch(
            move || files.clone(),
            move || this.reload_and_tell(&its_metrics, &complaint),
        )
            .inspect_err(|error| error!(%error, %upstream, "cannot watch the TLS files of an upstream; use SIGHUP"))
            .ok()
    }

    /// Shows until when the certificates are valid.
    fn show(&self, metrics: &Metrics) {
        for certificate in self.certificates() {
            metrics.certificate_expiry(certificate.usage, &self.upstream, certificate.until);
        }
    }

    /// The certificates in force.
    pub(super) fn certificates(&self) -> Vec<CertificateEnd> {
        let known = Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let own = self.files.identity.as_ref().map(|files| &files.cert);
        let of = |usage, file: Option<&PathBuf>, validity: Option<CertificateValidity>| {
            Some(CertificateEnd {
                usage,
                owner: self.upstream.clone(),
                file: file?.clone(),
                until: validity?.until,
            })
        };
        let own = of(CertificateUse::Upstream, own, known.chain());
        let ca = self.files.ca.as_ref();
        let ca = of(CertificateUse::UpstreamCa, ca, known.authorities());
        own.into_iter().chain(ca).collect()
    }

    /// The mistake in the files, while what they hold is not in force.
    pub(super) fn fault(&self) -> Option<String> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = fault.as_ref()?;
        Some(format!(
            "upstream {} keeps its last good TLS files: {fault}",
            self.upstream
        ))
    }

    fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// When to try again.
    fn reload_and_tell(&self, metrics: &Metrics, complaint: &Complaint) -> Option<Duration> {
        let upstream = &self.upstream;
        match self.reload() {
            Ok(is_new) => {
                complaint.is_over();
                self.set_fault(None);
                if is_new {
                    self.show(metrics);
                    metrics.tls_reload(Reload::Loaded);
                    info!(%upstream, "the TLS files of an upstream were loaded; new connections use them");
                }
                None
            }
            Err(error) => {
                metrics.tls_reload(Reload::failed(error.may_pass));
                let text = error.to_string();
                if complaint.is_new(&text) {
                    warn!(%upstream, "an upstream keeps its last good TLS files: {text}");
                }
                self.set_fault(Some(text));
                error.may_pass.then_some(RETRY)
            }
        }
    }

    /// `false` if the files hold what they did.
    fn reload(&self) -> Result<bool, Unusable> {
        // Held to the end: two at once could put the older one in force.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let material = self.files.load()?;
        if material == **known {
            return Ok(false);
        }
        self.current.store(Arc::new(PeerTls::of(&material)));
        *known = Arc::new(material);
        Ok(true)
    }
}

impl PeerTls {
    fn of(material: &TlsMaterial) -> PeerTls {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let der = |certificate: &CertificateDer<'_>| certificate.to_vec();
        let roots = &material.roots;
        // Parsing panics on a bad certificate; loading the material has refused such.
        let ca = roots
            .iter()
            .map(|root| WrappedX509::new(der(root), parse_x509));
        let identity = material.identity.as_ref().map(|(chain, key)| {
            let chain = chain.iter().map(der).collect();
            Arc::new(CertKey::new(chain, key.secret_der().to_vec()))
        });
        PeerTls {
            ca: (!roots.is_empty()).then(|| ca.collect()),
            identity,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        }
    }
}
