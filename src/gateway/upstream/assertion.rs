//! The gateway's assertions about machines: short JSON Web Tokens (JWT, RFC 7519) by which a backend
//! learns which machine a request is from, and the public keys that verify them.

pub(crate) mod asserted_machine;

use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm,
    OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use self::asserted_machine::AssertedMachine;
use crate::config::{Assertion, GatewayKey};
use crate::jwt::provider;
use countersign_client::file::Unusable;
use countersign_core::decision::Signed;
use countersign_core::message::Message;

/// How long an assertion is valid, in seconds: it is used at once, and for one request.
const LIFETIME: u64 = 60;

/// An assertion is valid from this long before it is made, in seconds: the clock of its verifier may
/// be behind.
const BEHIND: u64 = 30;

/// An assertion could not be made: the system gave no random bytes, or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoAssertion;

/// The issuer of assertions, with the keys in force.
pub(crate) struct Assertions {
    configured: Assertion,
    keys: ArcSwap<AssertionKeys>,
}

struct AssertionKeys {
    loaded: Vec<GatewayKey>,
    signing: EncodingKey,
    header: Header,
    /// The public keys, as a JWK set (RFC 7517).
    document: Bytes,
}

/// The claims of an assertion.
#[derive(Serialize)]
struct AssertionClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    machine: MachineClaims<'a>,
    #[serde(flatten)]
    request: Option<RequestClaims<'a>>,
}

#[derive(Serialize)]
struct MachineClaims<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    groups: Vec<&'a str>,
    /// The fingerprint of the key that signed the request.
    key: String,
}

/// The request that an assertion is bound to, by the names of RFC 9449, section 4.2, and the hash of
/// its body.
#[derive(Serialize)]
struct RequestClaims<'a> {
    htm: &'a str,
    /// The path as the machine signed it.
    htu: &'a str,
    /// SHA-256 of the body, base64url without padding.
    bh: String,
}

impl Assertions {
    /// # Errors
    ///
    /// [`NoAssertion`]: the keys cannot be encoded, which is a bug.
    pub(crate) fn new(configured: &Assertion) -> Result<Assertions, NoAssertion> {
        provider::install();
        Ok(Assertions {
            keys: ArcSwap::from_pointee(AssertionKeys::new(configured.keys.clone())?),
            configured: configured.clone(),
        })
    }

    /// The files of the keys.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.configured.files.iter().map(PathBuf::as_path)
    }

    /// The path on the data listeners at which the public keys are served.
    pub(crate) fn jwks_path(&self) -> Option<&str> {
        self.configured.jwks_path.as_deref()
    }

    /// The public keys, as a JWK set.
    pub(crate) fn jwks(&self) -> Bytes {
        self.keys.load().document.clone()
    }

    /// Reads the files of the keys again. Returns whether the keys have changed. After a mistake the
    /// keys in force stay.
    ///
    /// # Errors
    ///
    /// The mistake, without any content of a file.
    pub(crate) fn read_again(&self) -> Result<bool, Unusable> {
        let loaded = self.configured.read_again()?;
        if self.keys.load().loaded == loaded {
            return Ok(false);
        }
        let keys = AssertionKeys::new(loaded)
            .map_err(|NoAssertion| Unusable::content("the keys cannot be encoded".to_owned()))?;
        self.keys.store(keys.into());
        Ok(true)
    }

    /// Makes the assertion for a login of the machine at the backend `audience`, at `now` (Unix
    /// seconds).
    ///
    /// # Errors
    ///
    /// [`NoAssertion`].
    pub(crate) fn for_login(
        &self,
        subject: &AssertedMachine,
        audience: &str,
        now: u64,
    ) -> Result<String, NoAssertion> {
        self.sign(subject, audience, now, None)
    }

    /// Makes the assertion that goes with the machine's request, as the value of a header. It is
    /// bound to method, path and body: a backend can tell it from one for another request.
    ///
    /// # Errors
    ///
    /// [`NoAssertion`].
    pub(crate) fn for_request(
        &self,
        signed: &Signed,
        audience: &str,
        now: u64,
    ) -> Result<HeaderValue, NoAssertion> {
        let request = RequestClaims::of(signed.message());
        let token = self.sign(&AssertedMachine::of(signed), audience, now, Some(request))?;
        let mut value = HeaderValue::try_from(token).map_err(|_| NoAssertion)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn sign(
        &self,
        subject: &AssertedMachine,
        audience: &str,
        now: u64,
        request: Option<RequestClaims<'_>>,
    ) -> Result<String, NoAssertion> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| NoAssertion)?;
        let machine = subject.machine();
        let claims = AssertionClaims {
            iss: &self.configured.issuer,
            sub: machine.id.as_str(),
            aud: audience,
            iat: now,
            nbf: now.saturating_sub(BEHIND),
            exp: now + LIFETIME,
            jti: URL_SAFE_NO_PAD.encode(id),
            machine: MachineClaims {
                id: machine.id.as_str(),
                name: machine.name.as_deref(),
                vault: machine.vault.as_deref(),
                owner: machine.owner.as_deref(),
                groups: machine.groups.iter().map(|group| &**group).collect(),
                key: subject.key().fingerprint().to_string(),
            },
            request,
        };
        let keys = self.keys.load();
        jsonwebtoken::encode(&keys.header, &claims, &keys.signing).map_err(|_| NoAssertion)
    }
}

impl<'a> RequestClaims<'a> {
    fn of(message: &'a Message) -> RequestClaims<'a> {
        RequestClaims {
            htm: message.method(),
            htu: message.target(),
            bh: URL_SAFE_NO_PAD.encode(message.body().as_bytes()),
        }
    }
}

impl AssertionKeys {
    fn new(loaded: Vec<GatewayKey>) -> Result<AssertionKeys, NoAssertion> {
        let first = loaded.first().ok_or(NoAssertion)?;
        let signing = provider::encoding_key(first.reveal());
        let keys: Vec<Jwk> = loaded.iter().map(public).collect::<Result<_, _>>()?;
        let header = Header {
            kid: keys.first().and_then(|key| key.common.key_id.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let document = serde_json::to_vec(&JwkSet { keys }).map_err(|_| NoAssertion)?;
        Ok(AssertionKeys {
            loaded,
            signing,
            header,
            document: document.into(),
        })
    }
}

/// The public half of a key as a JWK (RFC 8037, section 2). Its id is the thumbprint of RFC 7638.
fn public(key: &GatewayKey) -> Result<Jwk, NoAssertion> {
    let public = key.reveal().verifying_key();
    let mut jwk = Jwk {
        common: CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(KeyAlgorithm::EdDSA),
            ..CommonParameters::default()
        },
        algorithm: AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
            key_type: OctetKeyPairType::OctetKeyPair,
            curve: EllipticCurve::Ed25519,
            x: URL_SAFE_NO_PAD.encode(public.as_bytes()),
        }),
    };
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256);
    jwk.common.key_id = Some(thumbprint.map_err(|_| NoAssertion)?);
    Ok(jwk)
}

impl std::fmt::Debug for Assertions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Assertions({})", self.configured.issuer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(crate) mod tests;
