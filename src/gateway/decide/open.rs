//! Requests on open routes, which need no signature.

use countersign_core::method::Method;
use countersign_core::target::SignedTarget;

/// A well-formed request on an open route. Its sender is unknown: it holds no machine and no
/// signature, so no request built from it can name an identity or carry a credential of the
/// gateway.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    method: String,
    target: String,
}

impl OpenRequest {
    pub(super) fn new(method: Method<'_>, target: SignedTarget<'_>) -> OpenRequest {
        OpenRequest {
            method: method.as_str().to_owned(),
            target: target.to_string(),
        }
    }

    /// The method as sent.
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// The target as it is forwarded.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }
}
