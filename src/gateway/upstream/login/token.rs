//! The token of one machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;

use super::answer::Grant;
use super::revocation::{ReleasedToken, Revoker};
use crate::gateway::upstream::acceptance::Acceptance;
use crate::gateway::upstream::assertion::asserted_machine::AssertedMachine;
use crate::metrics::CountedToken;
use countersign_core::identity::Machine;

/// The token that a machine got from a backend. When nothing uses it any more, no request and not the
/// cache, it is revoked and its memory is wiped.
pub(crate) struct MachineToken {
    owner: AssertedMachine,
    /// The value of the header. Clones share one memory.
    pub(in crate::gateway::upstream) value: Arc<HeaderValue>,
    pub(in crate::gateway::upstream) acceptance: Acceptance,
    /// The name of the token in the backend's audit log. Batch tokens have none.
    accessor: Option<Box<str>>,
    /// The role that it was asked for with.
    role: Box<str>,
    /// When it was granted, on the monotonic clock.
    pub(super) granted: Duration,
    /// Whether a check has accepted it.
    pub(super) was_accepted: AtomicBool,
    /// Whether the backend has told that it does not know it.
    pub(in crate::gateway::upstream) is_unknown: AtomicBool,
    is_batch: bool,
    revoker: Arc<Revoker>,
    is_revoked: AtomicBool,
    counted: Option<CountedToken>,
}

impl MachineToken {
    pub(super) fn new(
        owner: AssertedMachine,
        grant: Grant,
        role: &str,
        granted: Duration,
        counted: CountedToken,
        revoker: &Arc<Revoker>,
    ) -> MachineToken {
        MachineToken {
            owner,
            value: Arc::new(grant.token),
            acceptance: Acceptance::default(),
            accessor: grant.accessor,
            role: role.into(),
            granted,
            was_accepted: AtomicBool::new(false),
            is_unknown: AtomicBool::new(false),
            is_batch: grant.is_batch,
            revoker: Arc::clone(revoker),
            is_revoked: AtomicBool::new(false),
            counted: Some(counted),
        }
    }

    pub(in crate::gateway::upstream) fn machine(&self) -> &Machine {
        self.owner.machine()
    }

    pub(super) fn owner(&self) -> &AssertedMachine {
        &self.owner
    }

    /// The name of the token in the backend's audit log.
    pub(crate) fn accessor(&self) -> Option<&str> {
        self.accessor.as_deref()
    }

    /// The role of the backend that it was asked for with.
    pub(crate) fn role(&self) -> &str {
        &self.role
    }

    /// Has the token revoked, though a request may still carry it: the gateway shuts down.
    pub(super) fn revoke_now(&self) {
        self.revoke(None);
    }

    fn revoke(&self, counted: Option<CountedToken>) {
        if !self.is_revoked.swap(true, Ordering::Relaxed) {
            self.revoker.revoke(ReleasedToken {
                value: Arc::clone(&self.value),
                is_batch: self.is_batch,
                _counted: counted,
            });
        }
    }
}

/// No request carries it any more, however long its answer took.
impl Drop for MachineToken {
    fn drop(&mut self) {
        let counted = self.counted.take();
        self.revoke(counted);
    }
}

impl fmt::Debug for MachineToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineToken({})", self.owner.machine().id)
    }
}
