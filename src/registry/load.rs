//! From the bytes of a file to a registry, or to the list of what is wrong with them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::fields;
use super::keys::{self, CheckKey};
use super::mistakes::Mistakes;
use super::node::Node;
use super::parse::{self, Entry, Section};
use super::removed::Tombstone;
use super::report::Report;
use super::values::describe;
use super::{ById, Registry};
use crate::auth::identity::MachineKey;

/// Largest registry file, in bytes: a third of a million machines with every field. While it is read, YAML takes
/// some thirteen times its text in memory (measured), so this is also what keeps a wrong file name from
/// taking the gateway down.
pub const MAX_FILE: u64 = 64 << 20;

/// The contents of a registry file.
///
/// # Errors
///
/// One mistake: it cannot be read, is no regular file, is larger than [`MAX_FILE`], or changed while it was read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Mistakes> {
    let refuse = |text: String| Mistakes::only(path, None, text);
    let unreadable = |error: std::io::Error| refuse(format!("the file cannot be read: {error}"));
    // Opening a pipe would wait for its writer, so the kind comes first.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    let mut bytes = Vec::new();
    (&file)
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refuse(format!(
            "the file is larger than {} MiB; is it a registry?",
            MAX_FILE >> 20
        )));
    }
    let after = file.metadata().map_err(unreadable)?;
    if before.modified().ok() != after.modified().ok() || before.len() != after.len() {
        return Err(refuse(
            "the file changed while it was read; replace it in one step (write another file, then rename it)".into(),
        ));
    }
    Ok(bytes)
}

/// Builds a registry from the contents of `file`. Machines and keys that `previous` holds are shared with it.
///
/// # Errors
///
/// All the mistakes. One is enough to refuse the whole file: half a registry locks machines out, or
/// leaves a revoked one in.
pub(super) fn build(
    file: &Path,
    bytes: &[u8],
    previous: Option<&Registry>,
    check_key: &CheckKey<'_>,
) -> Result<Registry, Mistakes> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        Mistakes::only(file, Some(line), "the file is not UTF-8 text")
    })?;
    let document = parse::parse(text).map_err(|error| {
        let line = error.location().map(|place| place.line());
        Mistakes::only(file, line, format!("the file is not usable YAML: {error}"))
    })?;
    let (lists, strange) = lists(file, document)?;
    let entries = lists.each_ref().map(Vec::as_slice);

    let mut report = Report::new(file, text, entries);
    for strange in &strange {
        report.file(describe(strange, KNOWN));
    }
    let fields = fields::check(entries, &mut report);
    let keys = keys::check(&fields.claims, previous, check_key, &mut report);
    report.finish()?;

    let machines = fields.drafts.into_iter().map(|draft| {
        let mut machine = draft.machine;
        let with_dates = |at: usize| {
            keys[at].map(|public| MachineKey {
                public,
                validity: fields.claims[at].validity,
            })
        };
        machine.keys = draft.claims.filter_map(with_dates).collect();
        match previous.and_then(|previous| previous.find(machine.id.as_str())) {
            Some(same) if **same == machine => ById(same.clone()),
            _ => ById(machine.into()),
        }
    });
    let machines = machines.collect();
    let removed = fields.removed.into_iter().map(|buried| Tombstone {
        id: buried.id,
        at: buried.at,
        keys: (fields.claims[buried.claims].iter())
            .map(|claim| claim.key)
            .collect(),
    });
    Ok(Registry {
        machines,
        groups: fields.groups,
        removed: removed.collect(),
        digest: Sha256::digest(bytes).into(),
    })
}

/// The keys of the document, for people.
const KNOWN: &str = "machines, groups, removed";

/// The items of each list, and the keys beside them that do not belong there.
fn lists(
    file: &Path,
    document: parse::File,
) -> Result<([Vec<Entry>; Section::ALL.len()], Vec<parse::Strange>), Mistakes> {
    const NONE: &str = "for a registry without machines write `machines: []`";
    let refuse = |text: String| Err(Mistakes::only(file, None, text));
    let top = match document {
        Node::Mapping(top) => top,
        Node::Nothing => return refuse(format!("the file is empty; {NONE}")),
        _ => return refuse("the file must be a mapping with the key `machines`".into()),
    };
    let mut problems = Vec::new();
    let mut lists = [const { Vec::new() }; Section::ALL.len()];
    for (section, found) in Section::ALL.into_iter().zip(top.sections) {
        let (name, is_required) = (section.as_str(), section == Section::Machines);
        problems.push(match found {
            Some(Node::List(list)) => {
                lists[section as usize] = list.0;
                continue;
            }
            None if !is_required => continue,
            None => format!("the key `{name}` is missing; {NONE}"),
            Some(Node::Nothing) if is_required => {
                format!("there is nothing under `{name}`; {NONE}")
            }
            Some(Node::Nothing) => format!("there is nothing under `{name}`; remove the key"),
            Some(_) if is_required => {
                format!("`{name}` must be a list, one `- id: ..` after the other")
            }
            Some(_) => format!("`{name}` must be a list"),
        });
    }
    if problems.is_empty() {
        return Ok((lists, top.strange));
    }
    problems.extend(top.strange.iter().map(|strange| describe(strange, KNOWN)));
    let mut mistakes = Mistakes::none_yet(file);
    for text in problems {
        mistakes.push(super::mistakes::Mistake {
            line: None,
            entry: None,
            key: None,
            text,
        });
    }
    Err(mistakes)
}
