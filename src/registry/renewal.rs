//! The renewal of a machine by itself: whether its entry lets a key ask for one, and until when the
//! machine and its keys are good then.

use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use super::checked_entry::CheckedEntry;
use super::entry::{Lists, Section};
use super::fields;
use super::ids::IdCase;
use crate::config::lifetime;
use crate::config::machine_terms::LIFETIMES;
use crate::yaml::{Node, Notes};
use countersign_core::identity::{MachineKey, PublicKey};
use countersign_core::refusal::Refusal;

/// How long the old keys stay good beside the new one, in seconds: requests that were signed before
/// the answer came, and other copies of the agent, still pass.
const OVERLAP: u64 = 3600;

/// The ends that a renewal sets, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalEnds {
    /// When the old keys end.
    pub others_end: u64,
    /// When the machine ends.
    pub expires: u64,
}

impl CheckedEntry {
    /// Checks whether the machine may act at `now`, in Unix seconds, with the key of a signature.
    /// It fails closed.
    ///
    /// # Errors
    ///
    /// The refusal of a request with this signature where this entry is in force.
    pub fn check_signer(&self, signer: &PublicKey, now: u64) -> Result<(), Refusal> {
        let value = Value::Object(self.fields().clone());
        let node = Node::deserialize(&value).map_err(|_| Refusal::BadSignature)?;
        let notes = Notes::new(Path::new(""));
        let lists = Lists::alone(&node, Section::Machines, &notes);
        let read = fields::read(&lists, None, IdCase::Exact);
        let mut claims = read.claims.iter();
        let claim = claims.find(|claim| claim.key == *signer.as_bytes());
        let key = claim.map(|claim| MachineKey {
            public: *signer,
            validity: claim.validity,
        });
        let key = key.ok_or(Refusal::BadSignature)?;
        let (machine, _) = read.machines.first().ok_or(Refusal::BadSignature)?;
        machine.may_act(&key, now)
    }

    /// The ends that a renewal at `now` sets, if the machine may renew itself.
    ///
    /// # Errors
    ///
    /// Why it may not, one text.
    pub fn renewal_ends(&self, now: u64) -> Result<RenewalEnds, Vec<String>> {
        if self.fields().get("may_renew") != Some(&Value::Bool(true)) {
            return Err(vec![
                "This machine may not renew itself: its entry has no `may_renew: true`.".to_owned(),
            ]);
        }
        let life = self.fields().get("expires_in").and_then(Value::as_str);
        let life = life.and_then(|text| lifetime(LIFETIMES)(text).ok());
        let life =
            life.ok_or_else(|| vec!["The machine's entry has no `expires_in`.".to_owned()])?;
        Ok(RenewalEnds {
            others_end: now.saturating_add(OVERLAP.min(life)),
            expires: now.saturating_add(life),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::key;
    use super::super::key_format;
    use super::*;
    use crate::config::instant;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn public(number: u64) -> PublicKey {
        PublicKey::from_bytes(&key_format::parse(&key(number)).unwrap()).unwrap()
    }

    /// What key 1 hears of a machine with these fields beside its id.
    fn heard(fields: &Value) -> Result<(), Refusal> {
        let mut entry = json!({"id": "a", "public_keys": [key(1)]});
        let fields = fields.as_object().unwrap().clone();
        entry.as_object_mut().unwrap().extend(fields);
        CheckedEntry::parse(&entry)
            .unwrap()
            .check_signer(&public(1), NOW)
    }

    #[test]
    fn a_signer_must_be_a_key_of_the_entry() {
        assert_eq!(heard(&json!({})), Ok(()));
        assert_eq!(heard(&json!({"public_keys": [key(2), key(1)]})), Ok(()));
        let other = json!({"public_keys": [key(2)]});
        assert_eq!(heard(&other), Err(Refusal::BadSignature));
    }

    #[test]
    fn a_signer_must_be_within_the_dates_of_the_machine_and_of_the_key() {
        let at = instant::to_text;
        let dated = |field: &str, at: String| json!({"public_keys": [{"key": key(1), field: at}]});
        for (fields, is_good) in [
            (json!({"expires": at(NOW + 1)}), true),
            (json!({"expires": at(NOW)}), false),
            (json!({"not_before": at(NOW)}), true),
            (json!({"not_before": at(NOW + 1)}), false),
            (dated("not_after", at(NOW + 2)), true),
            (dated("not_after", at(NOW - 1)), false),
            (dated("not_before", at(NOW)), true),
            (dated("not_before", at(NOW + 1)), false),
        ] {
            let expected = match is_good {
                true => Ok(()),
                false => Err(Refusal::MachineExpired),
            };
            assert_eq!(heard(&fields), expected, "{fields}");
        }
    }

    #[test]
    fn the_machine_of_a_signer_must_be_enabled() {
        let off = json!({"enabled": false});
        assert_eq!(heard(&off), Err(Refusal::MachineDisabled));
    }

    #[test]
    fn a_renewal_moves_the_end_by_the_life_and_keeps_old_keys_for_an_hour_at_most() {
        for (life, others_end, expires) in [("1d", 3600, 86_400), ("10m", 600, 600)] {
            let entry = json!({"id": "a", "public_keys": [key(1)], "may_renew": true,
                "expires_in": life});
            let ends = CheckedEntry::parse(&entry).unwrap().renewal_ends(NOW);
            let expected = RenewalEnds {
                others_end: NOW + others_end,
                expires: NOW + expires,
            };
            assert_eq!(ends, Ok(expected), "{life}");
        }
    }
}
