//! Enrolment tokens. Only their hash is stored.

use serde_json::Value;

use super::change_log::Author;
use super::connect::{Database, not_yet};
use super::write_error::WriteError;

/// A token to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    /// Its id, which is no secret.
    pub id: String,
    /// The SHA-256 of the token.
    pub sha256: [u8; 32],
    /// How many machines it may enrol.
    pub max_uses: u32,
    /// First Unix second after its validity.
    pub expires: u64,
    /// The terms of the enrolment; nothing here reads them.
    pub terms: Value,
}

/// A token as it is stored, without its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredToken {
    /// Its id.
    pub id: String,
    /// How many machines it may enrol.
    pub max_uses: u32,
    /// How many it has enrolled.
    pub uses: u32,
    /// First Unix second after its validity.
    pub expires: u64,
    /// The terms of the enrolment.
    pub terms: Value,
    /// Who made it: [`Author::by`].
    pub by: String,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// When it was revoked, in Unix seconds.
    pub revoked: Option<u64>,
}

impl Database {
    /// Stores a token.
    ///
    /// # Errors
    ///
    /// [`WriteError::Exists`] if the id or the hash is taken; [`WriteError::Unavailable`].
    pub async fn create_token(
        &self,
        _token: &NewToken,
        _author: &Author,
    ) -> Result<(), WriteError> {
        not_yet()
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, WriteError> {
        not_yet()
    }

    /// The token with this hash.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn token(&self, _sha256: &[u8; 32]) -> Result<Option<StoredToken>, WriteError> {
        not_yet()
    }

    /// Revokes a token. `false` if there is none with this id; a second time changes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unavailable`].
    pub async fn revoke_token(&self, _id: &str, _author: &Author) -> Result<bool, WriteError> {
        not_yet()
    }
}
