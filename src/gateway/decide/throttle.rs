//! The throttle: the requests of a source that fails too often are refused for a while, before they
//! are verified.
//!
//! A source is a client's address, never the machine that a request names: naming a machine cannot
//! lock it out. One address may have honest machines beside the one that fails (a NAT, an
//! undeclared load balancer). So requests still get verified if they name a machine that verified
//! from there lately.
//!
//! The throttle fails open. An address that is not known, or whose entry had to make room, is not
//! throttled. Its requests still have to verify.

mod bucket;
mod generations;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use self::bucket::{Bucket, FailureEffect};
use self::generations::Generations;
use crate::config::ThrottleSettings;
use crate::gateway::receive::origin::SourceKey;
use crate::metrics::Metrics;
use countersign_core::refusal::{Code, Refusal};

/// Number of shards. Each has its own lock, so requests of different sources seldom meet.
const SHARDS: usize = 16;

/// Time for which a machine that verified from a source may still pass its ban.
const FAMILIAR: Duration = Duration::from_secs(3600);

/// The time of a machine's last verification is updated only when it is older than this. Most
/// requests therefore write nothing.
const RENEWED: Duration = Duration::from_secs(60);

/// The failures of all sources. Its memory is bounded: some megabytes.
pub(crate) struct Throttle {
    shards: [Mutex<ThrottleShard>; SHARDS],
    hasher: RandomState,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct ThrottleShard {
    failing: Generations<SourceKey, Bucket>,
    /// When a machine verified from a source, by a keyed hash of its id, on the monotonic clock.
    familiar: Generations<(SourceKey, u64), Duration>,
}

impl Throttle {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Throttle {
        Throttle {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            metrics,
        }
    }

    /// Decides whether a request is verified. `machine` is the machine that the request names;
    /// `now` is on the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`Refusal::Throttled`] while its source is banned, unless the machine is familiar there.
    pub(crate) fn check(
        &self,
        source: Option<IpAddr>,
        machine: Option<&[u8]>,
        now: Duration,
        settings: &ThrottleSettings,
    ) -> Result<(), Refusal> {
        let (Some(source), true) = (source.map(SourceKey::of), settings.is_on()) else {
            return Ok(());
        };
        let shard = self.shard(source);
        let Some(left) = (shard.failing.get(&source)).and_then(|bucket| bucket.banned_for(now))
        else {
            return Ok(());
        };
        let machine = machine.map(|machine| self.hasher.hash_one(machine));
        let verified = machine.and_then(|machine| shard.familiar.get(&(source, machine)));
        if verified.is_some_and(|at| now.saturating_sub(*at) < FAMILIAR) {
            return Ok(());
        }
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Err(Refusal::Throttled {
            retry_after: u32::try_from(seconds).unwrap_or(u32::MAX).max(1),
        })
    }

    /// Notes that a machine's signature has verified.
    pub(crate) fn verified(&self, source: Option<IpAddr>, machine: &str, now: Duration) {
        let Some(source) = source.map(SourceKey::of) else {
            return;
        };
        let key = (source, self.hasher.hash_one(machine.as_bytes()));
        let mut shard = self.shard(source);
        let at = shard.familiar.get_or_insert(key, || now);
        if now.saturating_sub(*at) > RENEWED {
            *at = now;
        }
    }

    /// Counts a bad signature, a replay or a refused enrolment against the source. Clock errors and missing headers are
    /// mistakes, not attempts, and do not count.
    pub(crate) fn refused(
        &self,
        source: Option<IpAddr>,
        code: Code,
        now: Duration,
        settings: &ThrottleSettings,
    ) {
        let (Some(address), true) = (source, settings.is_on()) else {
            return;
        };
        let is_attempt = matches!(
            code,
            Code::BadSignature | Code::Replayed | Code::EnrolmentRefused
        );
        if !is_attempt {
            return;
        }
        let source = SourceKey::of(address);
        let effect = {
            let mut shard = self.shard(source);
            let full = || Bucket::full(now, settings);
            shard
                .failing
                .get_or_insert(source, full)
                .fail(now, settings)
        };
        if effect == FailureEffect::Banned {
            self.metrics.source_banned();
            warn!(
                source = %source,
                ban = ?settings.ban,
                "source banned: it exceeded throttle.failures_per_minute; machines that verified from \
                 it in the last hour still pass"
            );
        }
    }

    fn shard(&self, source: SourceKey) -> MutexGuard<'_, ThrottleShard> {
        let index = self.hasher.hash_one(source) % SHARDS as u64;
        // After a panic the worst is a wrong count.
        (self.shards[index as usize])
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
