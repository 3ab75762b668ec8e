//! The four signing headers: present once, and of one exact form each. Nothing is trimmed,
//! re-encoded or repaired.

use std::fmt;

use super::identity::MachineId;
use super::refusal::Refusal;
use super::signature::Signature;

/// One of the four headers that carry a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningHeader {
    /// `X-Machine-Id`
    MachineId,
    /// `X-Timestamp`
    Timestamp,
    /// `X-Nonce`
    Nonce,
    /// `X-Signature`
    Signature,
}

/// What a request holds under one header name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence<'a> {
    /// No line of that name.
    Absent,
    /// One line, with its value.
    Once(&'a [u8]),
    /// More than one line.
    Repeated,
}

/// The rule that a signing header broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The header was sent more than once.
    #[error("it must be sent exactly once")]
    Repeated,
    /// The bytes are outside the header's alphabet or length; the text states the grammar.
    #[error("it must be {0}")]
    Grammar(&'static str),
}

/// The four headers, parsed, borrowed from the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningHeaders<'a> {
    /// The id the request claims.
    pub machine_id: &'a str,
    /// When it was signed.
    pub timestamp: Timestamp,
    /// What makes it unique.
    pub nonce: Nonce<'a>,
    /// The signature over the message.
    pub signature: Signature,
}

/// The second in which a request was signed, in Unix seconds: `[1-9][0-9]{9,10}`, so that every
/// value has one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// What makes a machine's request unique: `[A-Za-z0-9+/=_-]{16,128}`, compared as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce<'a>(&'a str);

impl<'a> SigningHeaders<'a> {
    /// Parses the four headers, which `find` looks up by name.
    ///
    /// # Errors
    ///
    /// [`Refusal::MissingHeader`] or [`Refusal::MalformedHeader`] for the first that fails, in
    /// the order of [`SigningHeader::ALL`]. Any doubt refuses.
    pub fn parse(
        find: impl Fn(SigningHeader) -> Occurrence<'a>,
    ) -> Result<SigningHeaders<'a>, Refusal> {
        Ok(SigningHeaders {
            machine_id: field(&find, SigningHeader::MachineId, |value| {
                std::str::from_utf8(value)
                    .ok()
                    .filter(|text| MachineId::is_valid(text.as_bytes()))
            })?,
            timestamp: field(&find, SigningHeader::Timestamp, Timestamp::parse)?,
            nonce: field(&find, SigningHeader::Nonce, Nonce::parse)?,
            signature: field(&find, SigningHeader::Signature, Signature::parse)?,
        })
    }
}

fn field<'a, T>(
    find: &impl Fn(SigningHeader) -> Occurrence<'a>,
    header: SigningHeader,
    parse: impl FnOnce(&'a [u8]) -> Option<T>,
) -> Result<T, Refusal> {
    match find(header) {
        Occurrence::Absent => Err(Refusal::MissingHeader(header)),
        Occurrence::Repeated => Err(Refusal::MalformedHeader(header, HeaderFault::Repeated)),
        Occurrence::Once(value) => parse(value).ok_or(Refusal::MalformedHeader(
            header,
            HeaderFault::Grammar(header.grammar()),
        )),
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

impl SigningHeader {
    /// All four, in the order in which they are checked.
    pub const ALL: [SigningHeader; 4] = [
        SigningHeader::MachineId,
        SigningHeader::Timestamp,
        SigningHeader::Nonce,
        SigningHeader::Signature,
    ];

    /// The header's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            SigningHeader::MachineId => "x-machine-id",
            SigningHeader::Timestamp => "x-timestamp",
            SigningHeader::Nonce => "x-nonce",
            SigningHeader::Signature => "x-signature",
        }
    }

    /// What the value has to look like, for the text of a refusal.
    const fn grammar(self) -> &'static str {
        match self {
            SigningHeader::MachineId => "1 to 128 letters, digits, '.', '_' or '-'",
            SigningHeader::Timestamp => "Unix seconds: 10 or 11 digits without a leading zero",
            SigningHeader::Nonce => "16 to 128 letters, digits, '+', '/', '=', '_' or '-'",
            SigningHeader::Signature => "64 bytes in standard base64 with padding (88 characters)",
        }
    }
}

/// Whether two header names are one in the normal form in which trust is judged: without regard to
/// case, and with every byte that is neither a letter nor a digit read as `-`. Backends that follow
/// CGI (RFC 3875, section 4.1.18) read `X.Machine.Identity` and `X_Machine_Identity` as
/// `X-Machine-Identity`. It allocates nothing, and most names differ in length already.
pub fn is_same(one: impl AsRef<str>, other: impl AsRef<str>) -> bool {
    let (one, other) = (one.as_ref().as_bytes(), other.as_ref().as_bytes());
    let folded = |byte: &u8| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

impl fmt::Display for SigningHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SigningHeader::MachineId => "X-Machine-Id",
            SigningHeader::Timestamp => "X-Timestamp",
            SigningHeader::Nonce => "X-Nonce",
            SigningHeader::Signature => "X-Signature",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD_SIGNATURE: &[u8] =
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

    fn good(header: SigningHeader) -> Occurrence<'static> {
        Occurrence::Once(match header {
            SigningHeader::MachineId => b"machine-1",
            SigningHeader::Timestamp => b"1700000000",
            SigningHeader::Nonce => b"AAAAAAAAAAAAAAAA",
            SigningHeader::Signature => GOOD_SIGNATURE,
        })
    }

    fn with(changed: SigningHeader, value: &'static [u8]) -> Result<(), Refusal> {
        SigningHeaders::parse(|header| match header == changed {
            true => Occurrence::Once(value),
            false => good(header),
        })
        .map(drop)
    }

    #[test]
    fn four_good_headers_pass() {
        let headers = SigningHeaders::parse(good).unwrap();
        assert_eq!(headers.machine_id, "machine-1");
        assert_eq!(headers.timestamp.unix_seconds(), 1_700_000_000);
    }

    #[test]
    fn each_header_must_be_there() {
        for missing in SigningHeader::ALL {
            let parsed = SigningHeaders::parse(|header| match header == missing {
                true => Occurrence::Absent,
                false => good(header),
            });
            assert_eq!(parsed, Err(Refusal::MissingHeader(missing)));
        }
    }

    #[test]
    fn each_header_must_be_there_only_once() {
        for repeated in SigningHeader::ALL {
            let parsed = SigningHeaders::parse(|header| match header == repeated {
                true => Occurrence::Repeated,
                false => good(header),
            });
            assert_eq!(
                parsed,
                Err(Refusal::MalformedHeader(repeated, HeaderFault::Repeated))
            );
        }
    }

    #[test]
    fn two_values_joined_by_a_comma_are_malformed() {
        assert!(with(SigningHeader::MachineId, b"a,b").is_err());
        assert!(with(SigningHeader::Timestamp, b"1700000000,1700000000").is_err());
        assert!(with(SigningHeader::Nonce, b"AAAAAAAAAAAAAAAA,AAAAAAAAAAAAAAAA").is_err());
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

    #[test]
    fn ids_with_spaces_or_look_alike_letters_are_malformed() {
        for value in [
            &b"a b"[..],
            b" a",
            b"a\t",
            b"",
            "\u{430}".as_bytes(),
            b"a/b",
            b"a:b",
        ] {
            assert!(with(SigningHeader::MachineId, value).is_err(), "{value:?}");
        }
    }

    proptest! {
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
