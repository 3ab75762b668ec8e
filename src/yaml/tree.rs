//! YAML text as a tree with line numbers. The tree keeps every scalar as text: the key that
//! takes a value decides its type.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::syntax::{self, ALIAS, SyntaxError};

/// Deepest nesting accepted. The configuration needs six levels. The bound protects the stack from
/// the recursion here and in the reader.
const MAX_DEPTH: usize = 16;

/// One value of the file and the line on which it starts.
#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) line: usize,
    pub(crate) value: Value<'t>,
}

#[derive(Debug)]
pub(crate) enum Value<'t> {
    /// Nothing written, `~` or `null`.
    Null,
    Scalar {
        text: Cow<'t, str>,
        /// Written without quotes.
        is_plain: bool,
    },
    List(Vec<Node<'t>>),
    /// The entries in the order of the file, repeated keys included: the reader, which knows the
    /// key's path, refuses those.
    Table(Vec<(Node<'t>, Node<'t>)>),
    /// YAML that this dialect does not have; the text says what to do.
    Unsupported(&'static str),
}

impl<'t> Node<'t> {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of the list here.
    pub(crate) fn items(&self) -> &[Node<'t>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The value under a key of the table here; the last one of repeated keys.
    pub(crate) fn entry(&self, key: &str) -> Option<&Node<'t>> {
        let Value::Table(entries) = &self.value else {
            return None;
        };
        let mut last_first = entries.iter().rev();
        let found = last_first.find(|(name, _)| name.text() == Some(key));
        found.map(|(_, value)| value)
    }
}

/// Reads the one document in `text`; `None` if it is empty or null.
///
/// Aliases are kept as [`Value::Unsupported`] and never followed: a file cannot grow in memory
/// beyond what is written in it.
pub(crate) fn parse(text: &str) -> Result<Option<Node<'_>>, SyntaxError> {
    syntax::refuse_control_characters(text)?;
    let document = document(text).map_err(|error| error.in_text(text))?;
    Ok(document.filter(|root| !matches!(root.value, Value::Null)))
}

fn document(text: &str) -> Result<Option<Node<'_>>, SyntaxError> {
    let mut builder = Builder {
        events: Parser::new_from_str(text),
    };
    let mut document = None;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => return Ok(document),
            Event::DocumentStart(_) if document.is_some() => {
                return Err(SyntaxError {
                    line: span.start.line(),
                    text: "a second document starts here; the file must be one document".into(),
                });
            }
            Event::DocumentStart(_) => {
                let (event, span) = builder.next()?;
                document = Some(builder.node(event, span, 0)?);
            }
            _ => {}
        }
    }
}

struct Builder<'text> {
    events: Parser<'text, StrInput<'text>>,
}

impl<'text> Builder<'text> {
    fn next(&mut self) -> Result<(Event<'text>, Span), SyntaxError> {
        match self.events.next_event() {
            Some(event) => event.map_err(SyntaxError::from),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(
        &mut self,
        event: Event<'text>,
        span: Span,
        depth: usize,
    ) -> Result<Node<'text>, SyntaxError> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(SyntaxError {
                line,
                text: format!("is nested more than {MAX_DEPTH} levels deep"),
            });
        }
        let unsupported = unsupported(&event);
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Table(self.table(depth)?),
            _ => Value::Null,
        };
        let value = unsupported.map_or(value, Value::Unsupported);
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node<'text>>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Vec<(Node<'text>, Node<'text>)>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => return Ok(entries),
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            if matches!(value.value, Value::Null) {
                // An empty value starts where the next token does; people look at the key.
                value.line = key.line;
            }
            entries.push((key, value));
        }
    }
}

/// The YAML that this dialect refuses, with the next step. An alias could make a small file large,
/// and hides a value from a reader of its key; a tag changes what a value means; an anchor serves
/// aliases only.
fn unsupported(event: &Event<'_>) -> Option<&'static str> {
    match event {
        Event::Alias(_) => Some(ALIAS),
        Event::Scalar(_, _, anchor, tag)
        | Event::SequenceStart(anchor, tag)
        | Event::MappingStart(anchor, tag) => match (anchor, tag) {
            (_, Some(_)) => Some("has a tag (!), which is not supported; remove it"),
            (1.., None) => Some("has an anchor (&), which is not supported; remove it"),
            (0, None) => None,
        },
        _ => None,
    }
}

/// Only an unquoted scalar can be null (YAML 1.2.2, section 10.2.1.1).
fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    let is_plain = style == ScalarStyle::Plain;
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" if is_plain => Value::Null,
        _ => Value::Scalar { text, is_plain },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod tests {
    use super::*;

    fn table(text: &str) -> Vec<(Node<'_>, Node<'_>)> {
        match parse(text).unwrap().unwrap().value {
            Value::Table(entries) => entries,
            other => panic!("not a table: {other:?}"),
        }
    }

    #[test]
    fn an_empty_text_has_no_document() {
        assert!(parse("").unwrap().is_none());
        assert!(parse("# only a comment\n").unwrap().is_none());
    }

    #[test]
    fn values_know_their_lines() {
        let entries = table("# top\na: 1\nb:\n  - x\n");
        assert_eq!(entries[0].1.line, 2);
        assert_eq!(entries[1].0.line, 3);
        assert_eq!(entries[1].1.line, 4);
    }

    #[test]
    fn an_empty_value_is_on_the_line_of_its_key() {
        let entries = table("a:\n\n\nb: 1\n");
        assert!(matches!(entries[0].1.value, Value::Null));
        assert_eq!(entries[0].1.line, 1);
    }

    #[test]
    fn a_quoted_null_is_text() {
        let entries = table("a: 'null'\n");
        assert!(entries[0].1.text() == Some("null"));
    }

    #[test]
    fn repeated_keys_are_kept_for_the_reader_to_refuse() {
        assert_eq!(table("a: 1\na: 2\n").len(), 2);
    }

    #[test]
    fn a_second_document_is_an_error_at_its_line() {
        let error = parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.text.contains("second document"));
    }

    #[test]
    fn broken_yaml_is_an_error_at_its_line() {
        assert_eq!(parse("a: 1\nb: [1, 2\n").map(|_| ()).unwrap_err().line, 3);
    }

    #[test]
    fn an_alias_is_not_followed() {
        let entries = table("a: &x [1, 2]\nb: *x\n");
        assert!(matches!(entries[1].1.value, Value::Unsupported(_)));
    }

    #[test]
    fn an_anchor_is_not_supported() {
        for text in ["a: &x 1\n", "a: &x [1]\n", "a: &x { b: 1 }\n"] {
            let value = &table(text)[0].1.value;
            assert!(
                matches!(value, Value::Unsupported(why) if why.contains("anchor")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_tag_is_not_supported() {
        let entries = table("a: !!int 3\n");
        assert!(matches!(entries[0].1.value, Value::Unsupported(_)));
    }

    #[test]
    fn deep_nesting_is_an_error_whether_in_lines_or_brackets() {
        for text in ["[".repeat(50_000), "- ".repeat(50_000), "? ".repeat(50_000)] {
            assert!(parse(&text).is_err());
        }
    }
}
