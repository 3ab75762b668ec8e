//! Why a machine is not enrolled.

use countersign_core::refusal::{Refusal, RegistryFault};

/// A refused enrolment: what the client is told, and what the operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnrolled {
    /// The refusal that the client gets.
    pub refusal: Refusal,
    /// The cause, for records and logs alone. The client must not learn it.
    pub cause: EnrolmentFault,
}

/// The cause of a refusal: a closed set of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentFault {
    /// The body, the key, the proof or a name is wrong; the client is told.
    Invalid,
    /// No such token exists.
    UnknownToken,
    /// The token is for another vault.
    OtherVault,
    /// The token has expired.
    Expired,
    /// The token was revoked.
    Revoked,
    /// The token has let in as many machines as it may.
    UsedUp,
    /// The token may not be used from this address.
    Network,
    /// The JWT cannot be read.
    Jwt,
    /// No joiner has the vault and the issuer of the JWT.
    NoJoiner,
    /// The signature of the JWT is wrong, or of an unknown key.
    Signature,
    /// The JWT is for another audience.
    Audience,
    /// The JWT has expired, or is not valid yet.
    Time,
    /// The JWT has not the claims that the joiner asks for.
    Claims,
    /// The JWT has enrolled a machine already.
    Reused,
    /// The database or the keys of the issuer are away.
    Unavailable,
}

impl EnrolmentFault {
    /// Every cause, in the order of the enum.
    pub const ALL: [EnrolmentFault; 15] = [
        EnrolmentFault::Invalid,
        EnrolmentFault::UnknownToken,
        EnrolmentFault::OtherVault,
        EnrolmentFault::Expired,
        EnrolmentFault::Revoked,
        EnrolmentFault::UsedUp,
        EnrolmentFault::Network,
        EnrolmentFault::Jwt,
        EnrolmentFault::NoJoiner,
        EnrolmentFault::Signature,
        EnrolmentFault::Audience,
        EnrolmentFault::Time,
        EnrolmentFault::Claims,
        EnrolmentFault::Reused,
        EnrolmentFault::Unavailable,
    ];

    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            EnrolmentFault::Invalid => "invalid",
            EnrolmentFault::UnknownToken => "unknown_token",
            EnrolmentFault::OtherVault => "other_vault",
            EnrolmentFault::Expired => "expired",
            EnrolmentFault::Revoked => "revoked",
            EnrolmentFault::UsedUp => "used_up",
            EnrolmentFault::Network => "network",
            EnrolmentFault::Jwt => "jwt",
            EnrolmentFault::NoJoiner => "no_joiner",
            EnrolmentFault::Signature => "signature",
            EnrolmentFault::Audience => "audience",
            EnrolmentFault::Time => "time",
            EnrolmentFault::Claims => "claims",
            EnrolmentFault::Reused => "reused",
            EnrolmentFault::Unavailable => "unavailable",
        }
    }
}

impl NotEnrolled {
    /// A refusal that tells its mistakes: the secret is good, or the form of the body is wrong.
    pub(super) fn invalid(mistakes: Vec<String>) -> NotEnrolled {
        NotEnrolled {
            refusal: Refusal::Invalid(mistakes.into()),
            cause: EnrolmentFault::Invalid,
        }
    }

    /// A refusal of the token or the JWT. Outside all of them look alike.
    pub(super) fn refused(cause: EnrolmentFault) -> NotEnrolled {
        NotEnrolled {
            refusal: Refusal::EnrolmentRefused,
            cause,
        }
    }

    /// The database or the keys of an issuer are away.
    pub(super) fn unavailable(fault: RegistryFault) -> NotEnrolled {
        NotEnrolled {
            refusal: Refusal::RegistryUnavailable(fault),
            cause: EnrolmentFault::Unavailable,
        }
    }
}
