//! Enrolment: the use of a token or a JWT, and the machine, in one transaction.

use super::change_log::{Author, Revision};
use super::connect::{Database, not_yet};
use super::write_error::EnrolError;
use crate::registry::checked_entry::CheckedEntry;

/// The right to add one machine. The transaction uses it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A stored token, by its id.
    Token {
        /// [`StoredToken::id`](super::tokens::StoredToken::id).
        id: String,
    },
    /// A JWT that its joiner has verified. It counts once.
    Jwt {
        /// The SHA-256 of its header and payload.
        digest: [u8; 32],
        /// Its `exp`, in Unix seconds; it is remembered until then.
        expires: u64,
    },
}

impl Database {
    /// Adds one machine, and counts the use of its admission. At most `max_uses` machines ever enrol
    /// with one token, at however many gateways.
    ///
    /// # Errors
    ///
    /// [`EnrolError::Refused`] if the token is not stored, expired by [`Author::at`], revoked or
    /// used up, or the JWT was used before. [`EnrolError::Write`] as [`Database::add`]. No use is
    /// counted then.
    pub async fn enrol(
        &self,
        _admission: &Admission,
        _entry: &CheckedEntry,
        _author: &Author,
    ) -> Result<Revision, EnrolError> {
        Ok(not_yet()?)
    }
}
