//! The marks of polls: in which state a machine last saw each secret that it watches.
//!
//! They are in memory alone. After a restart the first poll sets them anew, so a change that
//! happened meanwhile is not told; a deletion is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;

use super::client_answer::WatchState;
use super::kv_answer::SecretVersion;

/// How long the marks of a machine are kept after its last poll. The clients poll every 10 to 15
/// seconds; a machine that was off for a night begins anew.
const KEPT: Duration = Duration::from_secs(12 * 3600);

/// Bytes of all marks, about. At some 200 bytes a mark this is 160,000. Beyond it the marks of
/// machines that polled longest ago are forgotten.
const CAPACITY: u64 = 32 << 20;

/// Most marks of one machine, four times what one poll can watch: several programs of a machine
/// may watch different secrets. Beyond it, those of secrets that the last poll did not name are
/// forgotten.
const MOST_OF_MACHINE: usize = 4 * super::client_call::MOST_WATCHED;

/// The marks of all machines, by their public keys.
pub(crate) struct PollMarks(Cache<[u8; 32], Arc<MachineMarks>>);

/// The marks of one machine, by the place of the secret: upstream and target.
pub(crate) type MachineMarks = BTreeMap<String, Mark>;

/// What was known of some secrets before a poll.
pub(crate) struct MarksBefore(BTreeMap<String, Option<Mark>>);

/// The state of a secret at a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Version(SecretVersion),
    Deleted,
    Denied,
}

impl PollMarks {
    pub(crate) fn new() -> PollMarks {
        let weigh = |_: &[u8; 32], marks: &Arc<MachineMarks>| {
            let bytes: usize = marks.keys().map(|place| place.len() + 160).sum();
            u32::try_from(bytes + 128).unwrap_or(u32::MAX)
        };
        PollMarks(
            Cache::builder()
                .max_capacity(CAPACITY)
                .weigher(weigh)
                .time_to_idle(KEPT)
                .build(),
        )
    }

    /// The marks of a machine; none before its first poll.
    pub(crate) fn of(&self, machine: &[u8; 32]) -> Arc<MachineMarks> {
        self.0.get(machine).unwrap_or_default()
    }

    /// Sets what a poll has seen. Gives what was known of these secrets, for
    /// [`PollMarks::restore`].
    pub(crate) fn set(&self, machine: [u8; 32], seen: MachineMarks) -> MarksBefore {
        let known = self.of(&machine);
        let before = seen
            .keys()
            .map(|place| (place.clone(), known.get(place).cloned()));
        let before = MarksBefore(before.collect());
        self.update(machine, |known| merged(known, seen));
        before
    }

    /// Takes a poll back whose answer did not reach the machine.
    pub(crate) fn restore(&self, machine: [u8; 32], before: &MarksBefore) {
        self.update(machine, |known| {
            let mut marks = known.cloned().unwrap_or_default();
            for (place, mark) in &before.0 {
                match mark {
                    Some(mark) => marks.insert(place.clone(), mark.clone()),
                    None => marks.remove(place),
                };
            }
            marks
        });
    }

    fn update(
        &self,
        machine: [u8; 32],
        change: impl FnOnce(Option<&MachineMarks>) -> MachineMarks,
    ) {
        self.0.entry(machine).and_compute_with(|known| {
            let known = known.map(|entry| entry.into_value());
            Op::Put(Arc::new(change(known.as_deref())))
        });
    }
}

/// The marks known before, with those that were seen now in their place.
fn merged(known: Option<&MachineMarks>, seen: MachineMarks) -> MachineMarks {
    let room = MOST_OF_MACHINE.saturating_sub(seen.len());
    let others = known.into_iter().flatten();
    let others = others.filter(|(place, _)| !seen.contains_key(*place));
    let others: Vec<_> = (others.take(room))
        .map(|(place, mark)| (place.clone(), mark.clone()))
        .collect();
    let mut all = seen;
    all.extend(others);
    all
}

