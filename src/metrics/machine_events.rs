//! Events of machines: their enrolments, and their keys.

use super::Metrics;
use super::enrolments::EnrolmentResult;
use countersign_core::identity::{Fingerprint, MachineId};

impl Metrics {
    /// Counts an enrolment.
    pub fn enrolment(&self, result: EnrolmentResult) {
        self.enrolments.count(result);
    }

    /// Notes the key of an accepted request, for a machine with several keys.
    pub fn key_used(&self, machine: &MachineId, key: Fingerprint, now: u64) {
        self.machines.key_used(machine.as_str(), key, now);
    }

    /// Unix time of a machine's last accepted request here, if it has a series.
    pub fn machine_last_used(&self, machine: &MachineId) -> Option<u64> {
        self.machines.last_used(machine.as_str())
    }

    /// Removes the series of the keys of a machine whose keys have changed.
    pub fn machine_keys_changed(&self, machine: &MachineId) {
        self.machines.forget_keys(machine.as_str());
    }

    /// Removes the series of a machine that has left the registry.
    pub fn machine_removed(&self, machine: &MachineId) {
        self.machines.forget(machine.as_str());
    }
}
