//! Checks every value of the entries that needs no elliptic curve.

use std::collections::HashSet;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::claims::{self, KeyClaim};
use super::entry::{Entry, Lists};
use super::ids::{IdCase, Ids};
use super::instants::instant;
use super::policies::{Group, Policies};
use super::removed::{self, TombstoneDraft};
use super::snapshot::Registry;
use crate::config::machine_terms::LIFETIMES;
use crate::config::{is_credential_name, lifetime};
use crate::yaml::Table;
use countersign_core::identity::Machine;

/// The entries of all files before their keys are checked as points of the curve. It is complete only
/// where there are no mistakes.
pub(super) struct Fields<'a> {
    /// Machines without their keys, and the range of those among the claims.
    pub(super) machines: Vec<(Machine, Range<usize>)>,
    pub(super) removed: Vec<TombstoneDraft>,
    pub(super) groups: Box<[Group]>,
    pub(super) claims: Vec<KeyClaim<'a>>,
}

/// Reads all entries. `previous` is the registry in force.
pub(super) fn read<'a>(lists: &Lists<'a>, previous: Option<&Registry>, case: IdCase) -> Fields<'a> {
    let mut ids = Ids::new(case, lists.machines.len() + lists.removed.len());
    let mut claims = Vec::with_capacity(lists.machines.len());
    let removed = removed::read(&lists.removed, &mut ids, &mut claims);
    let before = previous.into_iter().flat_map(Registry::machines);
    let mut reader = MachineReader {
        policies: Policies::read(&lists.groups, lists.has_other_groups, before),
        texts: HashSet::new(),
        ids,
        claims,
    };
    let mut machines = Vec::with_capacity(lists.machines.len());
    for &entry in &lists.machines {
        machines.extend(reader.machine(entry));
    }
    Fields {
        machines,
        removed,
        groups: reader.policies.into_groups(),
        claims: reader.claims,
    }
}

/// What machines share that are read one after the other.
pub(super) struct SharedTerms {
    policies: Policies,
    texts: HashSet<Arc<str>>,
}

impl SharedTerms {
    /// The groups that the machines may name.
    pub(super) fn read(groups: &[Entry<'_>]) -> SharedTerms {
        SharedTerms {
            policies: Policies::read(groups, false, std::iter::empty()),
            texts: HashSet::new(),
        }
    }

    /// The groups.
    pub(super) fn groups(&self) -> Box<[Group]> {
        self.policies.groups().into()
    }

    /// Forgets the policies of single machines, and the texts that no machine has any more.
    pub(super) fn forget(&mut self) {
        self.policies.forget_own();
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }
}

/// Reads machines that stand in no file, by the groups of `terms`.
pub(super) fn read_machines<'a>(
    terms: &mut SharedTerms,
    entries: &[Entry<'a>],
) -> (Vec<(Machine, Range<usize>)>, Vec<KeyClaim<'a>>) {
    let mut reader = MachineReader {
        policies: mem::take(&mut terms.policies),
        texts: mem::take(&mut terms.texts),
        ids: Ids::new(IdCase::Exact, entries.len()),
        claims: Vec::with_capacity(entries.len()),
    };
    let read = entries.iter().map(|entry| reader.machine(*entry));
    let machines = read.collect::<Vec<_>>().into_iter().flatten().collect();
    (terms.policies, terms.texts) = (reader.policies, reader.texts);
    (machines, reader.claims)
}

struct MachineReader<'a> {
    /// Vaults, owners and credentials, of which thousands of machines share a few.
    texts: HashSet<Arc<str>>,
    policies: Policies,
    ids: Ids<'a>,
    claims: Vec<KeyClaim<'a>>,
}

impl<'a> MachineReader<'a> {
    fn machine(&mut self, entry: Entry<'a>) -> Option<(Machine, Range<usize>)> {
        let mut table = entry.field().table();
        let id = self.ids.read(&mut table, entry);
        let name = label(&mut table, "name").map(Arc::from);
        let vault = label(&mut table, "vault").map(|text| self.intern(text));
        let owner = label(&mut table, "owner").map(|text| self.intern(text));
        let credential = credential(&mut table).map(|text| self.intern(text));
        let claims = claims::read(&mut table, entry, &mut self.claims);
        let enabled = table.truth("enabled", true);
        let not_before = instant(&mut table, "not_before");
        let expires = instant(&mut table, "expires");
        if let (Some(not_before), Some(expires)) = (not_before, expires)
            && expires <= not_before
        {
            let text = "is not after not_before, so the machine could never act";
            table.mistake("expires", text);
        }
        renewal(&mut table);
        let (policy, groups) = self.policies.of(&mut table);
        let machine = Machine {
            id: id?,
            name,
            vault,
            owner,
            credential,
            keys: Box::default(),
            enabled,
            not_before,
            expires,
            policy,
            groups,
        };
        Some((machine, claims))
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }
}

fn label<'a>(table: &mut Table<'a>, key: &'static str) -> Option<&'a str> {
    let field = table.field(key)?;
    let text = field.text()?;
    if Machine::is_label(text) {
        return Some(text);
    }
    field.mistake(format!(
        "becomes a header, so it must be 1 to {} visible ASCII characters, without a space at \
         either end",
        Machine::MAX_LABEL
    ));
    None
}

/// Checks the terms on which a machine renews itself. Only a renewal reads them, out of the entry,
/// so no machine in memory has them.
fn renewal(table: &mut Table<'_>) {
    let expires_in = table.field("expires_in");
    let expires_in = expires_in.and_then(|field| field.parse(lifetime(LIFETIMES)));
    if table.truth("may_renew", false) && expires_in.is_none() {
        let text = "needs `expires_in`, the life of the machine after each renewal: 24h";
        table.mistake("may_renew", text);
    }
}

fn credential<'a>(table: &mut Table<'a>) -> Option<&'a str> {
    let field = table.field("credential")?;
    let name = field.text()?;
    if is_credential_name(name) {
        return Some(name);
    }
    // The text is not repeated: it may be the secret itself.
    field.mistake(
        "must be the name of one of the `credentials` of the configuration, [a-z0-9_-]{1,64}",
    );
    None
}
