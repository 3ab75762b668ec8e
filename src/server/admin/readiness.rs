//! Whether a load balancer should send requests here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::audit::AuditLog;
use crate::auth::replay::NonceStore;

/// What `/readyz` answers from.
pub(crate) struct Readiness {
    nonces: Arc<dyn NonceStore>,
    audit: Arc<AuditLog>,
    draining: AtomicBool,
}

impl Readiness {
    pub(crate) fn new(nonces: Arc<dyn NonceStore>, audit: Arc<AuditLog>) -> Readiness {
        Readiness {
            nonces,
            audit,
            draining: AtomicBool::new(false),
        }
    }

    /// Turns readiness off for good.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// # Errors
    ///
    /// Why no requests should be sent here, in a few words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("shutting down".into());
        }
        self.nonces.ready()?;
        if !self.audit.healthy() {
            return Err("the audit log cannot be written".into());
        }
        Ok(())
    }
}
