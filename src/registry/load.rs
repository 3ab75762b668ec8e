//! From the bytes of a file to a registry, or to the list of what is wrong with them.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::fields::{self, Draft};
use super::keys::{self, CheckKey};
use super::lists::{self, Lists};
use super::mistakes::{Mistake, Mistakes};
use super::parse;
use super::pieces::{self, Digest, Pieced, Texts};
use super::removed::Tombstone;
use super::report::Report;
use super::values::describe;
use super::{ById, Registry};
use crate::auth::identity::{Machine, MachineKey};
use crate::config::refused_yaml;
use crate::file::{self, FileFault};

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
    file::read(path, MAX_FILE as usize).map_err(|fault| {
        let text = match fault {
            FileFault::TooLarge(_) => format!("the file {fault}; is it a registry?"),
            _ => format!("the file {fault}"),
        };
        Mistakes::of_reading(path, text, fault.may_pass())
    })
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
    let load = Load {
        file,
        text,
        previous,
        check_key,
    };
    // Only a file without a mistake is taken in pieces, so that what is told of one is what its whole text says.
    load.in_pieces().map_or_else(|| load.whole(), Ok)
}

/// Whether one of these characters stands where an alias, an anchor or a tag may start: behind white
/// space or punctuation.
pub(super) fn may_hold(text: &str, starts: &[u8]) -> bool {
    let mut before = b' ';
    text.bytes().any(|byte| {
        let may_start = !before.is_ascii_alphanumeric() && before != b'/';
        before = byte;
        may_start && starts.contains(&byte)
    })
}

/// What a registry is built from.
pub(super) struct Load<'l> {
    pub(super) file: &'l Path,
    pub(super) text: &'l str,
    pub(super) previous: Option<&'l Registry>,
    pub(super) check_key: &'l CheckKey<'l>,
}

impl Load<'_> {
    /// Entry by entry; `None` where the whole text must be read.
    fn in_pieces(&self) -> Option<Registry> {
        let Pieced { lists, digests } = pieces::read(self.text, self.previous)?;
        let report = Report::new(self.file, self.text, &lists);
        self.assemble(&lists, digests, report).ok()
    }

    /// From the whole text, whatever it is.
    pub(super) fn whole(&self) -> Result<Registry, Mistakes> {
        self.dialect()?;
        let document = parse::parse(self.text).map_err(|error| {
            let line = error.location().map(|place| place.line());
            let text = format!("the file is not usable YAML: {error}");
            Mistakes::only(self.file, line, text)
        })?;
        let (lists, strange) = Lists::of(self.file, document)?;
        let mut report = Report::new(self.file, self.text, &lists);
        for strange in &strange {
            report.file(describe(strange, &lists::KNOWN));
        }
        self.assemble(&lists, Vec::new(), report)
    }

    /// That the text is YAML as the configuration has it: no aliases, anchors and tags. They are looked
    /// for where one may be; a large registry has none.
    fn dialect(&self) -> Result<(), Mistakes> {
        if !may_hold(self.text, b"&*!") {
            return Ok(());
        }
        // YAML 1.1, which the parser reads, ends lines there, and YAML 1.2 does not: a comment to one is
        // an entry to the other.
        if self.text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
            let text = "the file holds a line break (U+0085, U+2028 or U+2029) that YAML readers do not \
                        agree about; remove it";
            return Err(Mistakes::only(self.file, None, text));
        }
        let refused = refused_yaml(self.text, Mistakes::MAX_LISTED).map_err(|(line, text)| {
            Mistakes::only(self.file, Some(line), format!("what stands here {text}"))
        })?;
        if refused.is_empty() {
            return Ok(());
        }
        let mut mistakes = Mistakes::none_yet(self.file);
        for (line, text) in refused {
            mistakes.push(Mistake {
                line: Some(line),
                entry: None,
                key: None,
                text: format!("what stands here {text}"),
            });
        }
        Err(mistakes)
    }

    /// `digests` are those of the machines' texts, where they stand by themselves.
    fn assemble(
        &self,
        lists: &Lists,
        digests: Vec<Digest>,
        mut report: Report<'_>,
    ) -> Result<Registry, Mistakes> {
        let fields = fields::check(lists, self.previous, &mut report);
        let keys = keys::check(&fields.claims, self.previous, self.check_key, &mut report);
        report.finish()?;

        let finish = |draft| {
            let (mut machine, claims) = match draft {
                Draft::Known(machine) => return machine,
                Draft::New(machine, claims) => (machine, claims),
            };
            let with_dates = |at: usize| {
                keys[at].map(|public| MachineKey {
                    public,
                    validity: fields.claims[at].validity,
                })
            };
            machine.keys = claims.filter_map(with_dates).collect();
            let before = self
                .previous
                .and_then(|previous| previous.find(machine.id.as_str()));
            match before {
                Some(same) if **same == machine => Arc::clone(same),
                _ => machine.into(),
            }
        };
        let machines: Vec<Arc<Machine>> = fields.drafts.into_iter().map(finish).collect();
        let removed = fields.removed.into_iter().map(|buried| Tombstone {
            id: buried.id,
            at: buried.at,
            keys: (fields.claims[buried.claims].iter())
                .map(|claim| claim.key)
                .collect(),
        });
        Ok(Registry {
            texts: Texts::new(digests, &machines),
            machines: machines.into_iter().map(ById).collect(),
            groups: fields.groups,
            removed: removed.collect(),
            digest: Sha256::digest(self.text).into(),
        })
    }
}
