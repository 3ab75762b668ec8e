//! Whether a request's record should wait for those of others, so that one write takes them all.
//!
//! Requests that are ready at once are judged one after another on the same thread. A record that is
//! written as soon as it is made is written alone; one that lets the others run first finds theirs
//! beside it. Where nobody else comes this costs a look at the sockets, so it is done while it pays,
//! and tried now and then while it does not.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Of so many records that are written at once, one tries whether others come.
const TRIES: u32 = 16;

/// What the last writes held.
#[derive(Debug, Default)]
pub(super) struct Company {
    came: AtomicBool,
    alone: AtomicU32,
}

impl Company {
    /// Whether others are likely to come, or it is time to find out.
    pub(super) fn is_expected(&self) -> bool {
        let is_due = || self.alone.fetch_add(1, Ordering::Relaxed) % TRIES == TRIES - 1;
        self.came.load(Ordering::Relaxed) || is_due()
    }

    /// A write holds so many records that requests wait for.
    pub(super) fn came(&self, records: usize) {
        self.came.store(records > 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many records, how many wait for others.
    fn waiting(company: &Company, records: u32) -> usize {
        (0..records).filter(|_| company.is_expected()).count()
    }

    #[test]
    fn of_records_that_are_written_alone_one_now_and_then_waits() {
        let company = Company::default();
        assert_eq!(waiting(&company, 4 * TRIES), 4);
    }

    #[test]
    fn while_others_come_every_record_waits() {
        let company = Company::default();
        company.came(2);
        assert_eq!(waiting(&company, 100), 100);
    }

    #[test]
    fn a_record_that_stayed_alone_ends_the_waiting() {
        let company = Company::default();
        company.came(2);
        company.came(1);
        assert_eq!(waiting(&company, TRIES), 1);
    }
}
