//! The last request of each machine, up to a number of machines. An id becomes a label only after a
//! signature of that machine has verified.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

use prometheus::{IntGauge, IntGaugeVec};

use super::declare::{Declare, gauge_value};
use countersign_core::identity::{Fingerprint, Machine};

/// Most machines with series of their own. Each takes some 200 bytes of every scrape; a fleet that
/// is larger is better looked at in the audit trail.
const LISTED: usize = 1000;

/// Seconds from which a machine's clock counts as off. It is half of what the `clock_skew`
/// histogram calls normal, so there is time to set the clock before requests are refused.
const OUTLIER: u64 = 10;

pub(super) struct MachineMetrics {
    last_used: IntGaugeVec,
    skew: IntGaugeVec,
    key_used: IntGaugeVec,
    known: RwLock<HashMap<String, MachineSeries>>,
}

struct MachineSeries {
    last_used: IntGauge,
    /// Of the last accepted request.
    last_skew: AtomicI64,
    is_off: AtomicBool,
    /// Of machines with several keys: those that they have used.
    keys: Vec<(Fingerprint, IntGauge)>,
}

/// Whether every machine that had an accepted request is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedUses {
    /// It is.
    Complete,
    /// The list is full: of a machine that is not in it nothing is known.
    Full,
}

/// The last accepted request of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// The id of the machine.
    pub id: String,
    /// When, in Unix seconds.
    pub at: u64,
    /// The gateway's clock minus the timestamp, in seconds.
    pub skew: i64,
}

impl LastUse {
    /// Whether the clock of the machine is off by ten seconds or more.
    pub fn is_off(&self) -> bool {
        self.skew.unsigned_abs() >= OUTLIER
    }
}

impl MachineMetrics {
    pub(super) fn declare(declare: &Declare) -> prometheus::Result<MachineMetrics> {
        Ok(MachineMetrics {
            last_used: declare.gauges(
                "machine_last_used_timestamp_seconds",
                "Unix time of a machine's last accepted request, of up to 1000 machines.",
                &["machine"],
            )?,
            skew: declare.gauges(
                "machine_skew_seconds",
                "The gateway's clock minus the timestamp of a machine's last accepted request, where that is 10 seconds or more, of the same machines.",
                &["machine"],
            )?,
            key_used: declare.gauges(
                "machine_key_last_used_timestamp_seconds",
                "Unix time of the last accepted request that was signed with this key, of the same machines, where they have several.",
                &["machine", "key"],
            )?,
            known: RwLock::default(),
        })
    }

