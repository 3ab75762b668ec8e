//! The four signing headers: each occurs once and has one exact form. The parser does not trim,
//! re-encode or repair a value.

use super::identity::MachineId;
use super::refusal::Refusal;
use super::signature::Signature;

use super::header_name::{HeaderFault, SigningHeader};
use super::message::{Nonce, Timestamp};

/// How often a request holds a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence<'a> {
    /// No line of that name.
    Absent,
    /// One line, with its value.
    Once(&'a [u8]),
    /// More than one line.
    Repeated,
}

/// The four headers, parsed, borrowed from the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningHeaders<'a> {
    /// The id the request claims.
    pub machine_id: &'a str,
    /// When the request was signed.
    pub timestamp: Timestamp,
    /// The nonce.
    pub nonce: Nonce<'a>,
    /// The signature over the message.
    pub signature: Signature,
}

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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

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
}
