//! The body of an enrolment, as a machine sends it.

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::call::EnrolmentSecret;

/// The host name of an agent: SikkerKey's client for agents tells none.
const AGENT: &str = "agent";

/// The body, parsed. What it says is not yet judged.
pub(super) struct EnrolmentBody {
    /// The token or the JWT.
    pub(super) secret: Zeroizing<String>,
    pub(super) public_key: String,
    pub(super) hostname: String,
    pub(super) name: Option<String>,
    pub(super) proof: Option<SentProof>,
}

/// A proof as sent.
pub(super) struct SentProof {
    /// Unix seconds.
    pub(super) timestamp: u64,
    pub(super) signature: String,
}

/// Unknown fields are left alone: clients may send more than they must.
#[derive(Deserialize)]
struct SentFields {
    token: Option<Value>,
    jwt: Option<Value>,
    #[serde(rename = "publicKey")]
    public_key: Option<Value>,
    hostname: Option<Value>,
    name: Option<Value>,
    timestamp: Option<Value>,
    proof: Option<Value>,
}

impl EnrolmentBody {
    /// Parses the body of a call with this kind of secret.
    ///
    /// # Errors
    ///
    /// Every mistake of its form. None repeats a value: any of them may be the secret.
    pub(super) fn parse(kind: EnrolmentSecret, bytes: &[u8]) -> Result<EnrolmentBody, Vec<String>> {
        let sent: SentFields = serde_json::from_slice(bytes).map_err(|_| {
            vec!["The body is not a JSON object, or names a field twice.".to_owned()]
        })?;
        let mut mistakes = Vec::new();
        let (key, secret) = match kind {
            EnrolmentSecret::Token | EnrolmentSecret::AgentToken => ("token", sent.token),
            EnrolmentSecret::Jwt => ("jwt", sent.jwt),
        };
        let secret = text(secret, key, &mut mistakes).map(Zeroizing::new);
        let public_key = text(sent.public_key, "publicKey", &mut mistakes);
        let hostname = match (kind, sent.hostname) {
            (EnrolmentSecret::AgentToken, None) => Some(AGENT.to_owned()),
            (_, hostname) => text(hostname, "hostname", &mut mistakes),
        };
        let name = match sent.name {
            None | Some(Value::Null) => None,
            name => text(name, "name", &mut mistakes),
        };
        let proof = proof(sent.timestamp, sent.proof, &mut mistakes);
        match (secret, public_key, hostname) {
            (Some(secret), Some(public_key), Some(hostname)) if mistakes.is_empty() => {
                Ok(EnrolmentBody {
                    secret,
                    public_key,
                    hostname,
                    name,
                    proof,
                })
            }
            _ => Err(mistakes),
        }
    }
}

fn text(value: Option<Value>, key: &str, mistakes: &mut Vec<String>) -> Option<String> {
    let problem = match value {
        Some(Value::String(text)) => return Some(text),
        Some(_) => "must be a text",
        None => "is missing",
    };
    mistakes.push(format!("{key}: {problem}."));
    None
}

fn proof(
    timestamp: Option<Value>,
    proof: Option<Value>,
    mistakes: &mut Vec<String>,
) -> Option<SentProof> {
    if timestamp.is_none() && proof.is_none() {
        return None;
    }
    let signature = text(proof, "proof", mistakes);
    let timestamp = match timestamp {
        Some(value) => value.as_u64().or_else(|| {
            mistakes
                .push("timestamp: must be a number of Unix seconds, without quotes.".to_owned());
            None
        }),
        None => {
            mistakes.push("timestamp: is missing.".to_owned());
            None
        }
    };
    Some(SentProof {
        timestamp: timestamp?,
        signature: signature?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistakes(value: &Value) -> String {
        let parsed = EnrolmentBody::parse(EnrolmentSecret::Token, value.to_string().as_bytes());
        parsed.map(|_| ()).unwrap_err().join("\n")
    }

    #[test]
    fn the_body_of_a_stock_client_is_enough() {
        let body = json!({ "token": "t", "publicKey": "k", "hostname": "h", "agent": [1] });
        let body =
            EnrolmentBody::parse(EnrolmentSecret::Token, body.to_string().as_bytes()).unwrap();
        assert_eq!(
            (&**body.secret, &*body.public_key, &*body.hostname),
            ("t", "k", "h")
        );
        assert!(body.name.is_none() && body.proof.is_none());
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_value_is_repeated() {
        let told = mistakes(&json!({
            "token": ["planted"], "publicKey": 1, "name": {}, "timestamp": "1800000000", "proof": 7,
        }));
        for key in [
            "token:",
            "publicKey:",
            "hostname:",
            "name:",
            "timestamp:",
            "proof:",
        ] {
            assert!(told.contains(key), "{key} in {told}");
        }
        assert!(!told.contains("planted"), "{told}");
    }

    #[test]
    fn half_a_proof_is_a_mistake() {
        let whole = json!({ "token": "t", "publicKey": "k", "hostname": "h" });
        for (key, value) in [("proof", json!("p")), ("timestamp", json!(1))] {
            let mut half = whole.clone();
            half[key] = value;
            assert!(mistakes(&half).ends_with("is missing."), "{half}");
        }
        let mut negative = whole;
        negative["timestamp"] = json!(-1);
        negative["proof"] = json!("p");
        assert!(mistakes(&negative).starts_with("timestamp:"));
    }

    #[test]
    fn a_field_that_is_there_twice_is_a_mistake() {
        let twice = br#"{"token":"a","token":"b","publicKey":"k","hostname":"h"}"#;
        assert!(EnrolmentBody::parse(EnrolmentSecret::Token, twice).is_err());
        for bytes in [&b""[..], b"[]", b"null", b"\xff", b"{} {}"] {
            assert!(EnrolmentBody::parse(EnrolmentSecret::Token, bytes).is_err());
        }
    }

    #[test]
    fn a_call_with_a_jwt_needs_the_jwt() {
        let body = json!({ "token": "t", "publicKey": "k", "hostname": "h" }).to_string();
        let told = EnrolmentBody::parse(EnrolmentSecret::Jwt, body.as_bytes());
        assert_eq!(told.map(|_| ()).unwrap_err(), ["jwt: is missing."]);
    }
}
