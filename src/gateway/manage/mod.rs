//! The calls that manage the registry: answered here, in place of forwarding.

mod calls;
mod changes;
mod machines;
pub(crate) mod manager;
mod tokens;
