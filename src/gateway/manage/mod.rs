//! The calls that manage the registry: answered here, in place of forwarding.

mod changes;
mod machines;
pub(crate) mod manager;
mod tokens;
