//! What stands under a key of an entry, read as what it must be.

use serde::de::IgnoredAny;

use super::mistakes::quoted;
use super::node::{Item, Node, Small};
use super::parse::{Field, Key, RawEntry, Strange};
use super::report::{At, Report};
use crate::config::{did_you_mean, instant};

/// Tells of the keys that have no business in an entry.
pub(super) fn strange(report: &mut Report<'_>, at: At, raw: &RawEntry) {
    let known: Vec<&str> = at.section.keys().iter().map(|key| key.as_str()).collect();
    for strange in &raw.strange {
        let text = describe(strange, &known);
        report.entry(at, text);
    }
    for key in raw.misplaced(at.section) {
        let strange = Strange::Unknown(key.as_str().to_owned());
        report.field(at, key, describe(&strange, &known));
    }
}

/// What is wrong with a key that has no business where it stands.
pub(super) fn describe(strange: &Strange, known: &[&str]) -> String {
    match strange {
        Strange::Unknown(key) => match did_you_mean(key, known.iter().copied()) {
            none if none.is_empty() => format!(
                "the key {} is not known here, and what it asks for would not be done; known: {}",
                quoted(key),
                known.join(", ")
            ),
            hint => format!("the key {} is not known here{hint}", quoted(key)),
        },
        Strange::Repeated(key) => format!("the key {key:?} is given twice; remove one"),
    }
}

/// A text; `None`, and a mistake, for anything else.
pub(super) fn text<'r>(
    report: &mut Report<'_>,
    at: At,
    key: Key,
    field: &'r Field,
) -> Option<&'r str> {
    as_text(field)
        .map_err(|problem| report.field(at, key, problem.into()))
        .ok()
}

/// An instant, in Unix seconds; `None` where the key is missing, or with a mistake.
pub(super) fn instant(report: &mut Report<'_>, at: At, raw: &RawEntry, key: Key) -> Option<u64> {
    let text = text(report, at, key, raw.get(key)?)?;
    as_instant(text)
        .map_err(|problem| report.field(at, key, problem))
        .ok()
}

fn as_instant(text: &str) -> Result<u64, String> {
    instant::to_unix_seconds(text).ok_or_else(|| format!("it must be {}", instant::EXPECTED))
}

/// The items of a list, at least one and at most `most` of them; `None`, and a mistake, for anything else.
pub(super) fn list<'r>(
    report: &mut Report<'_>,
    at: At,
    key: Key,
    field: &'r Field,
    most: usize,
    expected: &str,
) -> Option<&'r [Node<IgnoredAny, Small>]> {
    let problem = match field {
        Node::List(list) if list.count > most => {
            format!("{} of them are too many; there may be {most}", list.count)
        }
        Node::List(list) if list.count > 0 => return Some(&list.items),
        Node::List(_) => format!("the list is empty; {expected}"),
        _ => format!("it must be a list; {expected}"),
    };
    report.field(at, key, problem);
    None
}

/// A value that is text, and if not, what to say.
pub(super) fn as_text<L, M>(value: &Node<L, M>) -> Result<&str, &'static str> {
    match value {
        Node::Text(text) => Ok(text),
        Node::Nothing => Err("there is nothing after the colon; write a value or remove the key"),
        Node::Bool(_) | Node::Number(_) => {
            Err("YAML reads it as a number or a truth value; put it in quotes")
        }
        Node::LongText => Err("it is far too long"),
        Node::Tagged | Node::List(_) | Node::Mapping(_) => Err("it must be a text"),
    }
}

impl Small {
    /// The values under `known` keys, in that order.
    ///
    /// # Errors
    ///
    /// The first key that is not known, or is there twice.
    pub(super) fn take<const N: usize>(
        &self,
        known: [&'static str; N],
    ) -> Result<[Option<&Item>; N], String> {
        let mut taken = [None; N];
        for (key, value) in &self.0 {
            let place = match key {
                Node::Text(key) => known.iter().position(|known| **known == **key),
                _ => None,
            };
            let strange = match place {
                Some(place) if taken[place].is_none() => {
                    taken[place] = Some(value);
                    continue;
                }
                Some(place) => Strange::Repeated(known[place]),
                None => Strange::Unknown(match key {
                    Node::Text(key) => key.clone().into(),
                    _ => "a key that is not a word".to_owned(),
                }),
            };
            return Err(describe(&strange, &known));
        }
        Ok(taken)
    }
}

/// An instant in a [`Small`] mapping.
///
/// # Errors
///
/// What is wrong, with the key.
pub(super) fn small_instant(key: &str, value: Option<&Item>) -> Result<Option<u64>, String> {
    let Some(value) = value else { return Ok(None) };
    let seconds = as_text(value).map_err(str::to_owned).and_then(as_instant);
    seconds
        .map(Some)
        .map_err(|problem| format!("{key}: {problem}"))
}
