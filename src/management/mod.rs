//! The calls that manage the registry: their paths and methods, what they take, and what they
//! answer. It is pure: it reads no socket, no clock and no database.
//!
//! [`call`] has the table of calls and finds the one of a request. [`query`] and [`body`] read what
//! a call takes, with every mistake. [`answer`] has what it gives back, which the command line reads
//! again. `docs/reference/management.yaml` describes the same for programs; a test compares the two.

pub mod answer;
pub mod body;
pub mod call;
mod json;
pub mod overlap;
pub mod query;
