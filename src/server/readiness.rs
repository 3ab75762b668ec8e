//! Whether a load balancer should send requests here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::audit::AuditLog;
use crate::auth::replay::NonceStore;
use crate::clock::Clock;

/// What `/readyz` answers from.
pub(crate) struct Readiness {
    clock: Clock,
    /// Requests stamped with this second or an earlier one are refused.
    first_second: u64,
    audit: Arc<AuditLog>,
    nonces: Arc<dyn NonceStore>,
    draining: AtomicBool,
}

impl Readiness {
    pub(super) fn new(
        clock: Clock,
        audit: Arc<AuditLog>,
        nonces: Arc<dyn NonceStore>,
    ) -> Readiness {
        Readiness {
            first_second: clock.now().unix_seconds(),
            clock,
            audit,
            nonces,
            draining: AtomicBool::new(false),
        }
    }

    /// Turns readiness off for good.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// # Errors
    ///
    /// Why no requests should be sent here, in a few words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Err("shutting down")
        } else if self.clock.now().unix_seconds() <= self.first_second {
            Err("in the first second, whose nonces an earlier process may have spent")
        } else if !self.audit.healthy() {
            Err("the audit log cannot be written")
        } else {
            self.nonces.ready()
        }
    }
}
