//! The calls that enrol a machine: answered here, in place of forwarding. They are the one thing
//! that the gateway does for somebody who has signed nothing that it knows.

mod answer;
pub(crate) mod enrolments;
