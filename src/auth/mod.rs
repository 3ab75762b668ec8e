//! The decision core: pure values in, a verdict out.

pub mod headers;
pub mod identity;
pub mod refusal;
pub mod target;
