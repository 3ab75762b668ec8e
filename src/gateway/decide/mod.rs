//! The decision: every check between a request that has been read and one that may pass.

pub(crate) mod bearer;
pub(crate) mod decider;
pub(crate) mod explain;
pub(crate) mod open;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod quotas;
pub(crate) mod route_match;
pub(crate) mod throttle;
pub(crate) mod unsigned;
