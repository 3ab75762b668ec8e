//! Rate limits: the requests that each machine has made of its rate. Time is an argument. A reload
//! of the registry keeps the counts.
//!
//! Only a verified machine with a rate gets an entry, so nobody else can fill the memory. Idle
//! entries go each time that a shard has doubled. An entry takes 40 bytes and the id.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_core::identity::MachineId;
use countersign_core::policy::rate::{Meter, Rate};

/// Number of shards. Each has its own lock, so requests of different machines seldom meet.
const SHARDS: usize = 16;

/// A shard with fewer entries is not searched for idle ones.
const SWEEP_FROM: usize = 256;

#[derive(Debug)]
pub(crate) struct RateLimits {
    shards: [Mutex<RateShard>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct RateShard {
    meters: HashMap<MachineId, Meter>,
    /// Number of entries at which the idle ones are removed. It is then set to twice the rest, so
    /// that the search costs each new entry no more than its insertion.
    sweep_at: usize,
}

impl RateLimits {
    pub(crate) fn new() -> RateLimits {
        RateLimits {
            shards: std::array::from_fn(|_| {
                Mutex::new(RateShard {
                    meters: HashMap::new(),
                    sweep_at: SWEEP_FROM,
                })
            }),
            hasher: RandomState::new(),
        }
    }

    /// Counts one request against the rate of a machine; `now` is on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Above the rate: the seconds until the next request is allowed.
    pub(crate) fn take(&self, machine: &MachineId, rate: Rate, now: Duration) -> Result<(), u32> {
        let index = self.hasher.hash_one(machine) % SHARDS as u64;
        // After a panic the worst is a wrong count.
        let mut shard =
            (self.shards[index as usize].lock()).unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = shard.meters.get_mut(machine.as_str()) {
            return meter.take(rate, now);
        }
        if shard.meters.len() >= shard.sweep_at {
            shard.meters.retain(|_, meter| !meter.is_idle(now));
            shard.sweep_at = (2 * shard.meters.len()).max(SWEEP_FROM);
        }
        let meter = shard.meters.entry(machine.clone()).or_default();
        meter.take(rate, now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn id(number: usize) -> MachineId {
        MachineId::parse(&format!("m-{number}")).unwrap()
    }

    fn entries(rate_limits: &RateLimits) -> usize {
        let shards = rate_limits.shards.iter();
        shards.map(|shard| shard.lock().unwrap().meters.len()).sum()
    }

    #[test]
    fn each_machine_has_a_rate_of_its_own() {
        let (rate_limits, rate) = (RateLimits::new(), Rate::new(1).unwrap());
        assert_eq!(rate_limits.take(&id(1), rate, S), Ok(()));
        assert_eq!(rate_limits.take(&id(1), rate, S), Err(60));
        assert_eq!(rate_limits.take(&id(2), rate, S), Ok(()));
    }

    #[test]
    fn machines_that_have_fallen_silent_make_room() {
        let (rate_limits, rate) = (RateLimits::new(), Rate::new(60).unwrap());
        for number in 0..100_000 {
            // A second's share each: after a second it is idle.
            let now = S + Duration::from_millis(number as u64);
            assert_eq!(rate_limits.take(&id(number), rate, now), Ok(()));
        }
        assert!(
            entries(&rate_limits) <= SHARDS * SWEEP_FROM,
            "{}",
            entries(&rate_limits)
        );
    }

    #[test]
    fn no_machine_in_use_is_forgotten_however_many_there_are() {
        let (rate_limits, rate) = (RateLimits::new(), Rate::new(1).unwrap());
        for number in 0..20_000 {
            assert_eq!(rate_limits.take(&id(number), rate, S), Ok(()));
        }
        for number in 0..20_000 {
            assert_eq!(rate_limits.take(&id(number), rate, S), Err(60), "{number}");
        }
    }
}
