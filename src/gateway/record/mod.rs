//! The record: a request may be forwarded only once its decision has been written down.

pub(crate) mod authorized;
pub(crate) mod decision_record;
