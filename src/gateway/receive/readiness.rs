//! Readiness: whether a load balancer should send requests here.

use std::sync::Arc;

use crate::audit::AuditLog;
use crate::gateway::receive::draining::Draining;
use crate::registry::RegistryStore;
use countersign_client::clock::Clock;
use countersign_core::replay::NonceStore;

/// Answers `/readyz`, and the health checks of the data listeners.
pub(crate) struct Readiness {
    nonces: Arc<dyn NonceStore>,
    audit: Arc<AuditLog>,
    draining: Draining,
    registry: Arc<RegistryStore>,
    clock: Clock,
}

impl Readiness {
    pub(crate) fn new(
        nonces: Arc<dyn NonceStore>,
        audit: Arc<AuditLog>,
        draining: Draining,
        registry: Arc<RegistryStore>,
        clock: Clock,
    ) -> Readiness {
        Readiness {
            nonces,
            audit,
            draining,
            registry,
            clock,
        }
    }

    /// # Errors
    ///
    /// Why no requests should be sent here, in a few words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.draining.has_begun() {
            return Err("shutting down".into());
        }
        if !self.registry.counts_at(self.clock.now().mono) {
            return Err("the registry's database has not answered for too long".into());
        }
        self.nonces.ready()?;
        if !self.audit.healthy() {
            return Err("the audit log cannot be written".into());
        }
        Ok(())
    }
}
