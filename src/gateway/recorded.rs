//! The permit to forward.

use crate::audit::Receipt;
use crate::auth::decision::{Admitted, Signed};

/// An admitted request whose audit record has been written. The upstream side can be stamped with
/// an identity, and given the backend's credential, only by who holds one of these; and nobody
/// can make one without both proofs.
#[derive(Debug)]
pub(super) struct Recorded {
    admitted: Admitted,
    _receipt: Receipt,
}

impl Recorded {
    pub(super) fn new(admitted: Admitted, receipt: Receipt) -> Recorded {
        Recorded {
            admitted,
            _receipt: receipt,
        }
    }

    /// What was signed, and by whom.
    pub(super) fn signed(&self) -> &Signed {
        self.admitted.signed()
    }
}
