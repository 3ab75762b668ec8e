//! The backends: their servers, with connections and health, and the credentials that requests
//! carry to them.

pub(crate) mod credentials;
pub(crate) mod pool;
