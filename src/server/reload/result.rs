//! The trigger of a reload, and its result.

/// The trigger of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The start: a file may have been written between its first load and the start of its watch.
    Start,
    /// A file changed.
    Change,
    /// SIGHUP.
    Hangup,
    /// An order to the admin listener.
    Order,
}

/// The result of reading everything again.
#[derive(Debug)]
pub(crate) struct ReloadOutcome {
    /// A line or more for each part.
    pub(crate) lines: Vec<String>,
    /// Every part is in force as its files are.
    pub(crate) is_good: bool,
}

/// The result for one kind of files, in words; `Ok(None)` where there is nothing to say.
pub(super) type ReloadResult = Result<Option<String>, ReloadFailure>;

/// Why a kind of files is not in force as the files are.
#[derive(Debug)]
pub(super) struct ReloadFailure {
    pub(super) text: String,
    /// A file could not be read: the next attempt may succeed.
    pub(super) may_pass: bool,
}

/// The mistakes in several files of a kind.
#[derive(Debug, Default)]
pub(super) struct FileMistakes {
    pub(super) lines: Vec<String>,
    may_pass: bool,
}

impl Trigger {
    /// Whether an operator asked for the reload, and so hears of it also where nothing changed.
    pub(super) fn is_asked(self) -> bool {
        matches!(self, Trigger::Hangup | Trigger::Order)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Trigger::Start => "the file changed during the start",
            Trigger::Change => "the file changed",
            Trigger::Hangup => "SIGHUP",
            Trigger::Order => "reload",
        }
    }
}

impl FileMistakes {
    pub(super) fn add(&mut self, line: String, may_pass: bool) {
        self.lines.push(line);
        self.may_pass |= may_pass;
    }

    /// # Errors
    ///
    /// The mistakes, if there are any.
    pub(super) fn conclude(self) -> Result<(), ReloadFailure> {
        match self.lines.is_empty() {
            true => Ok(()),
            false => Err(ReloadFailure {
                text: self.lines.join("\n"),
                may_pass: self.may_pass,
            }),
        }
    }
}
