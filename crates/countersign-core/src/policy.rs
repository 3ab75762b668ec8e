//! Authorization: the requests that a verified machine may make. Without a policy the backend alone
//! decides. With one, the gateway forwards only requests that a rule allows.
//!
//! [`rule`] has the grammar of rules, [`network`] the allowed client networks, [`rate`] the rate
//! limit.

pub mod network;
pub mod rate;
pub mod rule;

use core::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use self::rate::Rate;
use self::rule::Rule;
use super::refusal::Refusal;

/// The policy of one machine, or of all machines that share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The rules. One rule of any list is enough. `None`: every request that the routes take.
    pub allow: Option<Box<[Arc<List<Rule>>]>>,
    /// The networks that requests may come from. One network of any list is enough. `None`: any.
    pub cidrs: Option<Box<[Arc<List<IpNet>>]>>,
    /// The rate limit. `None`: only `replay.quota_per_machine` limits the machine.
    pub rate: Option<Rate>,
}

/// A list of a policy, with the group that it was written for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List<T> {
    /// The name of the group; `None` for a machine's own list.
    pub group: Option<Arc<str>>,
    /// The items, in the order of the registry file.
    pub items: Box<[T]>,
}

impl<T> List<T> {
    /// Most items of one list. A machine that needs more can use a rule with `**`, or a group.
    pub const MAX: usize = 64;
}

/// The rule and the network that permit a request, for people to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission<'p> {
    /// The first rule that allows the request, and its group; `None` without rules.
    pub rule: Option<(&'p Rule, Option<&'p str>)>,
    /// The first network that contains the client's address, and its group; `None` without
    /// networks.
    pub network: Option<(&'p IpNet, Option<&'p str>)>,
}

/// Why a request is not permitted. The client sees `not_permitted` for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// The policy has networks, and the client's address is unknown.
    #[error("the client's address is unknown, and the policy has `cidrs`")]
    NoAddress,
    /// The client's address is in none of the networks.
    #[error("the client's address is in none of the `cidrs`")]
    NoNetwork,
    /// No rule allows the method on the path.
    #[error("no rule of `allow` matches method and path")]
    NoRule,
}

impl From<Objection> for Refusal {
    fn from(_: Objection) -> Refusal {
        Refusal::NotPermitted
    }
}

impl Policy {
    /// Whether the policy allows the request. `path` is the verified path without its query.
    /// `client` is the client's address, after `trusted_proxies`.
    ///
    /// # Errors
    ///
    /// The objection. It fails closed: a list without a match refuses. Networks without a known
    /// client address refuse too.
    pub fn judge(
        &self,
        method: &str,
        path: &str,
        client: Option<IpAddr>,
    ) -> Result<Permission<'_>, Objection> {
        let network = self.judge_client(client)?;
        let rule = match &self.allow {
            None => None,
            Some(lists) => {
                let found = find(lists, |rule| rule.allows(method, path));
                Some(found.ok_or(Objection::NoRule)?)
            }
        };
        Ok(Permission { rule, network })
    }

    /// The network that the client's address is in, and its group; `None` without networks. It is
    /// the part of [`Policy::judge`] that does not depend on the request.
    ///
    /// # Errors
    ///
    /// [`Objection::NoAddress`], [`Objection::NoNetwork`].
    pub fn judge_client(
        &self,
        client: Option<IpAddr>,
    ) -> Result<Option<(&IpNet, Option<&str>)>, Objection> {
        let Some(lists) = &self.cidrs else {
            return Ok(None);
        };
        let client = client.ok_or(Objection::NoAddress)?.to_canonical();
        let found = find(lists, |network| network.contains(&client));
        found.map(Some).ok_or(Objection::NoNetwork)
    }

    /// Whether the policy has no rules, no networks and no rate, so that the backend decides alone.
    pub fn is_empty(&self) -> bool {
        *self == Policy::default()
    }
}

