//! The label values: closed sets. Dashboards and alerts hold on to each word.

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend's answer went to the client.
    Forwarded,
    /// The gateway refused it; the backend heard nothing.
    Refused,
    /// It was let through, and no answer of the backend could be delivered.
    Failed,
    /// The backend's answer went to the client, though enforcing would have refused the request.
    Observed,
}

impl Outcome {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Outcome; 4] = [
        Outcome::Forwarded,
        Outcome::Refused,
        Outcome::Failed,
        Outcome::Observed,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Forwarded => "forwarded",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Observed => "observed",
        }
    }
}

/// The proof of the machine that a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A signature that verified.
    Signature,
    /// Nothing did.
    None,
    /// Nothing that the gateway can check: a bearer credential, which the backend may know.
    Bearer,
}

impl Auth {
    /// Every kind, in the order of the enum.
    pub const ALL: [Auth; 3] = [Auth::Signature, Auth::None, Auth::Bearer];

    /// The word in the label and in the audit record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Auth::Signature => "signature",
            Auth::None => "none",
            Auth::Bearer => "bearer",
        }
    }
}

/// The result of a look-up of the gateway's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialCheck {
    /// The backend takes it.
    Accepted,
    /// The backend does not.
    Refused,
    /// There was no answer, or one that tells neither.
    Unknown,
}

impl CredentialCheck {
    /// Every result, in the order of the enum.
    pub const ALL: [CredentialCheck; 3] = [
        CredentialCheck::Accepted,
        CredentialCheck::Refused,
        CredentialCheck::Unknown,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            CredentialCheck::Accepted => "accepted",
            CredentialCheck::Refused => "refused",
            CredentialCheck::Unknown => "unknown",
        }
    }
}

/// The result of a login of a machine at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// The backend gave a token.
    Accepted,
    /// The backend refused the login.
    Refused,
    /// There was no answer, or the backend is out of service.
    Unavailable,
    /// The answer holds no token that the gateway can use, or the login could not be made.
    Unusable,
}

impl LoginResult {
    /// Every result, in the order of the enum.
    pub const ALL: [LoginResult; 4] = [
        LoginResult::Accepted,
        LoginResult::Refused,
        LoginResult::Unavailable,
        LoginResult::Unusable,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            LoginResult::Accepted => "accepted",
            LoginResult::Refused => "refused",
            LoginResult::Unavailable => "unavailable",
            LoginResult::Unusable => "unusable",
        }
    }
}

/// The result of the revocation of a token that the gateway no longer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationResult {
    /// The backend revoked it, or knew it no more.
    Revoked,
    /// The backend refused.
    Refused,
    /// There was no answer, or the backend is out of service.
    Unavailable,
    /// It is a batch token, which cannot be revoked.
    Unsupported,
    /// Too many tokens waited.
    Dropped,
}

impl RevocationResult {
    /// Every result, in the order of the enum.
    pub const ALL: [RevocationResult; 5] = [
        RevocationResult::Revoked,
        RevocationResult::Refused,
        RevocationResult::Unavailable,
        RevocationResult::Unsupported,
        RevocationResult::Dropped,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            RevocationResult::Revoked => "revoked",
            RevocationResult::Refused => "refused",
            RevocationResult::Unavailable => "unavailable",
            RevocationResult::Unsupported => "unsupported",
            RevocationResult::Dropped => "dropped",
        }
    }
}

/// The result of writing an audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditResult {
    /// It was handed to the operating system.
    Written,
    /// It could not be written; a request that depended on it was refused.
    Failed,
    /// The record of a refusal or of the registry was left out, because the queue was too full.
    Dropped,
    /// A response line was left out or could not be written. Its decision was recorded before.
    ResponseLost,
}

impl AuditResult {
    /// Every result, in the order of the enum.
    pub const ALL: [AuditResult; 4] = [
        AuditResult::Written,
        AuditResult::Failed,
        AuditResult::Dropped,
        AuditResult::ResponseLost,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditResult::Written => "written",
            AuditResult::Failed => "failed",
            AuditResult::Dropped => "dropped",
            AuditResult::ResponseLost => "response_lost",
        }
    }
}
