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
    /// The first reason why no requests should be sent here, in a few words.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.reasons().next().map_or(Ok(()), Err)
    }

    /// Every reason why no requests should be sent here; none if it is ready.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = String> {
        let draining = self.draining.has_begun().then(|| "shutting down".into());
        let stale = !self.registry.counts_at(self.clock.now().mono);
        let stale = stale.then(|| "the registry's database has not answered for too long".into());
        let audit = !self.audit.healthy();
        let audit = audit.then(|| "the audit log cannot be written".into());
        [draining, stale, self.nonces.ready().err(), audit]
            .into_iter()
            .flatten()
    }
}
