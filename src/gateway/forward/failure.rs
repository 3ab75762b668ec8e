//! The failures of forwarding, and the refusal that the client gets for each.

use pingora::{Error, ErrorSource, ErrorType};

use countersign_core::refusal::Refusal;

/// Why a request has no response, or only part of one.
#[derive(Debug)]
pub(super) struct ForwardFailure {
    pub(super) error: Box<Error>,
    /// A server may have received part of the request.
    sent: bool,
    /// The refusal by which the gateway replaced the backend's response.
    replaced_by: Option<Refusal>,
}

impl ForwardFailure {
    /// Nothing of the request has left the gateway.
    pub(super) fn unsent(error: Box<Error>) -> ForwardFailure {
        ForwardFailure {
            error,
            sent: false,
            replaced_by: None,
        }
    }

    /// Nothing has left the gateway, and the client gets this refusal.
    pub(super) fn refused(refusal: Refusal, why: &'static str) -> ForwardFailure {
        ForwardFailure {
            error: Error::explain(ErrorType::InternalError, why),
            sent: false,
            replaced_by: Some(refusal),
        }
    }

    pub(super) fn sent(error: Box<Error>) -> ForwardFailure {
        ForwardFailure {
            error,
            sent: true,
            replaced_by: None,
        }
    }

    /// No byte has moved for too long, while the request was being sent or after it.
    pub(super) fn stalled(sending: bool) -> ForwardFailure {
        let (kind, what) = match sending {
            true => (
                ErrorType::WriteTimedout,
                "the server takes no more of the request",
            ),
            false => (ErrorType::ReadTimedout, "the server does not answer"),
        };
        ForwardFailure::sent(Error::explain(kind, what).into_up())
    }

    /// The backend has answered, and the client gets a refusal instead of the response.
    pub(super) fn replaced(refusal: Refusal, why: &'static str) -> ForwardFailure {
        ForwardFailure {
            error: Error::explain(ErrorType::InvalidHTTPHeader, why).into_up(),
            sent: true,
            replaced_by: Some(refusal),
        }
    }

    /// Whether the server, or the way there, is to blame.
    fn is_of_server(&self) -> bool {
        self.replaced_by.is_none() && *self.error.esource() == ErrorSource::Upstream
    }

    pub(super) fn is_timeout_of_server(&self) -> bool {
        let kind = self.error.etype();
        self.is_of_server() && matches!(kind, ErrorType::ReadTimedout | ErrorType::WriteTimedout)
    }

    /// The refusal for the client; `None` where the client has gone. Once part of the request may
    /// have been sent, no refusal may say that it was not.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        use ErrorType::{
            ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused, ConnectTimedout,
            InvalidCert, ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
            WriteTimedout,
        };
        if let Some(refusal) = &self.replaced_by {
            return Some(refusal.clone());
        }
        match (self.error.esource(), self.error.etype()) {
            (ErrorSource::Downstream, _) => None,
            (
                _,
                ConnectError | ConnectNoRoute | ConnectProxyFailure | ConnectRefused
                | ConnectTimedout | InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout
                | SocketError,
            ) if !self.sent => Some(Refusal::UpstreamUnreachable),
            (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Refusal::UpstreamTimeout),
            (ErrorSource::Upstream, _) => Some(Refusal::UpstreamError),
            _ if self.sent => Some(Refusal::UpstreamError),
            (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::Internal),
        }
    }
}
