//! What was last heard of each machine, as far as there is room: an id becomes a label only once a
//! signature of that machine has verified, and of so many machines only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use prometheus::{IntGauge, IntGaugeVec};

use super::declare::Declare;

/// Most machines with series of their own. Each takes some 200 bytes of every scrape; a fleet that
/// is larger is better looked at in the audit trail.
const LISTED: usize = 1000;

/// From so many seconds on, a machine's clock is off: half of what `clock_skew` histograms call
/// normal, and far enough inside of any window to be put right before requests are refused.
const OUTLIER: u64 = 10;

pub(super) struct Machines {
    last_used: IntGaugeVec,
    skew: IntGaugeVec,
    known: RwLock<HashMap<String, Known>>,
}

struct Known {
    last_used: IntGauge,
    is_off: AtomicBool,
}

impl Machines {
    pub(super) fn declare(declare: &Declare) -> prometheus::Result<Machines> {
        Ok(Machines {
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
            known.entry(machine.to_owned()).or_insert_with(|| Known {
                last_used: self.last_used.with_label_values(&[machine]),
                is_off: AtomicBool::new(false),
            });
        }
        self.note(machine, now, skew);
    }

    /// The way of nearly all requests: one shared lock, one atomic write. `false` if the machine
    /// has no series yet.
    fn note(&self, machine: &str, now: u64, skew: i64) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get(machine) else {
            return false;
        };
        known.last_used.set(i64::try_from(now).unwrap_or(i64::MAX));
        let is_off = skew.unsigned_abs() >= OUTLIER;
        if is_off {
            self.skew.with_label_values(&[machine]).set(skew);
        }
        if known.is_off.swap(is_off, Ordering::Relaxed) && !is_off {
            let _ = self.skew.remove_label_values(&[machine]);
        }
        true
    }

    /// Takes away the series of a machine that is gone.
    pub(super) fn forget(&self, machine: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.remove(machine).is_some() {
            let _ = self.last_used.remove_label_values(&[machine]);
            let _ = self.skew.remove_label_values(&[machine]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn machines() -> (Machines, prometheus::Registry) {
        let declare = Declare::new();
        let machines = Machines::declare(&declare).unwrap();
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
}
