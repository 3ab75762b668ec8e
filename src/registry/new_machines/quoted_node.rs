//! A node that no YAML parser made.

use std::borrow::Cow;

use crate::yaml::{Node, Value};

/// A scalar in quotes.
pub(super) fn text<'t>(line: usize, text: impl Into<Cow<'t, str>>) -> Node<'t> {
    Node {
        line,
        value: Value::Scalar {
            text: text.into(),
            is_plain: false,
        },
    }
}
