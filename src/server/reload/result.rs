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
    /// One line or more for each kind of file.
    pub(crate) lines: Vec<String>,
    /// Whether the current content of every file is in force.
    pub(crate) is_good: bool,
}

/// The result for one kind of file as text; `Ok(None)` if there is nothing to report.
pub(super) type ReloadResult = Result<Option<String>, ReloadFailure>;

/// The reason why the current content of a kind of file is not in force.
#[derive(Debug)]
pub(super) struct ReloadFailure {
    pub(super) text: String,
    /// A file could not be read: the next attempt may succeed.
    pub(super) may_pass: bool,
}

/// The mistakes in several files of one kind.
#[derive(Debug, Default)]
pub(super) struct FileMistakes {
    pub(super) lines: Vec<String>,
    may_pass: bool,
}

impl Trigger {
    /// Whether an operator asked for the reload, and so gets a result even if nothing changed.
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
