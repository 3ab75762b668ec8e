//! A new enrolment token: what its holder gets, and what the registry stores.

use serde_json::Value;
use zeroize::Zeroizing;

use super::token_terms::TokenTerms;
use crate::registry::database::NewToken;
use countersign_core::enrolment::EnrolmentToken;

/// A token that has just been made. It is shown once, and only its digest is stored.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token itself.
    pub token: EnrolmentToken,
    /// Its row in the database.
    pub stored: NewToken,
}

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl IssuedToken {
    /// Makes a token with these terms, at `now` in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn create(terms: &TokenTerms, now: u64) -> Result<IssuedToken, NoRandomness> {
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut random[..]).map_err(|_| NoRandomness)?;
        let token = EnrolmentToken::from_bytes(&random);
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|_| NoRandomness)?;
        let stored = NewToken {
            id: format!("tok_{:016x}", u64::from_be_bytes(id)),
            sha256: *token.digest().as_bytes(),
            max_uses: terms.max_uses,
            expires: now.saturating_add(terms.expires_in),
            terms: terms.to_json(),
        };
        Ok(IssuedToken { token, stored })
    }

    /// Reads the terms in the body of the call that creates a token.
    ///
    /// # Errors
    ///
    /// Every mistake, one text each.
    pub fn terms_of(body: &[u8]) -> Result<TokenTerms, Vec<String>> {
        let value: Value =
            serde_json::from_slice(body).map_err(|_| vec!["The body is not JSON.".to_owned()])?;
        TokenTerms::parse(&value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_its_row_belong_together_and_the_row_does_not_show_it() {
        let body = br#"{"name":"n","vault":"v","max_uses":3,"expires_in":"1h"}"#;
        let terms = IssuedToken::terms_of(body).unwrap();
        let issued = IssuedToken::create(&terms, 1000).unwrap();
        assert_eq!(issued.stored.sha256, *issued.token.digest().as_bytes());
        assert_eq!((issued.stored.max_uses, issued.stored.expires), (3, 4600));
        assert!(!format!("{:?}", issued).contains(issued.token.reveal()));
        let other = IssuedToken::create(&terms, 1000).unwrap();
        assert_ne!(other.token.reveal(), issued.token.reveal());
        assert_ne!(other.stored.id, issued.stored.id);
    }
}
