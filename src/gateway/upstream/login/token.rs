//! The token of one machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::HeaderValue;

use super::answer::Grant;
use crate::gateway::upstream::acceptance::Acceptance;
use crate::gateway::upstream::assertion::asserted_machine::AssertedMachine;
use crate::metrics::CountedToken;
use countersign_core::identity::Machine;

/// The token that a machine got from a backend. Its memory is wiped when nothing uses it any more.
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
    _counted: CountedToken,
}

impl MachineToken {
    pub(super) fn new(
        owner: AssertedMachine,
        grant: Grant,
        role: &str,
        granted: Duration,
        counted: CountedToken,
    ) -> MachineToken {
        MachineToken {
            owner,
            value: Arc::new(grant.token),
            acceptance: Acceptance::default(),
            accessor: grant.accessor,
            role: role.into(),
            granted,
            was_accepted: AtomicBool::new(false),
            _counted: counted,
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
}

impl fmt::Debug for MachineToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineToken({})", self.owner.machine().id)
    }
}
