//! The last attempt to load each kind of file, for the status page.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::result::{ReloadResult, Trigger};
use crate::metrics::Files;

/// Most lines that are kept of an attempt: a registry may have a mistake in each entry.
const MOST_LINES: usize = 20;

/// The attempts.
#[derive(Default)]
pub(super) struct ReloadHistory {
    last: Mutex<[Option<LastReload>; Files::ALL.len()]>,
    /// Whether the file system of each kind does not answer.
    stuck: [AtomicBool; Files::ALL.len()],
}

/// The last attempt to load one kind of file that changed something or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastReload {
    pub(crate) files: Files,
    /// When it ended, in Unix seconds. Of a failure that repeats: the first time.
    pub(crate) at: u64,
    /// Why the files were read.
    pub(crate) trigger: &'static str,
    /// Whether the current content of the files is in force.
    pub(crate) is_good: bool,
    /// The result, or the mistakes, one a line.
    pub(crate) lines: Vec<String>,
    /// How many more lines there were.
    pub(crate) more: usize,
}

impl ReloadHistory {
    /// Notes an attempt that ended at `now`, in Unix seconds.
    pub(super) fn note(&self, files: Files, trigger: Trigger, result: &ReloadResult, now: u64) {
        let mut last = self.last();
        let known = &mut last[files as usize];
        let (is_good, text) = match result {
            Ok(Some(text)) => (true, &**text),
            // Nothing to report, unless it ends a failure.
            Ok(None) => match known {
                Some(known) if known.is_good => return,
                Some(_) => (true, "the files can be read again, and are in force"),
                None => (true, "as at the start"),
            },
            Err(failure) => (false, &*failure.text),
        };
        let all = text.lines().count();
        let new = LastReload {
            files,
            at: now,
            trigger: trigger.as_str(),
            is_good,
            lines: text.lines().take(MOST_LINES).map(str::to_owned).collect(),
            more: all.saturating_sub(MOST_LINES),
        };
        match known {
            Some(known) if !is_good && known.lines == new.lines => {}
            known => *known = Some(new),
        }
    }

    /// Sets whether the file system of these files does not answer.
    pub(super) fn set_stuck(&self, files: Files, is_stuck: bool) {
        self.stuck[files as usize].store(is_stuck, Ordering::Relaxed);
    }

    /// The last attempts, in the order of [`Files::ALL`].
    pub(super) fn all(&self) -> Vec<LastReload> {
        self.last().iter().flatten().cloned().collect()
    }

    /// The kinds of files whose file system does not answer.
    pub(super) fn stuck(&self) -> Vec<Files> {
        let is_stuck = |files: &Files| self.stuck[*files as usize].load(Ordering::Relaxed);
        Files::ALL.into_iter().filter(is_stuck).collect()
    }

    fn last(&self) -> MutexGuard<'_, [Option<LastReload>; Files::ALL.len()]> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::result::ReloadFailure;
    use super::*;

    fn failed(text: &str) -> ReloadResult {
        Err(ReloadFailure {
            text: text.to_owned(),
            may_pass: false,
        })
    }

    fn last(history: &ReloadHistory) -> LastReload {
        history.all().pop().unwrap()
    }

    #[test]
    fn a_failure_stays_until_the_files_are_in_force_again_and_keeps_its_first_time() {
        let history = ReloadHistory::default();
        history.note(Files::Registry, Trigger::Change, &failed("a\nb"), 10);
        history.note(Files::Registry, Trigger::Change, &failed("a\nb"), 20);
        let first = last(&history);
        assert_eq!((first.at, first.is_good, first.lines.len()), (10, false, 2));
        history.note(Files::Registry, Trigger::Change, &Ok(None), 30);
        assert_eq!((last(&history).at, last(&history).is_good), (30, true));
    }

    #[test]
    fn an_attempt_that_changed_nothing_does_not_hide_the_one_before() {
        let history = ReloadHistory::default();
        history.note(Files::Tls, Trigger::Order, &Ok(Some("loaded".into())), 10);
        history.note(Files::Tls, Trigger::Change, &Ok(None), 20);
        assert_eq!((last(&history).at, last(&history).trigger), (10, "reload"));
    }

    #[test]
    fn a_thousand_mistakes_are_twenty_lines_and_a_number() {
        let history = ReloadHistory::default();
        let text = vec!["a mistake"; 1000].join("\n");
        history.note(Files::Registry, Trigger::Change, &failed(&text), 10);
        assert_eq!((last(&history).lines.len(), last(&history).more), (20, 980));
    }
}
