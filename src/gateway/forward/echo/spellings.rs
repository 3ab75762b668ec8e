//! The spellings in which a backend may hand a secret back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use zeroize::Zeroizing;

use crate::config::SHORTEST_CHECKED_SECRET;

/// The prefix of a secret that is base64 of `user:password` (RFC 7617).
const BASIC: &[u8] = b"basic ";

/// The bytes that some encoder of JSON does not write as they are.
const ESCAPED: &[u8] = b"\"\\/<>&='+`";

/// How an encoder of JSON writes a string of visible ASCII. All write `\"` and `\\` (RFC 8259,
/// section 7) unless `hex` has the byte.
struct JsonEncoder {
    /// `/` becomes `\/`.
    slash: bool,
    /// The bytes that become `\u00` and two digits.
    hex: &'static [u8],
    /// The digits are `A` to `F`.
    upper: bool,
}

/// The encoders in common use, by what they do to bytes that tokens have.
const ENCODERS: [JsonEncoder; 6] = [
    // serde_json, Jackson, JSON.stringify, Python
    JsonEncoder::new(false, b"", false),
    // PHP, json-c, Apple
    JsonEncoder::new(true, b"", false),
    // Go, Rails
    JsonEncoder::new(false, b"<>&", false),
    // Gson
    JsonEncoder::new(false, b"<>&='", false),
    // .NET
    JsonEncoder::new(false, b"<>&'\"+`", true),
    // PHP with JSON_HEX_TAG and the like
    JsonEncoder::new(true, b"<>&'\"", true),
];

/// The texts that must not stand in an answer. All are as long as [`SHORTEST_CHECKED_SECRET`]. They
/// are wiped when they are dropped.
#[derive(Default)]
pub(super) struct Spellings(Vec<Zeroizing<Vec<u8>>>);

impl Spellings {
    /// The spellings of a secret that stands behind `prefix` in its header. Of `user:password` in
    /// base64 the password counts too. None, if the secret is too short to be told from other text.
    pub(super) fn of(prefix: &[u8], secret: &[u8]) -> Spellings {
        let mut spellings = Spellings::default();
        spellings.add(secret);
        if prefix.eq_ignore_ascii_case(BASIC)
            && let Ok(pair) = STANDARD.decode(secret).map(Zeroizing::new)
            && let Some(colon) = pair.iter().position(|byte| *byte == b':')
        {
            spellings.add(&pair[colon + 1..]);
        }
        spellings
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|text| text.as_slice())
    }

    /// Whether one of them stands in a text.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        self.iter().any(|one| memmem::find(text, one).is_some())
    }

    /// Whether one of them stands in the name of a header, in any case: it is not kept on the way.
    pub(super) fn are_in_name(&self, name: &str) -> bool {
        let stands = |one: &[u8]| {
            let mut windows = name.as_bytes().windows(one.len());
            windows.any(|window| window.eq_ignore_ascii_case(one))
        };
        self.iter().any(stands)
    }

    /// Adds the spellings of another secret.
    pub(super) fn add(&mut self, secret: &[u8]) {
        if secret.len() < SHORTEST_CHECKED_SECRET {
            return;
        }
        let as_it_is = Zeroizing::new(secret.to_vec());
        if !self.0.contains(&as_it_is) {
            self.0.push(as_it_is);
        }
        if !secret.iter().any(|byte| ESCAPED.contains(byte)) {
            return; // nearly all
        }
        for encoder in &ENCODERS {
            let written = encoder.write(secret);
            if !self.0.contains(&written) {
                self.0.push(written);
            }
        }
    }
}

impl JsonEncoder {
    const fn new(slash: bool, hex: &'static [u8], upper: bool) -> JsonEncoder {
        JsonEncoder { slash, hex, upper }
    }

    fn write(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        // Room for all: a buffer that grows leaves copies behind that are not wiped.
        let mut text = Zeroizing::new(Vec::with_capacity(6 * secret.len()));
        for byte in secret {
            if self.hex.contains(byte) {
                let digits: &[u8; 16] = match self.upper {
                    true => b"0123456789ABCDEF",
                    false => b"0123456789abcdef",
                };
                text.extend_from_slice(b"\\u00");
                text.push(digits[usize::from(byte >> 4)]);
                text.push(digits[usize::from(byte & 15)]);
            } else if matches!(byte, b'"' | b'\\') || (*byte == b'/' && self.slash) {
                text.extend_from_slice(&[b'\\', *byte]);
            } else {
                text.push(*byte);
            }
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn of(prefix: &str, secret: &str) -> Vec<String> {
        let spellings = Spellings::of(prefix.as_bytes(), secret.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        spellings.iter().map(text).collect()
    }

    #[test]
    fn the_tokens_of_common_backends_have_one_spelling() {
        for token in [
            "hvs.CAESIJ-4xV_0",
            "s.iyNUhq8Ov4hIAx6snw5mB2nL",
            "sk-proj-Ab_9.x~y",
            "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJtIn0.c2ln",
        ] {
            assert_eq!(of("Bearer ", token), [token]);
        }
    }

    #[test]
    fn base64_has_the_spellings_of_its_three_marks() {
        assert_eq!(
            of("", "ab+cd/ef=="),
            [
                "ab+cd/ef==",
                "ab+cd\\/ef==",
                "ab+cd/ef\\u003d\\u003d",
                "ab\\u002Bcd/ef==",
            ]
        );
    }

    #[test]
    fn quotes_and_backslashes_are_escaped_as_every_encoder_must() {
        let spellings = of("", "ab\"cd\\ef");
        assert!(spellings.contains(&"ab\"cd\\ef".to_owned()));
        assert!(spellings.contains(&"ab\\\"cd\\\\ef".to_owned()));
        assert!(spellings.contains(&"ab\\u0022cd\\\\ef".to_owned()));
    }

    #[test]
    fn the_spelling_of_rust_is_that_of_serde_json() {
        let all: String = ('!'..='~').collect();
        let written = serde_json::to_string(&all).unwrap();
        let inner = written.trim_start_matches('"');
        assert!(of("", &all).contains(&inner[..inner.len() - 1].to_owned()));
    }

    #[test]
    fn every_spelling_means_the_secret() {
        let all: String = ('!'..='~').collect();
        for spelling in &of("", &all)[1..] {
            let read: String = serde_json::from_str(&format!("\"{spelling}\"")).unwrap();
            assert_eq!(read, all);
        }
    }

    #[test]
    fn of_a_pair_in_base64_the_password_counts_too() {
        let pair = STANDARD.encode("gateway:correct:horse");
        assert_eq!(of("Basic ", &pair), [&*pair, "correct:horse"]);
        assert_eq!(of("basic ", &pair), [&*pair, "correct:horse"]);
        assert_eq!(of("Bearer ", &pair), [&*pair]);
    }

    #[test]
    fn a_short_password_is_not_looked_for_and_its_pair_is() {
        let pair = STANDARD.encode("gateway:1234567");
        assert_eq!(of("Basic ", &pair), [pair]);
    }

    #[test]
    fn a_short_secret_is_not_looked_for() {
        assert!(of("", "1234567").is_empty());
        assert_eq!(of("", "12345678"), ["12345678"]);
    }

    #[test]
    fn a_name_is_looked_through_in_any_case() {
        let spellings = Spellings::of(b"", b"Token-12");
        assert!(spellings.are_in_name("x-token-12-y"));
        assert!(!spellings.are_in_name("x-token-1"));
    }
}
