//! The end of a login as the cache keeps it, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;

use super::failure::LoginFailure;
use super::token::MachineToken;
use crate::gateway::upstream::assertion::asserted_machine::AssertedMachine;

/// How long a failed login is kept: its machine is out of service for this long at most after the
/// cause has gone.
pub(super) const FAILED: Duration = Duration::from_secs(1);

/// The last login of a machine.
#[derive(Clone)]
pub(super) enum KeptLogin {
    Token(Arc<MachineToken>, Duration),
    Failed(Arc<LoginFailure>),
}

/// The time for which a login is kept, by its result.
pub(super) struct ByKind;

impl Expiry<AssertedMachine, KeptLogin> for ByKind {
    fn expire_after_create(
        &self,
        _: &AssertedMachine,
        kept: &KeptLogin,
        _: Instant,
    ) -> Option<Duration> {
        Some(kept.lifetime())
    }

    /// A new login over one whose time is over, and which is not swept yet, is an update to moka.
    fn expire_after_update(
        &self,
        _: &AssertedMachine,
        kept: &KeptLogin,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.lifetime())
    }
}

impl KeptLogin {
    pub(super) fn lifetime(&self) -> Duration {
        match self {
            KeptLogin::Token(_, keep) => *keep,
            KeptLogin::Failed(_) => FAILED,
        }
    }
}