fn find<T>(lists: &[Arc<List<T>>], is_it: impl Fn(&T) -> bool) -> Option<(&T, Option<&str>)> {
    lists.iter().find_map(|list| {
        let found = list.items.iter().find(|item| is_it(item))?;
        Some((found, list.group.as_deref()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn list<T>(group: Option<&str>, items: Vec<T>) -> Arc<List<T>> {
        Arc::new(List {
            group: group.map(Into::into),
            items: items.into(),
        })
    }

    fn allowing(lists: &[(Option<&str>, &[&str])]) -> Policy {
        let rules = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Rule::parse(text).unwrap())
                .collect()
        };
        Policy {
            allow: Some(
                (lists
                    .iter()
                    .map(|(group, texts)| list(*group, rules(texts))))
                .collect(),
            ),
            ..Policy::default()
        }
    }

    fn from(networks: &[&str]) -> Policy {
        let networks = networks.iter().map(|text| network::parse(text).unwrap());
        Policy {
            cidrs: Some([list(None, networks.collect())].into()),
            ..Policy::default()
        }
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_empty_policy_permits_everything_and_gives_no_reason() {
        let policy = Policy::default();
        assert!(policy.is_empty());
        let permission = policy.judge("GET", "/a", None).unwrap();
        assert_eq!((permission.rule, permission.network), (None, None));
    }

    #[test]
    fn with_rules_nothing_else_passes() {
        let policy = allowing(&[(None, &["GET /a/*"])]);
        assert!(policy.judge("GET", "/a/b", None).is_ok());
        for (method, path) in [("POST", "/a/b"), ("GET", "/a"), ("GET", "/b")] {
            let verdict = policy.judge(method, path, None);
            assert_eq!(verdict, Err(Objection::NoRule), "{method} {path}");
        }
    }

    #[test]
    fn the_lists_of_a_machine_and_of_its_groups_add_up() {
        let policy = allowing(&[(None, &["GET /own"]), (Some("fleet"), &["GET /shared"])]);
        let by = |path| {
            let permission = policy.judge("GET", path, None).unwrap();
            let (rule, group) = permission.rule.unwrap();
            (rule.to_string(), group.map(str::to_owned))
        };
        assert_eq!(by("/own"), ("GET /own".into(), None));
        assert_eq!(by("/shared"), ("GET /shared".into(), Some("fleet".into())));
    }

    #[test]
    fn a_list_without_items_lets_nothing_pass() {
        let policy = allowing(&[(None, &[])]);
        assert_eq!(policy.judge("GET", "/", None), Err(Objection::NoRule));
    }

    #[test]
    fn an_address_must_lie_in_a_network() {
        let policy = from(&["10.0.0.0/8", "2001:db8::/32"]);
        for inside in ["10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3"] {
            assert!(
                policy.judge("GET", "/", address(inside)).is_ok(),
                "{inside}"
            );
        }
        for outside in ["11.0.0.1", "2001:db9::1", "::1"] {
            let verdict = policy.judge("GET", "/", address(outside));
            assert_eq!(verdict, Err(Objection::NoNetwork), "{outside}");
        }
    }

    #[test]
    fn an_address_that_is_not_known_lies_in_no_network() {
        let policy = from(&["0.0.0.0/0", "::/0"]);
        assert_eq!(policy.judge("GET", "/", None), Err(Objection::NoAddress));
    }

    #[test]
    fn both_the_network_and_a_rule_must_match() {
        let policy = Policy {
            cidrs: from(&["10.0.0.0/8"]).cidrs,
            ..allowing(&[(None, &["GET /a"])])
        };
        assert!(policy.judge("GET", "/a", address("10.0.0.1")).is_ok());
        assert!(policy.judge("GET", "/b", address("10.0.0.1")).is_err());
        assert!(policy.judge("GET", "/a", address("11.0.0.1")).is_err());
    }
}
