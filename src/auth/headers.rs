//! The four signing headers: present once, and of one exact form each.

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
