//! Nonces in memory: exact within one process, from its start to its end.

use std::hint;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use super::floor::Floor;
use crate::auth::replay::{Claim, ClaimError, NonceStore, Window};
use crate::clock::{Clock, Now};

/// A [`NonceStore`] in memory. It forgets nothing early and evicts nothing: a full store refuses.
///
/// A claim is one critical section, from the look at the clock to the insertion. Nothing in it
/// takes longer the more nonces there are.
#[derive(Debug)]
pub struct MemoryNonces {
    floor: Mutex<Floor>,
    quotas: NonceQuotas,
    /// The window's `past`, in seconds.
    past: u64,
    clock: Clock,
}

/// How many live nonces there may be.
#[derive(Clone, Copy, Debug)]
pub struct NonceQuotas {
    /// Of all machines together; beyond it, [`ClaimError::Unavailable`].
    pub all: u64,
    /// Of one machine; beyond it, [`ClaimError::OverQuota`].
    pub per_machine: u32,
}

/// Nonces that a claim forgets, at most, if they are due: more than it adds, so that what is due
/// comes to an end under load, and few enough not to be noticed.
const BY_A_CLAIM: u32 = 4;

/// Nonces that a look forgets in one go, while others wait: some ten microseconds.
const IN_ONE_GO: u32 = 64;

/// How often it does that, at most: some ten milliseconds of its own time. What is left over
/// waits for the next.
const GOES: u32 = 1024;

/// How often the lock is tried, and for how long it is left alone in between, before the thread
/// goes to sleep for it: some microseconds, where to be woken takes some tens. Whoever has the lock
/// needs half of one, unless it was interrupted.
const TRIES: u32 = 64;
const SPINS: u32 = 8;

/// Seconds a client is told to wait when there is no room. What came one retention ago makes some,
/// second by second.
const RETRY_WHEN_FULL: u32 = 10;

/// Seconds a client is told to wait for the gateway to be restarted.
const RETRY_WHEN_BROKEN: u32 = 60;

/// Most seconds a client is told to wait when its timestamp is at or below the floor, however far
/// ahead of the clock that is: the clock may be set right at any moment.
const RETRY_BELOW_FLOOR: u64 = 3600;

impl MemoryNonces {
    /// An empty store.
    ///
    /// Whatever is stamped with the current second or an earlier one is refused: an earlier
    /// process may have accepted it. What remains open across a restart is a request stamped
    /// ahead of the gateway's clock at that moment.
    pub fn new(window: Window, quotas: NonceQuotas, clock: Clock) -> MemoryNonces {
        let floor = clock.now().unix_seconds();
        MemoryNonces::above(floor, window, quotas, clock)
    }

    /// An empty store with its floor at `level`, in Unix seconds.
    pub(super) fn above(
        level: u64,
        window: Window,
        quotas: NonceQuotas,
        clock: Clock,
    ) -> MemoryNonces {
        let retention = Duration::from_secs(window.past + window.future) + Floor::SLACK;
        MemoryNonces {
            floor: Mutex::new(Floor::new(level, retention)),
            quotas,
            past: window.past,
            clock,
        }
    }

    /// Remembers what an earlier process accepted, whatever the quotas. Nobody may claim anything
    /// before this has returned.
    pub(super) fn restore(&self, claims: &[Claim]) {
        let mut floor = self.lock();
        let now = self.clock.now().mono;
        for claim in claims {
            floor.restore(now, *claim);
        }
    }

    /// The floor, in Unix seconds.
    pub(super) fn level(&self) -> u64 {
        self.settle();
        self.lock().level()
    }

    /// How many nonces are remembered.
    pub fn live(&self) -> u64 {
        self.settle();
        self.lock().live()
    }

    /// Forgets what is due, in goes between which others have their turn.
    fn settle(&self) {
        for _ in 0..GOES {
            let more = self.advanced(IN_ONE_GO).2;
            if !more {
                return;
            }
            thread::yield_now();
        }
    }

    /// The floor as of this instant, the instant, and whether more is due: the clock is read under
    /// the lock, after any pause of this task.
    fn advanced(&self, steps: u32) -> (MutexGuard<'_, Floor>, Now, bool) {
        let mut floor = self.lock();
        let now = self.clock.now();
        let passed = now.unix_seconds().saturating_sub(self.past + 1);
        let more = !self.floor.is_poisoned() && floor.advance(now.mono, passed, steps);
        (floor, now, more)
    }

    /// After a panic no claim passes any more (see `try_claim`), and the floor is not too low.
    fn lock(&self) -> MutexGuard<'_, Floor> {
        for _ in 0..TRIES {
            match self.floor.try_lock() {
                Ok(floor) => return floor,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => (0..SPINS).for_each(|_| hint::spin_loop()),
            }
        }
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claim_now(&self, claim: Claim) -> Result<(), ClaimError> {
        match self.try_claim(claim) {
            // There may be room that only has to be made.
            Err((FULL | OVER_QUOTA, true)) => {
                self.settle();
                self.try_claim(claim).map_err(|(error, _)| error)
            }
            tried => tried.map_err(|(error, _)| error),
        }
    }

    /// With an error goes whether more nonces are due to be forgotten.
    fn try_claim(&self, claim: Claim) -> Result<(), (ClaimError, bool)> {
        let (mut floor, now, more) = self.advanced(BY_A_CLAIM);
        let refused = if self.floor.is_poisoned() {
            // A bug; what it left behind may lack a nonce.
            BROKEN
        } else if !floor.admits(claim.timestamp) {
            below(floor.level(), now)
        } else if floor.live() >= self.quotas.all || floor.is_full() {
            FULL
        } else if floor.live_of(claim.owner) >= self.quotas.per_machine {
            OVER_QUOTA
        } else if !floor.insert(now.mono, claim) {
            ClaimError::Replayed
        } else {
            return Ok(());
        };
        Err((refused, more))
    }
}

/// For a claim at or below the floor: a fresh one lies above it once the clock does.
fn below(level: u64, now: Now) -> ClaimError {
    let wait = level.saturating_add(1).saturating_sub(now.unix_seconds());
    ClaimError::Unavailable {
        retry_after: u32::try_from(wait.clamp(1, RETRY_BELOW_FLOOR)).unwrap_or(1),
    }
}

const FULL: ClaimError = ClaimError::Unavailable {
    retry_after: RETRY_WHEN_FULL,
};

const BROKEN: ClaimError = ClaimError::Unavailable {
    retry_after: RETRY_WHEN_BROKEN,
};

const OVER_QUOTA: ClaimError = ClaimError::OverQuota {
    retry_after: RETRY_WHEN_FULL,
};

#[async_trait::async_trait]
impl NonceStore for MemoryNonces {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        self.claim_now(claim)
    }

    fn ready(&self) -> Result<(), String> {
        let level = self.level();
        if self.floor.is_poisoned() {
            return Err("the nonces in memory are damaged by a bug; restart the gateway".into());
        }
        if self.clock.now().unix_seconds() > level {
            return Ok(());
        }
        Err(format!(
            "quarantine until the clock is past Unix time {level}: an earlier process may have \
             accepted what is stamped until then"
        ))
    }
}

#[cfg(test)]
mod tests;
