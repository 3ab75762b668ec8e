//! Readiness: whether a load balancer should send requests here.

use std::sync::Arc;

use crate::audit::AuditLog;
use crate::gateway::receive::draining::Draining;
use countersign_core::replay::NonceStore;

/// Answers `/readyz`, and the health checks of the data listeners.
pub(crate) struct Readiness {
    nonces: Arc<dyn NonceStore>,
    audit: Arc<AuditLog>,
    draining: Draining,
}

impl Readiness {
    pub(crate) fn new(
        nonces: Arc<dyn NonceStore>,
        audit: Arc<AuditLog>,
        draining: Draining,
    ) -> Readiness {
        Readiness {
            nonces,
            audit,
            draining,
        }
    }

    /// # Errors
    ///
    /// Why no requests should be sent here, in a few words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.draining.has_begun() {
            return Err("shutting down".into());
        }
        self.nonces.ready()?;
        if !self.audit.healthy() {
            return Err("the audit log cannot be written".into());
        }
        Ok(())
    }
}
