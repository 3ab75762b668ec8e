//! The permit to forward.

use crate::auth::decision::{Denied, Signed};
use crate::auth::refusal::Refusal;
use crate::gateway::Gateway;
use crate::gateway::decide::policy::Permitted;
use crate::gateway::record::decision_record::Facts;
use crate::gateway::upstream::credentials::Injection;

/// A permitted request whose audit record has been written. The upstream side can be stamped with
/// an identity, and given the backend's credential, only by who holds one of these; and the one
/// way to make one writes the record of that very request.
#[derive(Debug)]
pub(crate) struct Recorded(Permitted);

impl Recorded {
    /// Writes the record.
    ///
    /// # Errors
    ///
    /// [`Refusal::AuditUnavailable`] where it was not written in time.
    pub(crate) async fn write(
        permitted: Permitted,
        gateway: &Gateway,
        facts: Facts<'_>,
    ) -> Result<Recorded, Box<Denied>> {
        match gateway.record_accepted(permitted.signed(), facts).await {
            Ok(_receipt) => Ok(Recorded(permitted)),
            Err(_) => Err(permitted.deny(Refusal::AuditUnavailable)),
        }
    }

    /// The credential it carries.
    pub(crate) fn injection(&self) -> Option<&Injection> {
        self.0.injection()
    }

    /// What was signed, and by whom.
    pub(crate) fn signed(&self) -> &Signed {
        self.0.signed()
    }
}
