//! Reads the dialect of YAML in which the configuration and the registry are written.
//!
//! A text becomes a tree with line numbers (`tree`). The `reader` takes values out of the
//! tree, by the types of plain scalars (`scalar`), and notes every mistake at its `path`
//! (`mistakes`). Anchors, aliases, tags, repeated keys, unknown keys and a second document are
//! mistakes in both files.

mod document;
mod json;
mod mistakes;
mod path;
mod reader;
mod scalar;
mod syntax;
mod tree;
mod words;

pub use mistakes::{Finding, Mistakes};

pub(crate) use countersign_client::quoted::quoted;
pub(crate) use document::{document, not_text, text_of};
pub(crate) use mistakes::Notes;
pub(crate) use reader::{Field, Table};
pub(crate) use scalar::{is_decimal, whole};
pub(crate) use tree::Node;
pub(crate) use words::{did_you_mean, one_of};
