//! The decision: every check between a request that has been read and one that may pass.

pub(crate) mod bearer;
pub(crate) mod decided_request;
pub(crate) mod decider;
pub(crate) mod explain;
pub(crate) mod forwarded_headers;
mod head_checks;
pub(crate) mod open;
pub(crate) mod policy;
mod rate_limits;
pub(crate) mod rejection;
pub(crate) mod route_match;
mod throttle;
pub(crate) mod unsigned;
