//! Why a change was not made.

use countersign_core::refusal::Refusal;

/// Why a call on the database failed. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The content is refused; one text a mistake.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// There is no machine with this id.
    #[error("there is no such machine")]
    NoMachine,
    /// An id or a key is taken, by a machine or by a tombstone; the text says which.
    #[error("{0}")]
    Exists(String),
    /// The key that signed the call may not act for the machine any more.
    #[error("the key that signed the call may not act for the machine")]
    Refused(Refusal),
    /// The database cannot be reached, or refused the call. The change was not made, unless the
    /// text says that this is not known.
    #[error("{0}")]
    Unavailable(String),
}

/// Why an enrolment was not made. Nothing was counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// The token is unknown, used up, expired or revoked, or the JWT was used before.
    #[error("the admission is not valid")]
    Refused,
    /// The machine cannot be added.
    #[error(transparent)]
    Write(#[from] WriteError),
}
