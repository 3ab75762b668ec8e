//! The floor: the timestamp at and below which nothing is accepted any more; and above it, all
//! that was accepted.
//!
//! It follows what was accepted and is about to be forgotten, by the monotonic clock. A wall clock
//! that steps back therefore reopens nothing.
//!
//! The wall clock has a say in one thing, and only to the good of honest machines: where it has
//! been set back since a claim was accepted, the claim's timestamp may still lie in the window, or
//! ahead of it. A floor that rose to it would shut out whoever has the right time, so the claim is
//! remembered for another while instead. Whatever the wall clock says, a claim is either
//! remembered or at or below the floor.
//!
//! What is due to be forgotten is so one claim at a time, whenever somebody comes by. Late does no
//! harm: until its turn it is remembered, as before.

use std::collections::HashMap;
use std::time::Duration;

use super::spent::Spent;
use crate::auth::headers::Timestamp;
use crate::auth::replay::{Claim, Owner};

/// The floor, and the claims above it.
#[derive(Debug)]
pub(super) struct Floor {
    level: u64,
    /// Seconds for which a claim is remembered at least.
    keep: u32,
    spent: Spent,
    live_of: Owners,
}

impl Floor {
    /// How much longer than the window a nonce is remembered, so that, unless the wall clock was
    /// set back, it has left the window when its turn comes.
    pub(super) const SLACK: Duration = Duration::from_secs(60);

    /// A floor at `level` (Unix seconds) that remembers a claim for `retention` at least. At
    /// `u32::MAX` seconds and more of it nothing is forgotten.
    pub(super) fn new(level: u64, retention: Duration) -> Floor {
        Floor {
            level,
            keep: seconds(retention),
            spent: Spent::new(),
            live_of: Owners::new(),
        }
    }

    /// Forgets claims that have been remembered for long enough at `now` (monotonic), at most
    /// `steps` of them, and raises the floor to each before. Tells whether more may be due.
    ///
    /// What is stamped at or below `passed` has left the window, by the wall clock of this moment;
    /// a claim that has not is remembered anew.
    pub(super) fn advance(&mut self, now: Duration, passed: u64, steps: u32) -> bool {
        let now = seconds(now);
        for _ in 0..steps {
            let Some((claim, since)) = self.spent.oldest() else {
                return false;
            };
            if now.saturating_sub(since) < self.keep {
                return false;
            }
            let stamp = claim.timestamp.unix_seconds();
            if stamp > passed && stamp > self.level {
                // It has just left room for itself. Were it not so, the floor would be the answer.
                self.spent.forget_oldest();
                if !self.spent.push(claim, now) {
                    self.level = stamp;
                }
                continue;
            }
            self.level = self.level.max(stamp);
            self.spent.forget_oldest();
            self.live_of.less(claim.owner);
        }
        true
    }

    /// The floor itself, in Unix seconds.
    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// Whether a claim with this timestamp is above the floor.
    pub(super) fn admits(&self, timestamp: Timestamp) -> bool {
        timestamp.unix_seconds() > self.level
    }

    /// Remembers a claim from `now` on; `false`, and the claim must not succeed, if its nonce is
    /// remembered already, if it is not above the floor, or if there are more than can be counted.
    #[must_use = "a claim that was not inserted must not succeed"]
    pub(super) fn insert(&mut self, now: Duration, claim: Claim) -> bool {
        let inserted = self.admits(claim.timestamp) && self.spent.insert(claim, seconds(now));
        if inserted {
            self.live_of.more(claim.owner);
        }
        inserted
    }

    /// Remembers what was accepted before, whatever else is remembered.
    ///
    /// A nonce may come twice, under two timestamps, if the first was forgotten in between. Both
    /// are kept: if it were the first alone, the floor would not pass the second in time.
    pub(super) fn restore(&mut self, now: Duration, claim: Claim) {
        if self.spent.push(claim, seconds(now)) {
            self.live_of.more(claim.owner);
        } else {
            self.level = self.level.max(claim.timestamp.unix_seconds());
        }
    }

    /// How many claims are remembered.
    pub(super) fn live(&self) -> u64 {
        u64::from(self.spent.len())
    }

    /// Whether there is room for no more, whatever the quotas.
    pub(super) fn is_full(&self) -> bool {
        self.spent.is_full()
    }

    /// How many of them are `owner`'s.
    pub(super) fn live_of(&self, owner: Owner) -> u32 {
        self.live_of.of(owner)
    }
}

/// Whole seconds. An end after 136 years only keeps what is remembered then.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// How many claims of each owner are remembered, in parts, so that none of them is large when it
/// has to grow. An owner without any takes no room.
#[derive(Debug)]
struct Owners(Box<[HashMap<Owner, u32>]>);

const PARTS: usize = 256;

impl Owners {
    fn new() -> Owners {
        Owners(vec![HashMap::new(); PARTS].into())
    }

    fn part(&mut self, owner: Owner) -> &mut HashMap<Owner, u32> {
        &mut self.0[part(owner)]
    }

    fn of(&self, owner: Owner) -> u32 {
        self.0[part(owner)].get(&owner).copied().unwrap_or(0)
    }

    fn more(&mut self, owner: Owner) {
        *self.part(owner).entry(owner).or_default() += 1;
    }

    fn less(&mut self, owner: Owner) {
        let part = self.part(owner);
        if let Some(live) = part.get_mut(&owner) {
            *live -= 1;
            if *live == 0 {
                part.remove(&owner);
            }
        }
    }
}

/// By the first byte of the public key.
fn part(owner: Owner) -> usize {
    (owner.number() % PARTS as u64) as usize
}

#[cfg(test)]
mod tests;