impl Mark {
    /// What to tell of a secret in this state, that was in the state `before`. The first poll tells
    /// of no change. It tells that a secret is gone or denied: the client waits for it in vain.
    /// Both are told once, or the command line would restart its program at each poll.
    pub(crate) fn since(&self, before: Option<&Mark>) -> Option<WatchState> {
        match (self, before) {
            (_, Some(before)) if before == self => None,
            (Mark::Version(_), None) => None,
            (Mark::Version(_), Some(_)) => Some(WatchState::Changed),
            (Mark::Deleted, _) => Some(WatchState::Deleted),
            (Mark::Denied, _) => Some(WatchState::AccessDenied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, created: &str) -> Mark {
        Mark::Version(SecretVersion {
            number,
            created: created.to_owned(),
            deleted: String::new(),
            is_destroyed: false,
        })
    }

    fn marks(list: &[(&str, Mark)]) -> MachineMarks {
        let owned = |(place, mark): &(&str, Mark)| ((*place).to_owned(), mark.clone());
        list.iter().map(owned).collect()
    }

    #[test]
    fn the_first_poll_sets_the_mark_and_tells_of_no_change() {
        assert_eq!(version(3, "a").since(None), None);
    }

    #[test]
    fn a_change_is_told_once() {
        let (old, new) = (version(1, "a"), version(2, "b"));
        assert_eq!(new.since(Some(&old)), Some(WatchState::Changed));
        assert_eq!(new.since(Some(&new)), None);
    }

    #[test]
    fn a_secret_that_was_made_anew_has_changed_although_its_number_is_the_same() {
        assert_eq!(
            version(1, "b").since(Some(&version(1, "a"))),
            Some(WatchState::Changed)
        );
    }

    #[test]
    fn a_deletion_and_a_denial_are_told_once_and_at_the_first_poll_too() {
        for (mark, told) in [
            (Mark::Deleted, WatchState::Deleted),
            (Mark::Denied, WatchState::AccessDenied),
        ] {
            assert_eq!(mark.since(None), Some(told));
            assert_eq!(mark.since(Some(&version(1, "a"))), Some(told));
            assert_eq!(mark.since(Some(&mark)), None);
        }
    }

    #[test]
    fn a_secret_that_comes_back_has_changed() {
        assert_eq!(
            version(2, "a").since(Some(&Mark::Deleted)),
            Some(WatchState::Changed)
        );
        assert_eq!(
            version(1, "a").since(Some(&Mark::Denied)),
            Some(WatchState::Changed)
        );
    }

    #[test]
    fn each_machine_has_its_own_marks() {
        let all = PollMarks::new();
        all.set([1; 32], marks(&[("a", version(1, "a"))]));
        assert_eq!(all.of(&[1; 32]).len(), 1);
        assert!(all.of(&[2; 32]).is_empty());
    }

    #[test]
    fn the_marks_of_two_programs_of_a_machine_stand_beside_one_another() {
        let all = PollMarks::new();
        all.set([1; 32], marks(&[("a", version(1, "a"))]));
        all.set(
            [1; 32],
            marks(&[("b", Mark::Deleted), ("a", version(2, "b"))]),
        );
        let expected = marks(&[("a", version(2, "b")), ("b", Mark::Deleted)]);
        assert_eq!(*all.of(&[1; 32]), expected);
    }

    #[test]
    fn a_poll_that_is_taken_back_was_never_there() {
        let all = PollMarks::new();
        all.set(
            [1; 32],
            marks(&[("a", version(1, "a")), ("c", Mark::Denied)]),
        );
        let lost = marks(&[("a", version(2, "b")), ("b", Mark::Deleted)]);
        let before = all.set([1; 32], lost);
        all.restore([1; 32], &before);
        let expected = marks(&[("a", version(1, "a")), ("c", Mark::Denied)]);
        assert_eq!(*all.of(&[1; 32]), expected);
    }

    #[test]
    fn the_marks_of_a_machine_are_bounded_and_the_last_poll_is_never_forgotten() {
        let all = PollMarks::new();
        for poll in 0..10 {
            let names = (0..200).map(|number| (format!("{poll}-{number}"), Mark::Deleted));
            all.set([1; 32], names.collect());
            let known = all.of(&[1; 32]);
            assert!(known.len() <= MOST_OF_MACHINE);
            assert!((0..200).all(|number| known.contains_key(&format!("{poll}-{number}"))));
        }
        assert_eq!(all.of(&[1; 32]).len(), MOST_OF_MACHINE);
    }
}
