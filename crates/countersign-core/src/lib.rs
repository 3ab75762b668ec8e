//! The signed request of Countersign: its grammar, its message, its signature, and every reason to
//! refuse it.
//!
//! Countersign is a gateway that lets only signed requests through, unless a route says otherwise.
//! A machine signs each request with its Ed25519 key. The gateway verifies the signature, refuses
//! replays, and forwards the request under the machine's name. This crate holds the rules that both
//! sides share. Authors of clients check their messages against it; the gateway decides with it.
//!
//! The crate is pure. It opens no socket or file, reads no clock and no environment, and writes no
//! log; the time is an argument. Keys from files, random nonces and a proxy that signs are in
//! `countersign-client`.
//!
//! # The message
//!
//! A machine signs these UTF-8 bytes with plain Ed25519 (RFC 8032, section 5.1.6; no prehash, no
//! context):
//!
//! ```text
//! {method}:{path}:{timestamp}:{nonce}:{bodyHash}
//! ```
//!
//! | field | content | grammar |
//! |---|---|---|
//! | method | the method as sent, case-sensitive | one of [`METHODS`](method::METHODS), or a token that the route adds |
//! | path | the request target as sent, see below | [`Target`](target::Target) |
//! | timestamp | Unix seconds | `[1-9][0-9]{9,10}`, [`Timestamp`](message::Timestamp) |
//! | nonce | new for each request, 16 random bytes | `[A-Za-z0-9+/=_-]{16,128}`, [`Nonce`](message::Nonce) |
//! | bodyHash | SHA-256 of the body, without chunking, before any decoding | 64 lower-case hex digits, [`BodyHash`](message::BodyHash) |
//!
//! Two requests never share a message: [`message`] has the argument, and a property test holds it.
//!
//! # The path
//!
//! The path is the origin form of RFC 9112, section 3.2.1, in one spelling:
//!
//! - It starts with `/` and has at most 4096 bytes.
//! - A segment holds the `pchar` of RFC 3986, section 3.3, except `;`.
//! - An escape is `%` and two upper-case digits, and never encodes an unreserved character, a
//!   slash, a backslash, a question mark or a control character.
//! - No segment is empty, `.` or `..`. The last one may be empty: a slash at the end is fine.
//!
//! The bytes that are sent are the bytes that are signed. Nothing is normalised, on either side.
//! The route decides about a query: under [`Strip`](target::QueryPolicy::Strip) the signature
//! covers the path alone, under [`Signed`](target::QueryPolicy::Signed) it covers `path?query`, and
//! under [`Reject`](target::QueryPolicy::Reject) there may be none.
//!
//! # The headers
//!
//! A request carries each of these exactly once. The gateway trims and repairs nothing.
//!
//! | header | value |
//! |---|---|
//! | `X-Machine-Id` | the id in the gateway's registry, `[A-Za-z0-9._-]{1,128}` |
//! | `X-Timestamp` | the timestamp of the message |
//! | `X-Nonce` | the nonce of the message |
//! | `X-Signature` | the 64 bytes of the signature in standard base64 with padding: 88 characters |
//!
//! # Sign a request
//!
//! The values are those of the vector `accepted-get`, so the signature is known in advance: Ed25519
//! is deterministic.
//!
//! ```
//! use base64::Engine;
//! use base64::engine::general_purpose::STANDARD;
//! use countersign_core::message::{BodyHash, Nonce, Timestamp, Unhashed};
//! use countersign_core::method::Method;
//! use countersign_core::target::{QueryPolicy, Target};
//! use ed25519_dalek::{Signer, SigningKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let seed = STANDARD.decode("M5Fzs56zZBj9gFbQQ/Yy3fOHIQ4fDKw94wnXXX/p62s=")?;
//! let key = SigningKey::from_bytes(seed.as_slice().try_into()?);
//!
//! // Each parser refuses what the gateway would refuse. A client makes a new nonce for each
//! // request, and for each retry, from 16 random bytes.
//! let method = Method::accept("GET", &[]).ok_or("not a method")?;
//! let target = Target::parse(b"/v1/secret/db-password")?.under(QueryPolicy::Strip)?;
//! let timestamp = Timestamp::parse(b"1752000000").ok_or("not a timestamp")?;
//! let nonce = Nonce::parse(b"i2nhR0GVn2pQ6wMpAgLBTg==").ok_or("not a nonce")?;
//!
//! let message = Unhashed::new(method, target, timestamp, nonce).with_body(BodyHash::of(b""));
//! assert_eq!(
//!     message.as_bytes(),
//!     b"GET:/v1/secret/db-password:1752000000:i2nhR0GVn2pQ6wMpAgLBTg==:\
//!       e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
//! );
//!
//! let signature = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
//! let headers = [
//!     ("X-Machine-Id", "5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b"),
//!     ("X-Timestamp", "1752000000"),
//!     ("X-Nonce", nonce.as_str()),
//!     ("X-Signature", signature.as_str()),
//! ];
//! assert_eq!(
//!     headers[3].1,
//!     "i6w31DUuAmoKp9ibqDdyzkONKkLE3WWoAZXhATtP9oE+gEo58NWkoCawe1HVWBtFuBl58eDZbI0eYJLc4Ua0Aw=="
//! );
//! # Ok(())
//! # }
//! ```
//!
//! # Verify a request
//!
//! The gateway's decision is a sequence of values. Only one step can make each value, from the
//! value before, so a caller cannot leave a step out: see [`decision`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use countersign_core::decision::Attempt;
//! use countersign_core::header_name::SigningHeader;
//! use countersign_core::headers::{Occurrence, SigningHeaders};
//! use countersign_core::identity::{Machine, MachineId, PublicKey};
//! use countersign_core::message::BodyHash;
//! use countersign_core::method::Method;
//! use countersign_core::refusal::Refusal;
//! use countersign_core::replay::Window;
//! use countersign_core::target::{QueryPolicy, Target};
//!
//! # fn main() -> Result<(), Refusal> {
//! # use base64::{Engine, engine::general_purpose::STANDARD};
//! let key = STANDARD.decode("KDyiQXH93nhwpFS/aWm/n+ckCxwPHz/t2ovJmc43HBk=").unwrap();
//! let key = <[u8; 32]>::try_from(key).unwrap();
//! let machine = Arc::new(Machine {
//!     id: MachineId::parse("5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b").unwrap(),
//!     keys: [PublicKey::from_bytes(&key).unwrap().into()].into(),
//!     enabled: true,
//!     name: None, vault: None, owner: None, credential: None,
//!     not_before: None, expires: None, policy: None, groups: Default::default(),
//! });
//! let headers = SigningHeaders::parse(|header| Occurrence::Once(match header {
//!     SigningHeader::MachineId => b"5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b",
//!     SigningHeader::Timestamp => b"1752000000",
//!     SigningHeader::Nonce => b"i2nhR0GVn2pQ6wMpAgLBTg==",
//!     SigningHeader::Signature =>
//!         b"i6w31DUuAmoKp9ibqDdyzkONKkLE3WWoAZXhATtP9oE+gEo58NWkoCawe1HVWBtFuBl58eDZbI0eYJLc4Ua0Aw==",
//! }))?;
//! let method = Method::accept("GET", &[]).unwrap();
//! let target = Target::parse(b"/v1/secret/db-password").map_err(Refusal::BadTarget)?;
//!
//! let now = 1_752_000_042;
//! let window = Window { past: 300, future: 300 };
//! let verified = Attempt::new(method, target.under(QueryPolicy::Strip)?, headers)
//!     .check_time(now, &window)?
//!     .look_up(|id| (id == machine.id.as_str()).then(|| Arc::clone(&machine)))
//!     .verify(BodyHash::of(b""))?
//!     .check_state(now)
//!     .map_err(|denied| denied.refusal)?;
//! assert_eq!(verified.signed().machine().id, machine.id);
//! // `verified.claim(&store)` then spends the nonce, once and for all.
//! # Ok(())
//! # }
//! ```
//!
//! # How each step fails
//!
//! Every check refuses when it is in doubt. `None` and `Err` mean the same: no.
//!
//! | step | in doubt | refusal |
//! |---|---|---|
//! | [`Target::parse`](target::Target::parse) | an unknown byte or escape is refused | `bad_target` |
//! | [`Method::accept`](method::Method::accept) | a method that is not listed is refused | `method_not_allowed` |
//! | [`SigningHeaders::parse`](headers::SigningHeaders::parse) | absent, repeated or malformed headers are refused | `missing_header`, `malformed_header` |
//! | [`Attempt::check_time`](decision::Attempt::check_time) | a timestamp outside the window is refused | `clock_skew` |
//! | [`PublicKey::from_bytes`](identity::PublicKey::from_bytes) | weak, mixed-order and non-canonical keys are refused | none: the registry refuses to load |
//! | [`Attributed::verify`](decision::Attributed::verify) | an unknown machine is refused after the same work as a wrong signature | `bad_signature` |
//! | [`Signed::check_state`](decision::Signed::check_state) | disabled, not yet valid or expired: refused | `machine_disabled`, `machine_expired` |
//! | [`Verified::claim`](decision::Verified::claim) | a store that does not know refuses | `replayed`, `throttled`, `replay_unavailable` |
//! | [`Policy::judge`](policy::Policy::judge) | a list that matches nothing refuses | `not_permitted` |
//!
//! Verification is `verify_strict` of ed25519-dalek. It refuses a non-canonical S (RFC 8032,
//! section 5.1.7) and small-order points, and it uses the equation without the cofactor. The
//! vectors of Project Wycheproof run as a test.
//!
//! # Modules
//!
//! In reading order; a module imports only modules above it:
//!
//! - [`method`], [`target`]: the grammar of the request line;
//! - [`header_name`]: the names of the four headers, and when two names are one;
//! - [`lost_header`]: client headers that a gateway must not drop in silence;
//! - [`refusal`]: every way to say no, with its code, status and text;
//! - [`message`]: the signed bytes;
//! - [`validity`], [`policy`]: from when until when, and what a machine may do;
//! - [`identity`]: machines and their public keys;
//! - [`signature`]: the signature and its check;
//! - [`enrolment`]: enrolment tokens, and the proof that a machine holds its new key;
//! - [`pattern`]: text with a `*` at its end;
//! - [`headers`]: the four headers, parsed;
//! - [`private_key`]: reads a key from PKCS#8 PEM;
//! - [`replay`]: the time window, and the promise of a replay cache;
//! - [`decision`]: the line of values that ties the checks together.
#![forbid(unsafe_code)]

pub mod decision;
pub mod enrolment;
pub mod header_name;
pub mod headers;
pub mod identity;
pub mod lost_header;
pub mod message;
pub mod method;
pub mod pattern;
pub mod policy;
pub mod private_key;
pub mod refusal;
pub mod replay;
pub mod signature;
pub mod target;
pub mod validity;
