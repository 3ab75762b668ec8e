//! The public keys of an issuer: a JWK set (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use super::object::JsonObject;

/// Largest JWK set, in bytes; issuers have some kilobytes.
pub const MAX_KEY_SET: usize = 256 * 1024;

/// Most keys of a set: those of a rotation, many times over. A token without a key id is tried with
/// every key of its algorithm.
const MAX_KEYS: usize = 64;

/// The keys of an issuer that can verify its tokens; at least one.
#[derive(PartialEq)]
pub struct IssuerKeys(Vec<IssuerKey>);

/// A public key, with the one algorithm that it is for.
pub(super) struct IssuerKey {
    id: Option<String>,
    algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// As it was read.
    jwk: Value,
}

impl PartialEq for IssuerKey {
    fn eq(&self, other: &IssuerKey) -> bool {
        self.jwk == other.jwk
    }
}

impl IssuerKeys {
    /// Parses a set. Keys of other kinds and for other purposes are left out: issuers publish them
    /// side by side.
    ///
    /// # Errors
    ///
    /// The bytes are no JWK set, it has too many keys, or none is usable here. It fails closed.
    pub fn parse(bytes: &[u8]) -> Result<IssuerKeys, String> {
        let set = JsonObject::parse(bytes).map_err(|why| why.to_string())?;
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err("is not a JWK set: it has no list `keys`".to_owned());
        };
        if keys.len() > MAX_KEYS {
            return Err(format!(
                "has {} keys; at most {MAX_KEYS} are read",
                keys.len()
            ));
        }
        let keys: Vec<IssuerKey> = keys.iter().filter_map(IssuerKey::of).collect();
        match keys.is_empty() {
            true => Err(
                "has no key for EdDSA (Ed25519), ES256 (P-256) or RS256 (RSA of 2048 to \
                         8192 bits)"
                    .to_owned(),
            ),
            false => Ok(IssuerKeys(keys)),
        }
    }

    /// The keys that may have signed a token with this key id and algorithm. A token without a key
    /// id may be of any key of the algorithm.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &IssuerKey> {
        let is_named = move |key: &IssuerKey| id.is_none() || key.id.as_deref() == id;
        let keys = self.0.iter();
        keys.filter(move |key| key.algorithm == algorithm && is_named(key))
    }

    /// Whether a key has this id, for any algorithm.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl IssuerKey {
    /// The key, if it may verify signatures and is of a kind that is read here. The kind of the key
    /// says the algorithm, and never the token: so no public key serves as the secret of an HMAC.
    fn of(value: &Value) -> Option<IssuerKey> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let common = &jwk.common;
        let is_for_signatures = match &common.public_key_use {
            Some(purpose) => *purpose == PublicKeyUse::Signature,
            None => true,
        };
        let may_verify = match &common.key_operations {
            Some(operations) => operations.contains(&KeyOperations::Verify),
            None => true,
        };
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            _ => return None,
        };
        let is_bound_to_another =
            (common.key_algorithm).is_some_and(|bound| Algorithm::try_from(bound) != Ok(algorithm));
        if !is_for_signatures || !may_verify || is_bound_to_another {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        has_good_size(&key, algorithm).then(|| IssuerKey {
            id: common.key_id.clone(),
            algorithm,
            key,
            jwk: value.clone(),
        })
    }
}

/// Whether the key has the size that its algorithm needs: RSA below 2048 bits is broken, and above
/// 8192 it costs too much.
fn has_good_size(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match (algorithm, key.kind()) {
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 32,
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 65,
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            let digits = n.iter().skip_while(|byte| **byte == 0).count();
            (2048 / 8..=8192 / 8).contains(&digits)
        }
        _ => false,
    }
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.0.iter().map(|key| key.id.as_deref()).collect();
        f.debug_tuple("IssuerKeys").field(&ids).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::testing::{ed25519, p256, rsa};
    use super::*;
    use serde_json::json;

    fn set(keys: &[Value]) -> Result<usize, String> {
        let text = json!({ "keys": keys }).to_string();
        IssuerKeys::parse(text.as_bytes()).map(|keys| keys.len())
    }

    fn with(mut jwk: Value, key: &str, value: Value) -> Value {
        jwk[key] = value;
        jwk
    }

    #[test]
    fn the_three_kinds_of_keys_are_read() {
        assert_eq!(
            set(&[ed25519().jwk("a"), p256().jwk("b"), rsa().jwk("c")]),
            Ok(3)
        );
    }

    #[test]
    fn keys_of_other_kinds_and_purposes_are_left_out() {
        let good = ed25519().jwk("a");
        for other in [
            json!({ "kty": "oct", "kid": "a", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA" }),
            json!({ "kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "new" }),
            json!("text"),
            with(good.clone(), "use", json!("enc")),
            with(good.clone(), "key_ops", json!(["sign"])),
            with(good.clone(), "alg", json!("ES256")),
            with(rsa().jwk("r"), "alg", json!("PS256")),
            with(p256().jwk("p"), "x", json!("AAAA")),
        ] {
            assert!(set(std::slice::from_ref(&other)).is_err(), "{other}");
            assert_eq!(set(&[other, good.clone()]), Ok(1));
        }
    }

    #[test]
    fn what_is_no_set_is_an_error() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(IssuerKeys::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(set(&vec![ed25519().jwk("a"); MAX_KEYS + 1]).is_err());
    }
}
