//! The validity period of a machine's key.

/// A validity period in Unix seconds. Both ends are inclusive, and each may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    first: u64,
    last: u64,
}

impl Validity {
    /// The period that is open at both ends.
    pub const ALWAYS: Validity = Validity {
        first: 0,
        last: u64::MAX,
    };

    /// The period from `not_before` to `not_after`; a missing end is open. `None` if `not_after` is
    /// earlier than `not_before`.
    pub fn new(not_before: Option<u64>, not_after: Option<u64>) -> Option<Validity> {
        let first = not_before.unwrap_or(0);
        let last = not_after.unwrap_or(u64::MAX);
        (first <= last).then_some(Validity { first, last })
    }

    /// Whether the period contains the second `now`.
    pub const fn holds(self, now: u64) -> bool {
        self.first <= now && now <= self.last
    }

    /// The first second; `None` if the beginning is open.
    pub fn not_before(self) -> Option<u64> {
        (self.first > 0).then_some(self.first)
    }

    /// The last second; `None` if the end is open.
    pub fn not_after(self) -> Option<u64> {
        (self.last < u64::MAX).then_some(self.last)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_included_and_their_neighbours_are_not() {
        let validity = Validity::new(Some(10), Some(20)).unwrap();
        let held: Vec<u64> = (0..30).filter(|now| validity.holds(*now)).collect();
        assert_eq!(held, (10..=20).collect::<Vec<_>>());
    }

    #[test]
    fn an_open_end_has_no_end() {
        assert!(Validity::ALWAYS.holds(0) && Validity::ALWAYS.holds(u64::MAX));
        assert!(Validity::new(None, Some(5)).unwrap().holds(0));
        assert!(Validity::new(Some(5), None).unwrap().holds(u64::MAX));
    }

    #[test]
    fn one_second_is_a_stretch_and_less_is_none() {
        assert!(Validity::new(Some(5), Some(5)).is_some());
        assert_eq!(Validity::new(Some(6), Some(5)), None);
    }

    #[test]
    fn it_tells_the_ends_that_it_was_given() {
        let both = Validity::new(Some(1), Some(2)).unwrap();
        assert_eq!((both.not_before(), both.not_after()), (Some(1), Some(2)));
        let open = Validity::ALWAYS;
        assert_eq!((open.not_before(), open.not_after()), (None, None));
    }
}
