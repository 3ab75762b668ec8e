//! The message a machine signs: `{method}:{path}:{timestamp}:{nonce}:{bodyHash}`.
//!
//! The text is injective: read from the right, the body hash, the nonce and the timestamp hold no
//! `:`, and read from the left the method holds none, so the four colons that separate the fields
//! are found without doubt even where the path holds `:`. The types of [`Unhashed::new`] carry
//! those grammars.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::method::Method;
use super::target::SignedTarget;

/// A message that waits for the hash of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhashed {
    text: String,
    method_len: usize,
    target_len: usize,
    timestamp: Timestamp,
    nonce_len: usize,
}

/// A complete message, as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    fields: Unhashed,
    body: BodyHash,
}

/// The SHA-256 of a request body (after de-chunking, before any content decoding), and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash {
    digest: [u8; 32],
    len: u64,
}

/// The second in which a request was signed, in Unix seconds: `[1-9][0-9]{9,10}`, so that every
/// value has one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// The nonce of a request, unique for its machine: `[A-Za-z0-9+/=_-]{16,128}`, compared as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce<'a>(&'a str);

impl Unhashed {
    /// Joins the fields that are known before the body has been read.
    pub fn new(
        method: Method<'_>,
        target: SignedTarget<'_>,
        timestamp: Timestamp,
        nonce: Nonce<'_>,
    ) -> Unhashed {
        let (method, [path, query], nonce) = (method.as_str(), target.parts(), nonce.as_str());
        let target_len = path.len() + query.len();
        let mut text = String::with_capacity(method.len() + target_len + nonce.len() + 80);
        text.push_str(method);
        text.push(':');
        text.push_str(path);
        text.push_str(query);
        text.push(':');
        // Writing to a String does not fail.
        let _ = write!(text, "{}", timestamp.unix_seconds());
        text.push(':');
        text.push_str(nonce);
        text.push(':');
        Unhashed {
            text,
            method_len: method.len(),
            target_len,
            timestamp,
            nonce_len: nonce.len(),
        }
    }

    /// Completes the message.
    pub fn with_body(mut self, body: BodyHash) -> Message {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in body.digest {
            self.text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Message { fields: self, body }
    }

    /// The timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

impl Message {
    /// The bytes that are signed.
    pub fn as_bytes(&self) -> &[u8] {
        self.fields.text.as_bytes()
    }

    /// The method as sent.
    pub fn method(&self) -> &str {
        &self.fields.text[..self.fields.method_len]
    }

    /// The signed target as sent.
    pub fn target(&self) -> &str {
        let start = self.fields.method_len + 1;
        &self.fields.text[start..start + self.fields.target_len]
    }

    /// The timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.fields.timestamp
    }

    /// The nonce as sent.
    pub fn nonce(&self) -> &str {
        const HASH_AND_COLON: usize = 65;
        let end = self.fields.text.len() - HASH_AND_COLON;
        &self.fields.text[end - self.fields.nonce_len..end]
    }

    /// The hash of the body.
    pub fn body(&self) -> &BodyHash {
        &self.body
    }
}

impl BodyHash {
    /// The hash of no bytes at all.
    pub const EMPTY: BodyHash = BodyHash {
        digest: [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f,
            0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b,
            0x78, 0x52, 0xb8, 0x55,
        ],
        len: 0,
    };

    /// Hashes a whole body.
    pub fn of(body: &[u8]) -> BodyHash {
        if body.is_empty() {
            return BodyHash::EMPTY;
        }
        BodyHash {
            digest: Sha256::digest(body).into(),
            len: body.len() as u64,
        }
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.digest
    }

    /// How many bytes were hashed.
    pub fn body_len(&self) -> u64 {
        self.len
    }
}

impl Timestamp {
    /// Parses the header's bytes; `None` for anything outside the grammar.
    pub fn parse(value: &[u8]) -> Option<Timestamp> {
        let well_formed = matches!(value.len(), 10 | 11)
            && value[0] != b'0'
            && value.iter().all(u8::is_ascii_digit);
        // Eleven digits fit a u64 nine orders of magnitude over.
        well_formed.then(|| Timestamp(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))))
    }

    /// Unix seconds.
    pub fn unix_seconds(self) -> u64 {
        self.0
    }
}

