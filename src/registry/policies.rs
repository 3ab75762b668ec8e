//! What machines may do: their own rules, and those of the groups they are in.
//!
//! Lists add up: a machine may do what any rule of its own or of its groups allows, from any network
//! of theirs. Of several rates its own counts, else the lowest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::mistakes::quoted;
use super::node::Node;
use super::parse::{Entry, Key, RawEntry, Section};
use super::report::{At, Report};
use super::values::{as_text, list, strange, text};
use crate::auth::policy::rate::Rate;
use crate::auth::policy::rule::Rule;
use crate::auth::policy::{List, Policy, network};

/// What machines share under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name, by which machines say that they are in it.
    pub name: Arc<str>,
    /// What it allows.
    pub terms: Terms,
}

/// What stands in one place about what machines may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// `allow`.
    pub allow: Option<Arc<List<Rule>>>,
    /// `cidrs`.
    pub cidrs: Option<Arc<List<IpNet>>>,
    /// `rate`.
    pub rate: Option<Rate>,
}

/// Most groups a machine may be in: each is so many rules more to look through.
pub(super) const MAX_GROUPS: usize = 8;

/// Longest name of a group, in bytes.
const MAX_NAME: usize = 64;

/// The policy that a machine's own terms and those of its groups come to, if to any.
pub fn combine(own: &Terms, groups: &[&Terms]) -> Option<Policy> {
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
    /// Of machines that have nothing of their own, by the groups they are in.
    of_groups: HashMap<Vec<usize>, Option<Arc<Policy>>>,
    own: HashSet<Arc<Policy>>,
}

impl Policies {
    /// Reads the groups.
    pub(super) fn read(entries: &[Entry], report: &mut Report<'_>) -> Policies {
        let mut policies = Policies::default();
        for (position, entry) in entries.iter().enumerate() {
            let at = At {
                section: Section::Groups,
                position,
            };
            match entry {
                Node::Mapping(raw) => policies.group(at, raw, report),
                _ => report.entry(at, "it must be a mapping with the key name".into()),
            }
        }
        policies
    }

    /// All groups.
    pub(super) fn into_groups(self) -> Box<[Group]> {
        self.groups.into()
    }

    fn group(&mut self, at: At, raw: &RawEntry, report: &mut Report<'_>) {
        strange(report, at, raw);
        let name = match raw.get(Key::Name) {
            Some(field) => text(report, at, Key::Name, field),
            None => {
                let text = "`name` is missing; machines name it under `groups`";
                report.entry(at, text.into());
                None
            }
        };
        let name: Option<Arc<str>> = name
            .filter(|name| check_name(name, at, report))
            .map(Into::into);
        let terms = terms(report, at, raw, name.as_ref());
        if terms == Terms::default()
            && [Key::Allow, Key::Cidrs, Key::Rate]
                .iter()
                .all(|key| raw.get(*key).is_none())
        {
            let text = "it says nothing; give it `allow`, `cidrs` or `rate`";
            report.entry(at, text.into());
        }
        let Some(name) = name else { return };
        if self
            .by_name
            .insert(Arc::clone(&name), self.groups.len())
            .is_some()
        {
            report.field(at, Key::Name, "another group has this name".into());
        }
        self.groups.push(Group { name, terms });
    }

    /// The policy of a machine, shared with those that have the same.
    pub(super) fn of(
        &mut self,
        at: At,
        raw: &RawEntry,
        report: &mut Report<'_>,
    ) -> Option<Arc<Policy>> {
        let groups = self.named(at, raw, report);
        let own = terms(report, at, raw, None);
        if own != Terms::default() {
            let policy = self.combine(&own, &groups)?;
            if let Some(known) = self.own.get(&policy) {
                return Some(Arc::clone(known));
            }
            let policy = Arc::new(policy);
            self.own.insert(Arc::clone(&policy));
            return Some(policy);
        }
        if groups.is_empty() {
            return None;
        }
        if let Some(known) = self.of_groups.get(&groups) {
            return known.clone();
        }
        let policy = self.combine(&own, &groups).map(Arc::new);
        self.of_groups.insert(groups, policy.clone());
        policy
    }

