//! The way of the move: requests that nobody signed, or not well, on routes that still let them
//! pass as the client sent them.

use crate::audit::TokenHash;
use crate::auth::message::BodyHash;
use crate::auth::method::Method;
use crate::auth::refusal::{Code, Refusal};
use crate::auth::target::Target;
use crate::gateway::Gateway;
use crate::gateway::receive::refuse::Stop;
use crate::gateway::record::decision_record::Facts;
use crate::metrics::Auth;

/// A well-formed request without a signature to go by. Like [`Open`](crate::gateway::decide::open::Open) it holds no
/// machine, and no way leads from here to a [`Recorded`](crate::gateway::record::authorized::Recorded), which alone gets
/// an identity or an injected credential: what it may do, the backend decides by the credential that
/// the client itself sent.
#[derive(Debug)]
pub(crate) struct Unsigned {
    method: String,
    /// With the query: nobody signed either.
    target: String,
    token: Option<TokenHash>,
}

/// Why such a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grounds {
    /// The route takes bearer credentials until a date, and it carries one.
    Bearer,
    /// The route is observed.
    Observed {
        /// What enforcing would have refused it with.
        code: Code,
        /// Where the signature is wrong: whether the machine is known. For the record alone.
        machine_known: Option<bool>,
    },
}

impl Grounds {
    /// The route is observed, and enforcing would stop the request so.
    pub(crate) fn observed(stop: &Stop) -> Grounds {
        Grounds::Observed {
            code: stop.refusal().code(),
            machine_known: stop.machine_known(),
        }
    }
}

/// An unsigned request whose audit record has been written.
#[derive(Debug)]
pub(crate) struct UnsignedRecorded {
    request: Unsigned,
    grounds: Grounds,
}

impl Unsigned {
    /// A request for `target`, which carries the bearer credential of this name, if it carries one.
    pub(crate) fn new(
        method: Method<'_>,
        target: Target<'_>,
        token: Option<TokenHash>,
    ) -> Unsigned {
        Unsigned {
            method: method.as_str().to_owned(),
            target: target.to_string(),
            token,
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    ///
    /// [`Refusal::AuditUnavailable`] where it was not written in time.
    pub(crate) async fn record(
        self,
        grounds: Grounds,
        gateway: &Gateway,
        facts: Facts<'_>,
        body: &BodyHash,
    ) -> Result<UnsignedRecorded, Refusal> {
        let written = (gateway.record_unsigned(facts, body, self.token, grounds)).await;
        match written {
            Ok(_receipt) => Ok(UnsignedRecorded {
                request: self,
                grounds,
            }),
            Err(_) => Err(Refusal::AuditUnavailable),
        }
    }
}

impl UnsignedRecorded {
    /// The method as sent.
    pub(crate) fn method(&self) -> &str {
        &self.request.method
    }

    /// The target as sent, less what the route strips of its path.
    pub(crate) fn target(&self) -> &str {
        &self.request.target
    }

    /// Why it may pass.
    pub(crate) fn grounds(&self) -> Grounds {
        self.grounds
    }

    /// The name of its bearer token, if it carries one.
    pub(crate) fn token(&self) -> Option<TokenHash> {
        self.request.token
    }

    /// What it had to show.
    pub(crate) fn auth(&self) -> Auth {
        match self.request.token {
            Some(_) => Auth::Bearer,
            None => Auth::None,
        }
    }
}