    /// Notes an accepted request of a machine at `now` (Unix seconds), whose clock is behind the
    /// gateway's by `skew` seconds.
    pub(super) fn seen(&self, machine: &str, now: u64, skew: i64) {
        if self.note(machine, now, skew) {
            return;
        }
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= LISTED {
                return;
            }
            known
                .entry(machine.to_owned())
                .or_insert_with(|| MachineSeries {
                    last_used: self.last_used.with_label_values(&[machine]),
                    last_skew: AtomicI64::new(0),
                    is_off: AtomicBool::new(false),
                    keys: Vec::new(),
                });
        }
        self.note(machine, now, skew);
    }

    /// The fast path: one shared lock, one atomic write. `false` if the machine has no series yet.
    fn note(&self, machine: &str, now: u64, skew: i64) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get(machine) else {
            return false;
        };
        known.last_used.set(gauge_value(now));
        known.last_skew.store(skew, Ordering::Relaxed);
        let is_off = skew.unsigned_abs() >= OUTLIER;
        if is_off {
            self.skew.with_label_values(&[machine]).set(skew);
        }
        if known.is_off.swap(is_off, Ordering::Relaxed) && !is_off {
            let _ = self.skew.remove_label_values(&[machine]);
        }
        true
    }

    /// The last uses of the listed machines, in no order.
    pub(super) fn uses(&self) -> (Vec<LastUse>, ListedUses) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let of = |(id, series): (&String, &MachineSeries)| LastUse {
            id: id.clone(),
            at: u64::try_from(series.last_used.get()).unwrap_or(0),
            skew: series.last_skew.load(Ordering::Relaxed),
        };
        let listing = match known.len() < LISTED {
            true => ListedUses::Complete,
            false => ListedUses::Full,
        };
        (known.iter().map(of).collect(), listing)
    }

    /// Notes with which of its keys a machine with several has signed an accepted request. It has a
    /// series already, or there is no room for one.
    pub(super) fn key_used(&self, machine: &str, key: Fingerprint, now: u64) {
        let now = gauge_value(now);
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let Some(known) = known.get(machine) else {
                return;
            };
            let series = known.keys.iter().find(|(known, _)| *known == key);
            if let Some((_, series)) = series {
                return series.set(now);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(machine)
            && known.keys.len() < Machine::MAX_KEYS
            && known.keys.iter().all(|(known, _)| *known != key)
        {
            let series = (self.key_used).with_label_values(&[machine, &key.to_string()]);
            series.set(now);
            known.keys.push((key, series));
        }
    }

    /// Unix time of a machine's last accepted request, if it has a series.
    pub(super) fn last_used(&self, machine: &str) -> Option<u64> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(known.get(machine)?.last_used.get()).ok()
    }

    /// Takes away the series of the keys of a machine that has others now.
    pub(super) fn forget_keys(&self, machine: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(machine) {
            self.drop_keys(machine, known);
        }
    }

    /// Takes away the series of a machine that is gone.
    pub(super) fn forget(&self, machine: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut known) = known.remove(machine) {
            self.drop_keys(machine, &mut known);
            let _ = self.last_used.remove_label_values(&[machine]);
            let _ = self.skew.remove_label_values(&[machine]);
        }
    }

    fn drop_keys(&self, machine: &str, known: &mut MachineSeries) {
        for (key, _) in known.keys.drain(..) {
            let _ = (self.key_used).remove_label_values(&[machine, &key.to_string()]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn machines() -> (MachineMetrics, prometheus::Registry) {
        let declare = Declare::new();
        let machines = MachineMetrics::declare(&declare).unwrap();
        (machines, declare.into_registry())
    }

    fn page(registry: &prometheus::Registry) -> String {
        let encoder = prometheus::TextEncoder::new();
        encoder.encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn a_machine_has_a_series_from_its_first_accepted_request_on() {
        let (machines, registry) = machines();
        assert_eq!(page(&registry), "");
        machines.seen("web-1", NOW, 0);
        machines.seen("web-1", NOW + 1, 0);
        let series = "last_used_timestamp_seconds{machine=\"web-1\"} 1800000001";
        assert!(page(&registry).contains(series), "{}", page(&registry));
        assert_eq!(machines.last_used("web-1"), Some(NOW + 1));
        assert_eq!(machines.last_used("web-2"), None);
    }

    #[test]
    fn only_a_clock_that_is_off_is_shown_and_only_as_long_as_it_is() {
        let (machines, registry) = machines();
        machines.seen("web-1", NOW, 9);
        assert!(!page(&registry).contains("machine_skew_seconds{"));
        machines.seen("web-1", NOW, -12);
        assert!(page(&registry).contains("machine_skew_seconds{machine=\"web-1\"} -12"));
        machines.seen("web-1", NOW, 1);
        assert!(!page(&registry).contains("machine_skew_seconds{"));
    }

    #[test]
    fn there_are_so_many_and_no_more_until_one_is_gone() {
        let (machines, registry) = machines();
        for n in 0..=LISTED {
            machines.seen(&format!("m-{n}"), NOW, 60);
        }
        let count = |name: &str| page(&registry).matches(name).count();
        assert_eq!(count("timestamp_seconds{"), LISTED);
        machines.forget("m-0");
        assert_eq!(count("skew_seconds{"), LISTED - 1);
        machines.seen("late", NOW, 0);
        assert_eq!(count("{machine=\"late\"}"), 1);
    }

    #[test]
    fn the_uses_tell_when_and_by_how_much_each_clock_is_off_and_whether_the_list_is_full() {
        let (machines, _registry) = machines();
        machines.seen("web-1", NOW, -12);
        machines.seen("web-1", NOW + 5, 11);
        let (uses, listing) = machines.uses();
        let web = LastUse {
            id: "web-1".into(),
            at: NOW + 5,
            skew: 11,
        };
        assert!(web.is_off());
        assert_eq!((&uses[..], listing), (&[web][..], ListedUses::Complete));
        for n in 1..LISTED {
            machines.seen(&format!("m-{n}"), NOW, 0);
        }
        assert_eq!(machines.uses().1, ListedUses::Full);
    }

    fn fingerprint(seed: u8) -> Fingerprint {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
        let key = countersign_core::identity::PublicKey::from_bytes(key.as_bytes());
        key.unwrap().fingerprint()
    }

    #[test]
    fn a_key_has_a_series_from_its_first_use_until_the_machine_has_others() {
        let (machines, registry) = machines();
        machines.seen("web-1", NOW, 0);
        machines.key_used("web-1", fingerprint(1), NOW);
        machines.key_used("web-1", fingerprint(2), NOW);
        machines.key_used("web-1", fingerprint(2), NOW + 1);
        let count = || {
            page(&registry)
                .matches("machine_key_last_used_timestamp_seconds{")
                .count()
        };
        assert_eq!(count(), 2);
        let series = format!("key=\"{}\",machine=\"web-1\"}} 1800000001", fingerprint(2));
        assert!(page(&registry).contains(&series), "{}", page(&registry));
        machines.forget_keys("web-1");
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_machine_without_a_series_gets_none_for_its_keys() {
        let (machines, registry) = machines();
        machines.key_used("web-1", fingerprint(1), NOW);
        assert_eq!(page(&registry), "");
    }

    #[test]
    fn keys_have_as_many_series_as_a_machine_may_have_keys() {
        let (machines, registry) = machines();
        machines.seen("web-1", NOW, 0);
        for seed in 0..20 {
            machines.key_used("web-1", fingerprint(seed), NOW);
        }
        let count = page(&registry)
            .matches("machine_key_last_used_timestamp_seconds{")
            .count();
        assert_eq!(count, Machine::MAX_KEYS);
        machines.forget("web-1");
        assert!(!page(&registry).contains("web-1"));
    }
}
