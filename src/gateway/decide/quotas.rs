//! Rate limits: the requests that each machine has made within its rate. Time is an argument. A
//! reload of the registry keeps the counts.
//!
//! Each machine with a rate and a request in the last minute has an entry, and at most as many idle
//! machines have one. Only verified machines of the registry get an entry, so an attacker cannot
//! fill the table. An entry takes forty bytes and those of the id.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_core::identity::MachineId;
use countersign_core::policy::rate::{Meter, Rate};

/// So many parts, each with a lock of its own: requests of different machines seldom meet.
const SHARDS: usize = 16;

/// Entries of a part from which on those that nothing depends on are looked for.
const WORTH_A_SWEEP: usize = 256;

#[derive(Debug)]
pub(crate) struct Quotas {
    shards: [Mutex<QuotaShard>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct QuotaShard {
    meters: HashMap<MachineId, Meter>,
    /// Number of entries at which the idle ones are removed. It is then set to twice the remaining
    /// number, so that the search costs each new entry no more than its insertion.
    sweep_at: usize,
}

impl Quotas {
    pub(crate) fn new() -> Quotas {
        Quotas {
            shards: std::array::from_fn(|_| {
                Mutex::new(QuotaShard {
                    meters: HashMap::new(),
                    sweep_at: WORTH_A_SWEEP,
                })
            }),
            hasher: RandomState::new(),
        }
    }

    /// Takes one request from what a machine may make; `now` is on the monotonic clock.
    ///
    /// # Errors
    ///
    /// Beyond the rate: the seconds after which there is room again.
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
            shard.sweep_at = (2 * shard.meters.len()).max(WORTH_A_SWEEP);
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

    fn entries(quotas: &Quotas) -> usize {
        let shards = quotas.shards.iter();
        shards.map(|shard| shard.lock().unwrap().meters.len()).sum()
    }

    #[test]
    fn each_machine_has_a_quota_of_its_own() {
        let (quotas, rate) = (Quotas::new(), Rate::new(1).unwrap());
        assert_eq!(quotas.take(&id(1), rate, S), Ok(()));
        assert_eq!(quotas.take(&id(1), rate, S), Err(60));
        assert_eq!(quotas.take(&id(2), rate, S), Ok(()));
    }

    #[test]
    fn machines_that_have_fallen_silent_make_room() {
        let (quotas, rate) = (Quotas::new(), Rate::new(60).unwrap());
        for number in 0..100_000 {
            // A second's share each: after a second it is idle.
            let now = S + Duration::from_millis(number as u64);
            assert_eq!(quotas.take(&id(number), rate, now), Ok(()));
        }
        assert!(
            entries(&quotas) <= SHARDS * WORTH_A_SWEEP,
            "{}",
            entries(&quotas)
        );
    }

    #[test]
    fn no_machine_in_use_is_forgotten_however_many_there_are() {
        let (quotas, rate) = (Quotas::new(), Rate::new(1).unwrap());
        for number in 0..20_000 {
            assert_eq!(quotas.take(&id(number), rate, S), Ok(()));
        }
        for number in 0..20_000 {
            assert_eq!(quotas.take(&id(number), rate, S), Err(60), "{number}");
        }
    }
}
