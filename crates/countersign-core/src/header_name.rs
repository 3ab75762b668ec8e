//! The names of the four signing headers, and when two header names are one.

use std::fmt;

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

    /// The form of the value, for the text of a refusal.
    pub(crate) const fn grammar(self) -> &'static str {
        match self {
            SigningHeader::MachineId => "1 to 128 letters, digits, '.', '_' or '-'",
            SigningHeader::Timestamp => "Unix seconds: 10 or 11 digits without a leading zero",
            SigningHeader::Nonce => "16 to 128 letters, digits, '+', '/', '=', '_' or '-'",
            SigningHeader::Signature => "64 bytes in standard base64 with padding (88 characters)",
        }
    }
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

/// Whether two header names are one in the normal form in which trust is judged: without regard to
/// case, and with every byte that is neither a letter nor a digit read as `-`. Backends that follow
/// CGI (RFC 3875, section 4.1.18) read `X.Machine.Identity` and `X_Machine_Identity` as
/// `X-Machine-Identity`. It allocates nothing, and most names differ in length already.
pub fn is_same_header(one: impl AsRef<str>, other: impl AsRef<str>) -> bool {
    let (one, other) = (one.as_ref().as_bytes(), other.as_ref().as_bytes());
    let folded = |byte: &u8| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}
