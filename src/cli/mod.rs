//! The command line: one file a command.

pub mod keygen;
pub mod machine;

use std::fmt;

/// Why a command ended without success, with the text for the person who ran it.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The operation failed; exit code 1.
    Operation(String),
    /// The command was called wrongly; exit code 64 (`EX_USAGE`).
    Usage(String),
    /// The configuration or the registry is wrong; exit code 78 (`EX_CONFIG`).
    Configuration(String),
}

impl Failure {
    /// The process exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Failure::Operation(_) => 1,
            Failure::Usage(_) => 64,
            Failure::Configuration(_) => 78,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Operation(text) | Failure::Usage(text) | Failure::Configuration(text) => {
                f.write_str(text)
            }
        }
    }
}
