//! Why a command failed, and the exit code that says so.

use std::fmt;

/// Why a command ended without success, with the text for the person who ran it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandError {
    /// The operation failed; exit code 1.
    Operation(String),
    /// The command was called wrongly; exit code 64 (`EX_USAGE`).
    Usage(String),
    /// A file that the command needs has a mistake: the configuration, the registry, a key or a
    /// certificate; exit code 78 (`EX_CONFIG`).
    Configuration(String),
}

impl CommandError {
    /// The process exit code.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            CommandError::Operation(_) => 1,
            CommandError::Usage(_) => EX_USAGE,
            CommandError::Configuration(_) => 78,
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Operation(text)
            | CommandError::Usage(text)
            | CommandError::Configuration(text) => f.write_str(text),
        }
    }
}

/// `sysexits.h`: the command was used wrongly.
pub(super) const EX_USAGE: u8 = 64;