impl<'a> Nonce<'a> {
    /// Parses the header's bytes; `None` for anything outside the grammar.
    pub fn parse(value: &'a [u8]) -> Option<Nonce<'a>> {
        let well_formed = (16..=128).contains(&value.len())
            && value.iter().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'_' | b'-')
            });
        if !well_formed {
            return None;
        }
        std::str::from_utf8(value).ok().map(Nonce)
    }

    /// The nonce as sent.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::target::{QueryPolicy, Target};
    use proptest::prelude::*;

    fn message(method: &str, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Message {
        Unhashed::new(
            Method::accept(method, &[]).unwrap(),
            Target::parse(target.as_bytes())
                .unwrap()
                .under(QueryPolicy::Signed)
                .unwrap(),
            Timestamp::parse(timestamp.as_bytes()).unwrap(),
            Nonce::parse(nonce.as_bytes()).unwrap(),
        )
        .with_body(BodyHash::of(body))
    }

    #[test]
    fn the_message_is_the_five_fields_joined_by_colons() {
        let message = message("GET", "/v1/secret/a", "1700000000", "AAAAAAAAAAAAAAAA", b"");
        assert_eq!(
            std::str::from_utf8(message.as_bytes()).unwrap(),
            "GET:/v1/secret/a:1700000000:AAAAAAAAAAAAAAAA:\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_hash_of_nothing_is_the_hash_of_nothing() {
        assert_eq!(
            *BodyHash::EMPTY.as_bytes(),
            <[u8; 32]>::from(Sha256::digest(b""))
        );
    }

    #[test]
    fn timestamps_have_one_spelling() {
        for value in [
            &b"+1700000000"[..],
            b"01700000000",
            b" 1700000000",
            b"1700000000 ",
            b"1700000000000",
            b"170000000",
            b"1.70000000",
            b"-170000000",
            b"170000000a",
            b"99999999999999999999999",
            b"",
            "\u{661}700000000".as_bytes(),
        ] {
            assert_eq!(Timestamp::parse(value), None, "{value:?}");
        }
        assert_eq!(
            Timestamp::parse(b"1000000000"),
            Some(Timestamp(1_000_000_000))
        );
        assert_eq!(
            Timestamp::parse(b"99999999999"),
            Some(Timestamp(99_999_999_999))
        );
    }

    #[test]
    fn nonces_keep_their_alphabet_and_length() {
        let of = |n: usize| "a".repeat(n);
        assert!(Nonce::parse(of(15).as_bytes()).is_none());
        assert!(Nonce::parse(of(16).as_bytes()).is_some());
        assert!(Nonce::parse(of(128).as_bytes()).is_some());
        assert!(Nonce::parse(of(129).as_bytes()).is_none());
        for value in [
            &b"aaaaaaaaaaaaaaa:"[..],
            b"aaaaaaaaaaaaaaa ",
            b"aaaaaaaaaaaaaaa.",
        ] {
            assert!(Nonce::parse(value).is_none());
        }
    }

    fn fields() -> impl Strategy<Value = (String, String, String, String, [u8; 32])> {
        (
            proptest::sample::select(&crate::method::METHODS[..]).prop_map(str::to_owned),
            // Paths that look like the fields around them, colons first.
            "/[:0-9A-Za-z=?/+-]{0,12}(:[0-9]{10}:[A-Za-z0-9+/=_-]{16})?"
                .prop_filter("a target", |t| Target::parse(t.as_bytes()).is_ok()),
            "[1-9][0-9]{9,10}",
            "[A-Za-z0-9+/=_-]{16,40}",
            any::<[u8; 32]>(),
        )
    }

    /// Takes a message apart again, from its text alone.
    fn read_back(text: &str) -> (String, String, String, String, String) {
        let (rest, hash) = text.rsplit_once(':').unwrap();
        let (rest, nonce) = rest.rsplit_once(':').unwrap();
        let (rest, timestamp) = rest.rsplit_once(':').unwrap();
        let (method, target) = rest.split_once(':').unwrap();
        (
            method.to_owned(),
            target.to_owned(),
            timestamp.to_owned(),
            nonce.to_owned(),
            hash.to_owned(),
        )
    }

    proptest! {
        #[test]
        fn every_message_can_be_read_back_so_no_two_requests_share_one(
            (method, target, timestamp, nonce, body) in fields()
        ) {
            let message = message(&method, &target, &timestamp, &nonce, &body);
            let text = std::str::from_utf8(message.as_bytes()).unwrap();
            let hash: String = Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(
                read_back(text),
                (method.clone(), target.clone(), timestamp.clone(), nonce.clone(), hash)
            );
            prop_assert_eq!(message.method(), method);
            prop_assert_eq!(message.target(), target);
            prop_assert_eq!(message.nonce(), nonce);
            prop_assert_eq!(message.timestamp().unix_seconds().to_string(), timestamp);
        }

        #[test]
        fn a_timestamp_that_parses_prints_back(value in proptest::collection::vec(any::<u8>(), 9..13)) {
            if let Some(timestamp) = Timestamp::parse(&value) {
                prop_assert_eq!(timestamp.unix_seconds().to_string().into_bytes(), value);
            }
        }

        #[test]
        fn every_number_in_range_parses(seconds in 1_000_000_000u64..=99_999_999_999) {
            let text = seconds.to_string();
            prop_assert_eq!(Timestamp::parse(text.as_bytes()), Some(Timestamp(seconds)));
        }

        #[test]
        fn a_nonce_that_parses_prints_back_and_holds_no_colon(value in proptest::collection::vec(any::<u8>(), 0..140)) {
            if let Some(nonce) = Nonce::parse(&value) {
                prop_assert_eq!(nonce.as_str().as_bytes(), &value[..]);
                prop_assert!(!nonce.as_str().contains(':'));
            }
        }
    }
}
