//! The policies of machines: their own terms, and those of the groups they are in.
//!
//! Lists add up: a machine may do what any rule of its own or of its groups allows, from any
//! network of theirs. Of several rates its own counts, else the lowest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::entry::Entry;
use crate::yaml::{Field, Notes, Table, quoted, whole};
use countersign_core::identity::Machine;
use countersign_core::policy::rate::Rate;
use countersign_core::policy::rule::Rule;
use countersign_core::policy::{List, Policy, network};

/// Terms that machines share under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name, by which machines say that they are in it.
    pub name: Arc<str>,
    /// Its terms.
    pub terms: PolicyTerms,
}

/// The part of a policy that one entry states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTerms {
    /// `allow`.
    pub allow: Option<Arc<List<Rule>>>,
    /// `cidrs`.
    pub cidrs: Option<Arc<List<IpNet>>>,
    /// `rate`.
    pub rate: Option<Rate>,
}

/// Most groups of a machine: the rules of each group are searched for each request.
pub(super) const MAX_GROUPS: usize = 8;

/// Longest name of a group, in bytes.
const MAX_NAME: usize = 64;

/// The policy that a machine's own terms and those of its groups come to, if to any.
pub fn combine(own: &PolicyTerms, groups: &[&PolicyTerms]) -> Option<Policy> {
    let all = || [own].into_iter().chain(groups.iter().copied());
    let allow: Vec<_> = all().filter_map(|terms| terms.allow.clone()).collect();
    let cidrs: Vec<_> = all().filter_map(|terms| terms.cidrs.clone()).collect();
    let lowest = || groups.iter().filter_map(|terms| terms.rate).min();
    let policy = Policy {
        allow: (!allow.is_empty()).then(|| allow.into()),
        cidrs: (!cidrs.is_empty()).then(|| cidrs.into()),
        rate: own.rate.or_else(lowest),
    };
    (!policy.is_empty()).then_some(policy)
}

/// The groups of a file, and the policies made of them so far.
#[derive(Default)]
pub(super) struct Policies {
    groups: Vec<Group>,
    by_name: HashMap<Arc<str>, usize>,
    /// Of machines without terms of their own, by the groups they are in.
    of_groups: HashMap<Vec<usize>, Option<Arc<Policy>>>,
    /// The lists of names that machines share, by the groups.
    lists: HashMap<Vec<usize>, Arc<[Arc<str>]>>,
    /// All policies, including those of the registry in force: an unchanged machine then shares the
    /// policy that it had, and comparing the two is quick.
    known: HashSet<Arc<Policy>>,
    /// A name that is no group's is that of a group elsewhere, whose terms are not known here.
    has_other_groups: bool,
}

