//! YAML as the configuration and the registry are written in it: one dialect, one reader, one list
//! of mistakes.
//!
//! [`tree`] parses the text into values that know their lines, [`reader`] takes typed values out of
//! them, and [`mistakes`] collects all that is wrong on the way.

pub(crate) mod mistakes;
pub(crate) mod reader;
pub(crate) mod tree;

pub use mistakes::{Finding, Mistakes};
