//! The record: a request may be forwarded only once its decision has been written to the audit log.

pub(crate) mod authorized;
pub(crate) mod enrolment;
pub(crate) mod outcome;
pub(crate) mod recorder;
