//! The registry from the outside: a file in, machines or mistakes out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod fields;
mod keys;
mod policy;
mod removed;
mod scale;
mod yaml;
