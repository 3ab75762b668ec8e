//! A refusal, with what the checks found out about the sender before it.

use countersign_core::decision::{Denied, Unproved};
use countersign_core::refusal::Refusal;

/// A refusal, with what the checks found out about the sender.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// No signature was verified: the sender is unknown.
    Unverified(Refusal),
    /// The signature was checked and is wrong: the sender is unknown.
    Unproved(Unproved),
    /// The signature is good: the sender is known.
    Denied(Box<Denied>),
}

impl Rejection {
    pub(crate) fn refusal(&self) -> &Refusal {
        match self {
            Rejection::Unverified(refusal) => refusal,
            Rejection::Unproved(_) => &Refusal::BadSignature,
            Rejection::Denied(denied) => &denied.refusal,
        }
    }

    /// Whether the machine that a wrong signature names is known, for the record alone.
    pub(crate) fn machine_known(&self) -> Option<bool> {
        match self {
            Rejection::Unproved(unproved) => Some(unproved.machine_known),
            Rejection::Unverified(_) | Rejection::Denied(_) => None,
        }
    }
}

impl From<Unproved> for Rejection {
    fn from(unproved: Unproved) -> Rejection {
        Rejection::Unproved(unproved)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Rejection {
        Rejection::Unverified(refusal)
    }
}

impl From<Box<Denied>> for Rejection {
    fn from(denied: Box<Denied>) -> Rejection {
        Rejection::Denied(denied)
    }
}
