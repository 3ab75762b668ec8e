//! A token in its compact form (RFC 7515, section 7.1), before and after its signature is checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::claims::JwtClaims;
use super::jwk_set::IssuerKeys;
use super::object::JsonObject;
use super::provider;

/// Largest token, in bytes. Those of platforms have one or two kilobytes.
pub const MAX_JWT: usize = 12 * 1024;

/// The algorithms that are taken. `none` and every HMAC are not among them.
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("EdDSA", Algorithm::EdDSA),
    ("ES256", Algorithm::ES256),
    ("RS256", Algorithm::RS256),
];

/// Header parameters that change what the signature covers, or how the payload is read. The token
/// must then not be read as if they were absent (RFC 7515, section 4.1.11; RFC 7797).
const NOT_UNDERSTOOD: [&str; 4] = ["crit", "b64", "enc", "zip"];

/// The types of tokens about a subject (RFC 8725, section 3.11). A token of another type says
/// something else, such as that a session has ended.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Why a token is not believed. Nothing of the token is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtFault {
    /// It is no token in compact form, or its JSON is ambiguous.
    #[error("it is not a JSON Web Token")]
    Malformed,
    /// Its algorithm is none of those that are taken.
    #[error("its algorithm is not EdDSA, ES256 or RS256")]
    Algorithm,
    /// It has a header parameter that is not understood, or is of another type.
    #[error("its header asks for something that is not supported")]
    Header,
    /// No key of the issuer has its key id.
    #[error("the issuer has no key of its key id")]
    UnknownKey,
    /// No key of the issuer made its signature.
    #[error("its signature is wrong")]
    Signature,
}

/// A token whose signature has not been checked. Nothing that it says is to be believed.
pub struct Jwt<'a> {
    text: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
    unproved: JsonObject,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// [`JwtFault`] for everything but the three algorithms, three parts of base64url, and two JSON
    /// objects in which no key is there twice.
    pub fn parse(text: &'a str) -> Result<Jwt<'a>, JwtFault> {
        let parts: Vec<&str> = text.splitn(4, '.').collect();
        let [header, payload, _] = parts[..] else {
            return Err(JwtFault::Malformed);
        };
        if text.len() > MAX_JWT {
            return Err(JwtFault::Malformed);
        }
        let header = object(header)?;
        if NOT_UNDERSTOOD.iter().any(|name| header.get(name).is_some()) {
            return Err(JwtFault::Header);
        }
        match header.get("typ").map(Value::as_str) {
            None => {}
            Some(Some(kind)) if TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known)) => {}
            Some(_) => return Err(JwtFault::Header),
        }
        let algorithm = (header.get("alg").and_then(Value::as_str))
            .and_then(|name| ALGORITHMS.iter().find(|(known, _)| *known == name))
            .ok_or(JwtFault::Algorithm)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(JwtFault::Malformed),
        };
        Ok(Jwt {
            text,
            algorithm: algorithm.1,
            key_id,
            unproved: object(payload)?,
        })
    }

    /// The issuer that it names. Nobody has proved it: it only says which keys to try.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.unproved.get("iss").and_then(Value::as_str)
    }

    /// The id of its key.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Checks the signature with the keys of an issuer. The claims are not judged by it.
    ///
    /// # Errors
    ///
    /// [`JwtFault::UnknownKey`] if the token names a key that is not there, else
    /// [`JwtFault::Signature`]. It fails closed.
    pub fn verify(&self, keys: &IssuerKeys) -> Result<JwtClaims, JwtFault> {
        provider::install();
        let mut rules = Validation::new(self.algorithm);
        // The claims are judged by `JwtClaims`, at a time that is handed in.
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let mut fault = match self.key_id() {
            Some(id) if !keys.has(id) => JwtFault::UnknownKey,
            _ => JwtFault::Signature,
        };
        for candidate in keys.candidates(self.key_id(), self.algorithm) {
            fault = JwtFault::Signature;
            let decoded = jsonwebtoken::decode::<JsonObject>(self.text, &candidate.key, &rules);
            if let Ok(token) = decoded {
                return Ok(JwtClaims::new(token.claims, self.signed_digest()));
            }
        }
        Err(fault)
    }

    /// The SHA-256 of header and payload, by which the token is known again. An ECDSA signature has
    /// a twin that verifies too, so it is left out.
    fn signed_digest(&self) -> [u8; 32] {
        let signed = self
            .text
            .rsplit_once('.')
            .map_or(self.text, |(signed, _)| signed);
        Sha256::digest(signed).into()
    }
}

fn object(part: &str) -> Result<JsonObject, JwtFault> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtFault::Malformed)?;
    JsonObject::parse(&json).map_err(|_| JwtFault::Malformed)
}

impl std::fmt::Debug for Jwt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jwt({:?})", self.algorithm)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
