//! The backends: their servers, with connections and health, and the credentials that requests
//! carry to them.

pub(crate) mod credentials;
pub(crate) mod pool;

/// Most interim responses (RFC 9110, section 15.2) before the final one. They are not passed on.
pub(crate) const MOST_INTERIM: usize = 32;
