//! Requests on migration routes: `observe` and `bearer_until` let requests without a valid
//! signature pass, as the client sent them, until a date.

use crate::audit::TokenHash;
use crate::gateway::decide::rejection::Rejection;
use crate::metrics::Auth;
use countersign_core::method::Method;
use countersign_core::refusal::Code;
use countersign_core::target::Target;

/// A well-formed request without a valid signature. Like
/// [`OpenRequest`](crate::gateway::decide::open::OpenRequest) it holds no machine, so no request
/// built from it can name an identity or carry a credential of the gateway. The backend decides by
/// the credential that the client itself sent.
#[derive(Debug)]
pub(crate) struct UnsignedRequest {
    method: String,
    /// With the query, which no signature covers either.
    target: String,
    token: Option<TokenHash>,
}

/// Why such a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassReason {
    /// The route accepts bearer credentials until a date, and the request carries one.
    Bearer,
    /// The route is observed.
    Observed {
        /// The code with which an enforcing route would have refused the request.
        code: Code,
        /// Where the signature is wrong: whether the machine is known. For the record alone.
        machine_known: Option<bool>,
    },
}

impl PassReason {
    /// The route is observed, and an enforcing one would have rejected the request so.
    pub(super) fn observed(rejection: &Rejection) -> PassReason {
        PassReason::Observed {
            code: rejection.refusal().code(),
            machine_known: rejection.machine_known(),
        }
    }
}

impl UnsignedRequest {
    /// A request for `target`; `token` names the bearer credential that it carries, if any.
    pub(super) fn new(
        method: Method<'_>,
        target: Target<'_>,
        token: Option<TokenHash>,
    ) -> UnsignedRequest {
        UnsignedRequest {
            method: method.as_str().to_owned(),
            target: target.to_string(),
            token,
        }
    }

    /// The method as sent.
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// The target as sent, without the prefix that the route strips.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The name of its bearer token, if it carries one.
    pub(crate) fn token(&self) -> Option<TokenHash> {
        self.token
    }

    /// How it authenticates to the backend.
    pub(crate) fn auth(&self) -> Auth {
        match self.token {
            Some(_) => Auth::Bearer,
            None => Auth::None,
        }
    }
}
