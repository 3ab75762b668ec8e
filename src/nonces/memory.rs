//! Nonces in memory: exact for the life of one process.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::floor::Floor;
use super::quota::NonceQuotas;
use super::replay_cache::NonceCache;
use crate::config::instant;
use countersign_client::clock::{Clock, Now};
use countersign_core::replay::{Claim, ClaimError, NonceStore, Window};

/// A [`NonceStore`] in memory. It forgets nothing early and evicts nothing: a full store refuses.
///
/// A claim checks the floor, inserts its nonce into the replay cache, and checks the floor again.
/// It may pause in between. A claim that paused for too long is refused.
#[derive(Debug)]
pub struct MemoryNonces {
    local: Arc<LocalNonces>,
    timer: JoinHandle<()>,
    /// Ends the timer's thread when it is dropped.
    _timer_end: SyncSender<()>,
}

/// The state that requests and the timer share.
#[derive(Debug)]
struct LocalNonces {
    cache: NonceCache,
    floor: Mutex<Floor>,
    /// The window's `past`, in seconds.
    past: u64,
    clock: Clock,
}

/// The interval at which the timer removes expired nonces. They count towards the quotas until
/// then.
const TIMER: Duration = Duration::from_secs(1);

/// `Retry-After` in seconds after a bug, until the gateway is restarted.
const RETRY_WHEN_BROKEN: u32 = 60;

/// Greatest `Retry-After` in seconds for a timestamp at or below the floor. The floor may be
/// further ahead of the clock, but an operator may set the clock right at any moment.
const RETRY_BELOW_FLOOR: u64 = 3600;

impl MemoryNonces {
    /// An empty store.
    ///
    /// It refuses timestamps up to the current second: an earlier process may have accepted them. A
    /// restart does not protect against the replay of a request with a later timestamp.
    ///
    /// # Errors
    ///
    /// The operating system cannot start the timer's thread.
    pub fn new(window: Window, quotas: NonceQuotas, clock: Clock) -> io::Result<MemoryNonces> {
        let floor = clock.now().unix_seconds();
        MemoryNonces::above(floor, window, quotas, clock)
    }

    /// An empty store with its floor at `level`, in Unix seconds.
    ///
    /// # Errors
    ///
    /// The operating system cannot start the timer's thread.
    pub(super) fn above(
        level: u64,
        window: Window,
        quotas: NonceQuotas,
        clock: Clock,
    ) -> io::Result<MemoryNonces> {
        let local = Arc::new(LocalNonces::above(level, window, quotas, clock));
        let (timer_end, dropped) = sync_channel(0);
        let maintained = Arc::clone(&local);
        let timer = thread::Builder::new()
            .name("replay-cache".into())
            .spawn(move || {
                while dropped.recv_timeout(TIMER) == Err(RecvTimeoutError::Timeout) {
                    maintained.maintain();
                }
            })?;
        Ok(MemoryNonces {
            local,
            timer,
            _timer_end: timer_end,
        })
    }

    /// Restores claims that an earlier process accepted, beyond the quotas if need be. No claim may
    /// come before this has returned.
    pub(super) fn restore(&self, claims: Vec<Claim>) {
        self.local.restore(claims);
    }

    /// The floor, in Unix seconds.
    pub(super) fn level(&self) -> u64 {
        self.local.advanced().0.level()
    }

    /// The number of live nonces.
    pub fn live(&self) -> u64 {
        self.local.cache.live()
    }

    pub(super) fn claim_now(&self, claim: Claim) -> Result<(), ClaimError> {
        self.local.claim(&claim)
    }
}

impl LocalNonces {
    fn above(level: u64, window: Window, quotas: NonceQuotas, clock: Clock) -> LocalNonces {
        let time_to_live = Duration::from_secs(window.past + window.future) + Floor::SLACK;
        LocalNonces {
            cache: NonceCache::new(time_to_live, quotas),
            floor: Mutex::new(Floor::new(level, time_to_live)),
            past: window.past,
            clock,
        }
    }

    fn claim(&self, claim: &Claim) -> Result<(), ClaimError> {
        let stamp = claim.unix_seconds();
        let before = {
            let (mut floor, now) = self.admitting(claim)?;
            floor.cover(now.mono, stamp);
            now.mono
        };
        self.cache.insert(claim)?;
        let now = self.admitting(claim)?.1;
        match Floor::was_covered(before, now.mono) {
            true => Ok(()),
            false => Err(STALLED),
        }
    }

    /// Checks that the floor is below `claim`.
    fn admitting(&self, claim: &Claim) -> Result<(MutexGuard<'_, Floor>, Now), ClaimError> {
        let (floor, now) = self.advanced();
        if self.floor.is_poisoned() {
            // A bug may have left the floor too low.
            return Err(BROKEN);
        }
        match floor.admits(claim.timestamp) {
            true => Ok((floor, now)),
            false => Err(below(floor.level(), now)),
        }
    }

    /// The current floor, and the current time. The clock is read under the lock, after any pause
    /// of this task.
    fn advanced(&self) -> (MutexGuard<'_, Floor>, Now) {
        // After a panic the caller refuses every claim.
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        floor.advance(now.mono, self.passed(now));
        (floor, now)
    }

    /// The greatest timestamp that has left the window, by the wall clock.
    fn passed(&self, now: Now) -> u64 {
        now.unix_seconds().saturating_sub(self.past + 1)
    }

    fn restore(&self, claims: Vec<Claim>) {
        let stamps = claims.iter().map(|claim| claim.unix_seconds());
        if let Some(greatest) = stamps.max() {
            let (mut floor, now) = self.advanced();
            floor.cover(now.mono, greatest);
        }
        self.cache.restore(claims);
    }

    /// Removes expired nonces. After the wall clock was set back, it renews those whose timestamps
    /// may still be in the window.
    fn maintain(&self) {
        self.cache.run_pending_tasks();
        let renewal = {
            let (mut floor, now) = self.advanced();
            floor.begin_renewal(now.mono, self.passed(now))
        };
        if let Some(renewal) = renewal {
            self.cache.renew(renewal.above);
            let (mut floor, now) = self.advanced();
            floor.end_renewal(&renewal, now.mono);
        }
    }
}

/// The refusal of a claim at or below the floor. A fresh claim passes once the clock is above it.
fn below(level: u64, now: Now) -> ClaimError {
    let wait = level.saturating_add(1).saturating_sub(now.unix_seconds());
    ClaimError::Unavailable {
        retry_after: u32::try_from(wait.clamp(1, RETRY_BELOW_FLOOR)).unwrap_or(1),
    }
}

/// The thread of the claim did not run for seconds. A fresh claim is likely to pass.
const STALLED: ClaimError = ClaimError::Unavailable { retry_after: 1 };

const BROKEN: ClaimError = ClaimError::Unavailable {
    retry_after: RETRY_WHEN_BROKEN,
};

#[async_trait::async_trait]
impl NonceStore for MemoryNonces {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        self.claim_now(claim)
    }

    fn ready(&self) -> Result<(), String> {
        let level = self.level();
        // Without the timer nothing removes expired nonces from a full store.
        if self.local.floor.is_poisoned() || self.timer.is_finished() {
            return Err("a bug has damaged the nonces in memory; restart the gateway".into());
        }
        if self.local.clock.now().unix_seconds() > level {
            return Ok(());
        }
        Err(format!(
            "quarantine until {}: an earlier process may have accepted requests with timestamps up \
             to then",
            instant::to_text(level)
        ))
    }
}

#[cfg(test)]
mod tests;
