//! One machine after the other: are the values under its keys what they must be?

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::Registry;
use super::claims::{self, Claim};
use super::lists::{Listed, Lists};
use super::node::Node;
use super::parse::{Key, RawEntry, Section};
use super::policies::{Group, Policies};
use super::removed::{self, Buried};
use super::report::{At, Report};
use super::values::{instant, strange, text};
use crate::auth::identity::{Machine, MachineId};
use crate::config::is_credential_name;

/// Longest `name`, `vault` and `owner`, in bytes. They become headers.
const MAX_LABEL: usize = 128;

/// What the entries of a file come to before their keys are checked as points of the curve. It is only
/// complete if the report has no mistakes.
pub(super) struct Fields {
    pub(super) drafts: Vec<Draft>,
    pub(super) removed: Vec<Buried>,
    pub(super) groups: Box<[Group]>,
    pub(super) claims: Vec<Claim>,
}

/// A machine of the file.
pub(super) enum Draft {
    /// It lacks nothing but its keys, which are these claims.
    New(Machine, Range<usize>),
    /// It is there already.
    Known(Arc<Machine>),
}

/// Checks everything that needs no elliptic curve.
pub(super) fn check(lists: &Lists, previous: Option<&Registry>, report: &mut Report<'_>) -> Fields {
    let machines = &lists.machines;
    let mut ids = HashMap::with_capacity(machines.len() + lists.removed.len());
    let mut claims = Vec::with_capacity(machines.len());
    let removed = removed::read(&lists.removed, &mut ids, &mut claims, report);
    let mut checker = Checker {
        policies: Policies::read(&lists.groups, previous, report),
        report,
        texts: HashSet::new(),
        ids,
        drafts: Vec::with_capacity(machines.len()),
        claims,
    };
    for (position, entry) in machines.iter().enumerate() {
        let at = At {
            section: Section::Machines,
            position,
        };
        match entry {
            Listed::Known(machine) => checker.known(at, machine),
            Listed::Written(entry) => match &**entry {
                Node::Mapping(raw) => checker.machine(at, raw),
                _ => {
                    let text = "it must be a mapping with the keys id and public_keys";
                    checker.report.entry(at, text.into());
                }
            },
        }
    }
    Fields {
        drafts: checker.drafts,
        removed,
        groups: checker.policies.into_groups(),
        claims: checker.claims,
    }
}

struct Checker<'c, 'f> {
    report: &'c mut Report<'f>,
    /// Vaults, owners and credentials, of which thousands of machines share a few.
    texts: HashSet<Arc<str>>,
    policies: Policies,
    ids: HashMap<MachineId, At>,
    drafts: Vec<Draft>,
    claims: Vec<Claim>,
}

impl Checker<'_, '_> {
    fn machine(&mut self, at: At, raw: &RawEntry) {
        strange(self.report, at, raw);
        let id = machine_id(self.report, &mut self.ids, at, raw);
        let name = self.label(at, raw, Key::Name).map(Arc::from);
        let vault = self.label(at, raw, Key::Vault);
        let vault = vault.map(|text| self.intern(text));
        let owner = self.label(at, raw, Key::Owner);
        let owner = owner.map(|text| self.intern(text));
        let credential = self.credential(at, raw);
        let claims = claims::read(self.report, &mut self.claims, at, raw);
        let enabled = self.enabled(at, raw);
        let not_before = instant(self.report, at, raw, Key::NotBefore);
        let expires = instant(self.report, at, raw, Key::Expires);
        if let (Some(not_before), Some(expires)) = (not_before, expires)
            && expires <= not_before
        {
            let text = "it is not after not_before, so the machine could never act";
            self.report.field(at, Key::Expires, text.into());
        }
        let policy = self.policies.of(at, raw, self.report);
        if let Some(id) = id {
            let machine = Machine {
                id,
                name,
                vault,
                owner,
                credential,
                keys: Box::default(),
                enabled,
                not_before,
                expires,
                policy,
            };
            self.drafts.push(Draft::New(machine, claims));
        }
    }

    /// What it has was checked when it was read; that nobody else has it is for each file to show.
    fn known(&mut self, at: At, machine: &Arc<Machine>) {
        unique(self.report, &mut self.ids, at, &machine.id);
        claims::again(&mut self.claims, at, machine);
        self.drafts.push(Draft::Known(Arc::clone(machine)));
    }

    fn label<'r>(&mut self, at: At, raw: &'r RawEntry, key: Key) -> Option<&'r str> {
        let text = text(self.report, at, key, raw.get(key)?)?;
        let visible = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        let trimmed = text.trim_matches(' ').len() == text.len();
        if (1..=MAX_LABEL).contains(&text.len()) && visible && trimmed {
            return Some(text);
        }
        let rule = format!(
            "it becomes a header, so it must be 1 to {MAX_LABEL} visible ASCII characters, without a space \
             at either end"
        );
        self.report.field(at, key, rule);
        None
    }

    fn credential(&mut self, at: At, raw: &RawEntry) -> Option<Arc<str>> {
        let key = Key::Credential;
        let name = text(self.report, at, key, raw.get(key)?)?;
        if is_credential_name(name) {
            return Some(self.intern(name));
        }
        // Not repeated: somebody may have written the secret itself here.
        let rule = "it must be the name of one of the `credentials` of the configuration, [a-z0-9_-]{1,64}";
        self.report.field(at, key, rule.into());
        None
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn enabled(&mut self, at: At, raw: &RawEntry) -> bool {
        match raw.get(Key::Enabled) {
            None => true,
            Some(Node::Bool(enabled)) => *enabled,
            Some(_) => {
                let text = "it must be true or false, without quotes";
                self.report.field(at, Key::Enabled, text.into());
                false
            }
        }
    }
}

/// The id of an entry, and that no other has it.
pub(super) fn machine_id(
    report: &mut Report<'_>,
    ids: &mut HashMap<MachineId, At>,
    at: At,
    raw: &RawEntry,
) -> Option<MachineId> {
    let Some(field) = raw.get(Key::Id) else {
        let text = "`id` is missing; write what the machine sends as X-Machine-Id";
        report.entry(at, text.into());
        return None;
    };
    let text = text(report, at, Key::Id, field)?;
    let Some(id) = MachineId::parse(text) else {
        let rule = format!(
            "an id is 1 to {} of the characters A-Z a-z 0-9 . _ -",
            MachineId::MAX_LEN
        );
        report.field(at, Key::Id, rule);
        return None;
    };
    unique(report, ids, at, &id);
    Some(id)
}

/// That no other entry has the id.
fn unique(report: &mut Report<'_>, ids: &mut HashMap<MachineId, At>, at: At, id: &MachineId) {
    if let Some(first) = ids.insert(id.clone(), at) {
        let first_place = report.whereabouts(first);
        let text = match (first.section, at.section) {
            (Section::Removed, Section::Machines) => format!(
                "the id was that of {first_place}, and old records name it; take another id, or \
                 take that entry out of `removed` if this is the same machine"
            ),
            _ => format!("the id is used twice; {first_place} has it already"),
        };
        report.field(at, Key::Id, text);
    }
}
