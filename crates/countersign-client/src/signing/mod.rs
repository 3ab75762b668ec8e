//! Signs requests: a machine's key, and the four signing headers.

pub mod identity;
pub mod key_file;
pub mod new_key;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};

use countersign_core::header_name::SigningHeader;
use countersign_core::identity::MachineId;
use countersign_core::message::{BodyHash, Unhashed};
use countersign_core::message::{Nonce, Timestamp};
use countersign_core::method::{Method, may_be_added};
use countersign_core::target::{QueryNotAllowed, QueryPolicy, SignedTarget, Target, TargetError};

/// Signs requests as one machine. It has no `Debug`, because it holds the private key.
pub struct Signer {
    id: MachineId,
    key: SigningKey,
}

/// The four signing headers with their values.
pub type Headers = [(SigningHeader, String); 4];

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    /// The text is not a machine id.
    #[error("'{0}' is not a machine id: 1 to 128 letters, digits, '.', '_' or '-'")]
    Id(String),
    /// No gateway accepts the method.
    #[error("'{0}' is not a method that a gateway accepts; methods are upper case")]
    Method(String),
    /// The request target breaks the grammar.
    #[error("the path cannot be signed: {0}")]
    Target(#[from] TargetError),
    /// The route takes no query.
    #[error("the path has a query, and the route takes none; remove it")]
    Query,
    /// The time does not fit the protocol's timestamp.
    #[error("this machine's clock is not set; set it")]
    Clock,
    /// The system gives no random bytes for the nonce.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl Signer {
    /// A signer for the machine `id`.
    ///
    /// # Errors
    ///
    /// [`Unsignable::Id`] if `id` is not a machine id.
    pub fn new(id: &str, key: SigningKey) -> Result<Signer, Unsignable> {
        let id =
            MachineId::parse(id).ok_or_else(|| Unsignable::Id(id.escape_debug().to_string()))?;
        Ok(Signer { id, key })
    }

    /// The machine's id.
    pub fn id(&self) -> &MachineId {
        &self.id
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Signs a request at the Unix second `now`, with a new nonce. `target` is the target of the
    /// request line. Each call gives another signature.
    ///
    /// # Errors
    ///
    /// [`Unsignable::Clock`] and [`Unsignable::Random`].
    pub fn sign(
        &self,
        method: Method<'_>,
        target: SignedTarget<'_>,
        body: BodyHash,
        now: u64,
    ) -> Result<Headers, Unsignable> {
        let nonce = fresh_nonce()?;
        let (Some(timestamp), Some(parsed)) = (
            Timestamp::parse(now.to_string().as_bytes()),
            Nonce::parse(nonce.as_bytes()),
        ) else {
            return Err(Unsignable::Clock);
        };
        let message = Unhashed::new(method, target, timestamp, parsed).with_body(body);
        let signature = self.key.sign(message.as_bytes());
        Ok([
            (SigningHeader::MachineId, self.id.as_str().to_owned()),
            (SigningHeader::Timestamp, now.to_string()),
            (SigningHeader::Nonce, nonce),
            (
                SigningHeader::Signature,
                STANDARD.encode(signature.to_bytes()),
            ),
        ])
    }

    /// Parses and signs a request. The signature covers a query in `target`.
    ///
    /// # Errors
    ///
    /// A method or a target that no gateway accepts, and the errors of [`Signer::sign`].
    pub fn sign_text(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        now: u64,
    ) -> Result<Headers, Unsignable> {
        let added = [method.to_owned()];
        let method = any_method(method, &added)?;
        let target = parse_target(target.as_bytes(), QueryPolicy::Signed)?;
        self.sign(method, target, BodyHash::of(body), now)
    }
}

/// Parses a method that some route may accept. Only the gateway knows the methods that a route
/// adds, so each method that a route may add is accepted. `room` holds the method as sent.
///
/// # Errors
///
/// [`Unsignable::Method`].
pub fn any_method<'a>(method: &'a str, room: &[String]) -> Result<Method<'a>, Unsignable> {
    let added = if may_be_added(method) { room } else { &[] };
    Method::accept(method, added)
        .ok_or_else(|| Unsignable::Method(method.escape_debug().to_string()))
}

/// The part of a request target that the signature covers under `policy`.
///
/// # Errors
///
/// [`Unsignable::Target`] and [`Unsignable::Query`].
pub fn parse_target(raw: &[u8], policy: QueryPolicy) -> Result<SignedTarget<'_>, Unsignable> {
    (Target::parse(raw)?.under(policy)).map_err(|QueryNotAllowed| Unsignable::Query)
}

/// Sixteen random bytes from the operating system, in base64.
fn fresh_nonce() -> Result<String, Unsignable> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Unsignable::Random(error.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use countersign_core::signature::Signature;

    fn signer() -> Signer {
        Signer::new("machine-1", SigningKey::from_bytes(&[7; 32])).unwrap()
    }

    #[test]
    fn what_it_signs_parses_under_the_gateways_grammar() {
        let headers = signer()
            .sign_text("GET", "/v1/secret/a?b=c", b"", 1_700_000_000)
            .unwrap();
        let value = |i: usize| headers[i].1.as_bytes();
        assert_eq!(value(0), b"machine-1");
        assert!(Timestamp::parse(value(1)).is_some());
        assert!(Nonce::parse(value(2)).is_some());
        assert!(Signature::parse(value(3)).is_some());
    }

    #[test]
    fn no_two_requests_share_a_nonce() {
        let nonce = || {
            signer().sign_text("GET", "/", b"", 1_700_000_000).unwrap()[2]
                .1
                .clone()
        };
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn what_no_gateway_would_take_is_refused_here() {
        for (method, target) in [("get", "/"), ("TRACE", "/"), ("GET", "a"), ("GET", "/a//b")] {
            let verdict = signer().sign_text(method, target, b"", 1_700_000_000);
            assert!(
                matches!(verdict, Err(Unsignable::Method(_) | Unsignable::Target(_))),
                "{method} {target}"
            );
        }
        assert!(signer().sign_text("SCAN", "/", b"", 1_700_000_000).is_ok());
    }

    #[test]
    fn what_is_no_machine_id_makes_no_signer() {
        let key = SigningKey::from_bytes(&[7; 32]);
        assert!(matches!(Signer::new("web 1", key), Err(Unsignable::Id(_))));
    }

    #[test]
    fn a_query_is_signed_dropped_or_refused_as_the_route_does() {
        let parse = |policy| parse_target(b"/a?b=c", policy).map(|target| target.to_string());
        assert_eq!(parse(QueryPolicy::Signed), Ok("/a?b=c".into()));
        assert_eq!(parse(QueryPolicy::Strip), Ok("/a".into()));
        assert_eq!(parse(QueryPolicy::Reject), Err(Unsignable::Query));
    }
}