impl Policies {
    /// Reads the groups. `before` are the machines of the registry in force.
    pub(super) fn read<'a, 'b>(
        entries: &[Entry<'a>],
        has_other_groups: bool,
        before: impl Iterator<Item = &'b Arc<Machine>>,
        notes: &'a Notes,
    ) -> Policies {
        let mut policies = Policies {
            groups: Vec::with_capacity(entries.len()),
            by_name: HashMap::new(),
            of_groups: HashMap::new(),
            lists: HashMap::new(),
            known: HashSet::new(),
            has_other_groups,
        };
        let mut seen = HashSet::new();
        for policy in before.filter_map(|machine| machine.policy.as_ref()) {
            if seen.insert(Arc::as_ptr(policy)) {
                policies.known.insert(Arc::clone(policy));
            }
        }
        for entry in entries {
            policies.group(&entry.field(notes));
        }
        policies
    }

    /// The groups so far.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Forgets the policies that are not of groups alone.
    pub(super) fn forget_own(&mut self) {
        self.known.clear();
    }

    /// All groups.
    pub(super) fn into_groups(self) -> Box<[Group]> {
        self.groups.into()
    }

    fn group(&mut self, entry: &Field<'_>) {
        let mut table = entry.table();
        let field = table.required_or("name", "is missing; machines name the group under `groups`");
        let name = field
            .as_ref()
            .and_then(|field| field.parse_text(group_name));
        let is_empty = !table.has_any(&["allow", "cidrs", "rate"]);
        let terms = terms(&mut table, name.as_ref());
        if is_empty {
            entry.mistake("says nothing; give it `allow`, `cidrs` or `rate`");
        }
        let (Some(field), Some(name)) = (field, name) else {
            return;
        };
        let index = self.groups.len();
        if self.by_name.insert(Arc::clone(&name), index).is_some() {
            field.mistake("another group has this name");
        }
        self.groups.push(Group { name, terms });
    }

    /// The policy of a machine and the names of its groups, both shared with machines that have the
    /// same.
    pub(super) fn of(&mut self, table: &mut Table<'_>) -> (Option<Arc<Policy>>, Arc<[Arc<str>]>) {
        let groups = self.named(table);
        let names = match self.lists.get(&groups) {
            Some(known) => Arc::clone(known),
            None => {
                let names = groups.iter().map(|group| &self.groups[*group].name);
                let names: Arc<[Arc<str>]> = names.cloned().collect();
                self.lists.insert(groups.clone(), Arc::clone(&names));
                names
            }
        };
        (self.policy(table, groups), names)
    }

    fn policy(&mut self, table: &mut Table<'_>, groups: Vec<usize>) -> Option<Arc<Policy>> {
        let own = terms(table, None);
        if own != PolicyTerms::default() {
            return self.combine(&own, &groups);
        }
        if groups.is_empty() {
            return None;
        }
        if let Some(known) = self.of_groups.get(&groups) {
            return known.clone();
        }
        let policy = self.combine(&own, &groups);
        self.of_groups.insert(groups, policy.clone());
        policy
    }

    fn combine(&mut self, own: &PolicyTerms, groups: &[usize]) -> Option<Arc<Policy>> {
        let terms = groups.iter().map(|group| &self.groups[*group].terms);
        let policy = combine(own, &terms.collect::<Vec<_>>())?;
        if let Some(known) = self.known.get(&policy) {
            return Some(Arc::clone(known));
        }
        let policy = Arc::new(policy);
        self.known.insert(Arc::clone(&policy));
        Some(policy)
    }

    /// The groups that a machine names.
    fn named(&mut self, table: &mut Table<'_>) -> Vec<usize> {
        let Some(field) = table.field("groups") else {
            return Vec::new();
        };
        let items = field.some_items_up_to(MAX_GROUPS, "is empty; name groups, or remove the key");
        let mut named = Vec::with_capacity(items.len());
        for item in items {
            let group = item.parse_text(|name| match self.by_name.get(name) {
                None if self.has_other_groups => Ok(self.elsewhere(group_name(name)?)),
                None => Err(format!(
                    "there is no group {}; add it under `groups`",
                    quoted(name)
                )),
                Some(group) if named.contains(group) => {
                    Err("is named twice; remove one".to_owned())
                }
                Some(group) => Ok(*group),
            });
            named.extend(group);
        }
        named
    }

    /// A group that is known by its name alone.
    fn elsewhere(&mut self, name: Arc<str>) -> usize {
        let index = self.groups.len();
        self.by_name.insert(Arc::clone(&name), index);
        self.groups.push(Group {
            name,
            terms: PolicyTerms::default(),
        });
        index
    }
}

fn group_name(name: &str) -> Result<Arc<str>, String> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_good) {
        Ok(name.into())
    } else {
        Err(format!(
            "a name is 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ -"
        ))
    }
}

/// `allow`, `cidrs` and `rate` of an entry.
fn terms(table: &mut Table<'_>, group: Option<&Arc<str>>) -> PolicyTerms {
    const RULES: &str = "is empty, which would let nothing pass; write a rule, such as \
                         \"GET /v1/secret/data/app/*\", or `enabled: false`";
    const NETWORKS: &str =
        "is empty, which would let nothing pass; write a network, such as 10.0.0.0/8";
    PolicyTerms {
        allow: items(table, "allow", RULES, group, |text| {
            Rule::parse(text).map_err(|error| error.to_string())
        }),
        cidrs: items(table, "cidrs", NETWORKS, group, |text| {
            network::parse(text).map_err(|error| error.to_string())
        }),
        rate: rate(table),
    }
}

fn items<T>(
    table: &mut Table<'_>,
    key: &'static str,
    if_empty: &str,
    group: Option<&Arc<str>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Arc<List<T>>> {
    let items = table.field(key)?.some_items_up_to(List::<T>::MAX, if_empty);
    Some(Arc::new(List {
        group: group.cloned(),
        items: (items.iter())
            .filter_map(|item| item.parse_text(&parse))
            .collect(),
    }))
}

fn rate(table: &mut Table<'_>) -> Option<Rate> {
    let field = table.field("rate")?;
    if !field.is_table() {
        field.mistake("must be a mapping: rate: { per_minute: 600 }");
        return None;
    }
    let missing = "is missing: rate: { per_minute: 600 }";
    let per_minute = field.table().required_or("per_minute", missing)?;
    // No message about a registry repeats a value: it may be a secret in the wrong place.
    let count = per_minute.number(|text| {
        whole(1..=u64::from(Rate::MAX))(text).map_err(|_| {
            let most = Rate::MAX;
            format!("must be between 1 and {most}, in decimal digits, such as per_minute: 600")
        })
    })?;
    Rate::new(count)
}
