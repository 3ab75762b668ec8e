//! The fixed word of a refusal, and the HTTP status it is sent with.

/// The fixed word for a refusal: the `code` of the body, of the audit record, and of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(
    missing_docs,
    reason = "each is the code of the Refusal of the same name"
)]
pub enum Code {
    BadRequest,
    BadTarget,
    HeaderNotForwarded,
    QueryNotAllowed,
    MethodNotAllowed,
    HeaderTooLarge,
    BodyTooLarge,
    RequestTimeout,
    MissingHeader,
    MalformedHeader,
    ClockSkew,
    BadSignature,
    Replayed,
    MachineDisabled,
    MachineExpired,
    NotPermitted,
    NoRoute,
    EnrolmentRefused,
    Invalid,
    NoMachine,
    Exists,
    RegistryUnavailable,
    Throttled,
    ReplayUnavailable,
    AuditUnavailable,
    Overloaded,
    NotReady,
    UpstreamCredential,
    UpstreamUnreachable,
    UpstreamTimeout,
    UpstreamError,
    Internal,
}

impl Code {
    /// Every code, in the order of the enum, so that `Code::ALL[code as usize] == code`.
    pub const ALL: [Code; 32] = [
        Code::BadRequest,
        Code::BadTarget,
        Code::HeaderNotForwarded,
        Code::QueryNotAllowed,
        Code::MethodNotAllowed,
        Code::HeaderTooLarge,
        Code::BodyTooLarge,
        Code::RequestTimeout,
        Code::MissingHeader,
        Code::MalformedHeader,
        Code::ClockSkew,
        Code::BadSignature,
        Code::Replayed,
        Code::MachineDisabled,
        Code::MachineExpired,
        Code::NotPermitted,
        Code::NoRoute,
        Code::EnrolmentRefused,
        Code::Invalid,
        Code::NoMachine,
        Code::Exists,
        Code::RegistryUnavailable,
        Code::Throttled,
        Code::ReplayUnavailable,
        Code::AuditUnavailable,
        Code::Overloaded,
        Code::NotReady,
        Code::UpstreamCredential,
        Code::UpstreamUnreachable,
        Code::UpstreamTimeout,
        Code::UpstreamError,
        Code::Internal,
    ];

    /// The word itself, and the HTTP status it is sent with.
    const fn word_and_status(self) -> (&'static str, u16) {
        match self {
            Code::BadRequest => ("bad_request", 400),
            Code::BadTarget => ("bad_target", 400),
            Code::HeaderNotForwarded => ("header_not_forwarded", 400),
            Code::QueryNotAllowed => ("query_not_allowed", 400),
            Code::MethodNotAllowed => ("method_not_allowed", 405),
            Code::HeaderTooLarge => ("header_too_large", 431),
            Code::BodyTooLarge => ("body_too_large", 413),
            Code::RequestTimeout => ("request_timeout", 408),
            Code::MissingHeader => ("missing_header", 401),
            Code::MalformedHeader => ("malformed_header", 401),
            Code::ClockSkew => ("clock_skew", 401),
            Code::BadSignature => ("bad_signature", 401),
            Code::Replayed => ("replayed", 401),
            Code::MachineDisabled => ("machine_disabled", 403),
            Code::MachineExpired => ("machine_expired", 403),
            Code::NotPermitted => ("not_permitted", 403),
            Code::NoRoute => ("no_route", 404),
            Code::EnrolmentRefused => ("enrolment_refused", 401),
            Code::Invalid => ("invalid", 422),
            Code::NoMachine => ("no_machine", 404),
            Code::Exists => ("exists", 409),
            Code::RegistryUnavailable => ("registry_unavailable", 503),
            Code::Throttled => ("throttled", 429),
            Code::ReplayUnavailable => ("replay_unavailable", 503),
            Code::AuditUnavailable => ("audit_unavailable", 503),
            Code::Overloaded => ("overloaded", 503),
            Code::NotReady => ("not_ready", 503),
            Code::UpstreamCredential => ("upstream_credential", 503),
            Code::UpstreamUnreachable => ("upstream_unreachable", 502),
            Code::UpstreamTimeout => ("upstream_timeout", 504),
            Code::UpstreamError => ("upstream_error", 502),
            Code::Internal => ("internal", 500),
        }
    }

    /// The code of a word; `None` if this version has no such code.
    pub fn parse(word: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// The word, as in the response body, the audit record and the metric label.
    pub const fn as_str(self) -> &'static str {
        self.word_and_status().0
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.word_and_status().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_lists_every_code_at_its_own_index() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index);
        }
        // `Internal` stays the last variant: one after it would be missing from ALL unnoticed.
        assert_eq!(Code::ALL.len(), Code::Internal as usize + 1);
    }

    #[test]
    fn every_code_has_a_word_of_its_own() {
        let words: HashSet<_> = Code::ALL.into_iter().map(Code::as_str).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_eq!(Code::parse("Replayed"), None);
        assert!(
            words
                .iter()
                .all(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
    }

    #[test]
    fn faults_of_the_gateway_are_never_401_403_or_404() {
        // Clients give up for good on those, and retry 503.
        for code in [
            Code::RegistryUnavailable,
            Code::ReplayUnavailable,
            Code::AuditUnavailable,
            Code::Overloaded,
            Code::NotReady,
            Code::UpstreamCredential,
            Code::UpstreamUnreachable,
            Code::UpstreamTimeout,
            Code::UpstreamError,
            Code::Internal,
        ] {
            assert!(code.status() >= 500, "{code:?}");
        }
    }
}
