//! The bare way: requests on open routes, which anybody may make.

use crate::auth::message::BodyHash;
use crate::auth::method::Method;
use crate::auth::refusal::Refusal;
use crate::auth::target::SignedTarget;
use crate::gateway::Gateway;
use crate::gateway::record::decision_record::Facts;

/// A well-formed request on an open route. Nothing is known of who sent it: it holds no machine and
/// no signature, so nothing built from it can name one, and no way leads from here to a
/// [`Recorded`](crate::gateway::record::authorized::Recorded), which alone gets an identity or a credential.
#[derive(Debug)]
pub(crate) struct Open {
    method: String,
    target: String,
}

/// An open request whose audit record has been written.
#[derive(Debug)]
pub(crate) struct OpenRecorded(Open);

impl Open {
    pub(crate) fn new(method: Method<'_>, target: SignedTarget<'_>) -> Open {
        Open {
            method: method.as_str().to_owned(),
            target: target.to_string(),
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    ///
    /// [`Refusal::AuditUnavailable`] where it was not written in time.
    pub(crate) async fn record(
        self,
        gateway: &Gateway,
        facts: Facts<'_>,
        body: &BodyHash,
    ) -> Result<OpenRecorded, Refusal> {
        match gateway.record_open(facts, body).await {
            Ok(_receipt) => Ok(OpenRecorded(self)),
            Err(_) => Err(Refusal::AuditUnavailable),
        }
    }
}

impl OpenRecorded {
    /// The method as sent.
    pub(crate) fn method(&self) -> &str {
        &self.0.method
    }

    /// The target as it crosses.
    pub(crate) fn target(&self) -> &str {
        &self.0.target
    }
}
