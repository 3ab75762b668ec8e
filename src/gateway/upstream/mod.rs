//! The backends: their servers, with connections and health, and the secrets that requests carry to
//! them: credentials of the configuration, and tokens of machines that the gateway logs in.

mod acceptance;
pub(crate) mod assertion;
pub(crate) mod credentials;
pub(crate) mod login;
mod own_request;
pub(crate) mod pool;
pub(crate) mod report;

/// Most interim responses (RFC 9110, section 15.2) before the final one. They are not passed on.
pub(crate) const MOST_INTERIM: usize = 32;