    fn combine(&self, own: &Terms, groups: &[usize]) -> Option<Policy> {
        let terms = groups.iter().map(|group| &self.groups[*group].terms);
        combine(own, &terms.collect::<Vec<_>>())
    }

    /// The groups that a machine names.
    fn named(&self, at: At, raw: &RawEntry, report: &mut Report<'_>) -> Vec<usize> {
        let Some(field) = raw.get(Key::Groups) else {
            return Vec::new();
        };
        let expected = "name groups: groups: [\"..\"], or remove the key";
        let items = list(report, at, Key::Groups, field, MAX_GROUPS, expected);
        let mut named = Vec::new();
        for (index, item) in items.unwrap_or_default().iter().enumerate() {
            let problem = match as_text(item) {
                Err(problem) => problem.to_owned(),
                Ok(name) => match self.by_name.get(name) {
                    None => format!("there is no group {}; add it under `groups`", quoted(name)),
                    Some(group) if named.contains(group) => "it is named twice".to_owned(),
                    Some(group) => {
                        named.push(*group);
                        continue;
                    }
                },
            };
            report.item(at, Key::Groups, index, problem);
        }
        named
    }
}

fn check_name(name: &str, at: At, report: &mut Report<'_>) -> bool {
    let good = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !good {
        let rule = format!("a name is 1 to {MAX_NAME} of the characters A-Z a-z 0-9 . _ -");
        report.field(at, Key::Name, rule);
    }
    good
}

/// `allow`, `cidrs` and `rate` of an entry.
fn terms(report: &mut Report<'_>, at: At, raw: &RawEntry, group: Option<&Arc<str>>) -> Terms {
    const RULES: &str = "an empty one would let nothing pass: write a rule, such as \
                         \"GET /v1/secret/data/app/*\", or `enabled: false`";
    const NETWORKS: &str =
        "an empty one would let nothing pass: write a network, such as 10.0.0.0/8";
    Terms {
        allow: items(report, at, raw, (Key::Allow, RULES), group, |text| {
            Rule::parse(text).map_err(|error| error.to_string())
        }),
        cidrs: items(report, at, raw, (Key::Cidrs, NETWORKS), group, |text| {
            network::parse(text).map_err(|error| error.to_string())
        }),
        rate: rate(report, at, raw),
    }
}

fn items<T>(
    report: &mut Report<'_>,
    at: At,
    raw: &RawEntry,
    (key, expected): (Key, &str),
    group: Option<&Arc<str>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Arc<List<T>>> {
    let found = list(report, at, key, raw.get(key)?, List::<T>::MAX, expected)?;
    let mut items = Vec::with_capacity(found.len());
    for (index, item) in found.iter().enumerate() {
        match as_text(item).map_err(str::to_owned).and_then(&parse) {
            Ok(item) => items.push(item),
            Err(problem) => report.item(at, key, index, problem),
        }
    }
    Some(Arc::new(List {
        group: group.cloned(),
        items: items.into(),
    }))
}

fn rate(report: &mut Report<'_>, at: At, raw: &RawEntry) -> Option<Rate> {
    let problem = match raw.get(Key::Rate)? {
        Node::Mapping(mapping) => match mapping.take(["per_minute"]) {
            Ok([Some(Node::Number(Some(count)))]) => match Rate::new(*count) {
                Some(rate) => return Some(rate),
                None => format!("per_minute must be between 1 and {}", Rate::MAX),
            },
            Ok(_) => "per_minute must be a whole number: rate: { per_minute: 600 }".to_owned(),
            Err(problem) => problem,
        },
        _ => "it must be a mapping: rate: { per_minute: 600 }".to_owned(),
    };
    report.field(at, Key::Rate, problem);
    None
}
