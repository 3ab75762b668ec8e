//! The policies of machines, and the groups that share them.

use std::sync::Arc;

use super::super::fixtures::{entry, file, load, refusal, registry};
use crate::registry::{Change, Registry};
use countersign_core::policy::Policy;

/// Groups before one machine with these lines.
fn with_groups(groups: &str, lines: &str) -> String {
    format!("groups:\n{groups}{}{lines}", file(&entry("a", 1)))
}

fn policy(registry: &Registry, id: &str) -> Option<Arc<Policy>> {
    registry.find(id).unwrap().policy.clone()
}

fn refused(lines: &str, words: &str) {
    let told = refusal(&(file(&entry("a", 1)) + lines));
    assert!(told.contains(words), "{told}");
}

const FLEET: &str = "  - name: fleet\n    allow: [\"read /v1/shared/**\"]\n    cidrs: [10.0.0.0/8]\n    \
                     rate: { per_minute: 100 }\n";

#[test]
fn without_a_word_of_it_a_machine_has_no_policy() {
    assert!(policy(&registry(&entry("a", 1)), "a").is_none());
}

#[test]
fn a_machine_has_its_own_rules_networks_and_rate() {
    let lines = "    allow:\n      - GET /v1/a\n      - LIST,write /v1/b/*\n    cidrs: [192.0.2.7, \
                 \"2001:db8::/32\"]\n    rate: { per_minute: 60 }\n";
    let registry = registry(&(entry("a", 1) + lines));
    let policy = policy(&registry, "a").unwrap();
    let client = Some("192.0.2.7".parse().unwrap());
    assert!(policy.judge("GET", "/v1/a", client).is_ok());
    assert!(policy.judge("PUT", "/v1/b/c", client).is_ok());
    assert!(policy.judge("GET", "/v1/b/c", client).is_err());
    assert!(policy.judge("GET", "/v1/a", None).is_err());
    assert_eq!(policy.rate.unwrap().per_minute(), 60);
}

#[test]
fn machines_of_the_same_groups_share_one_policy() {
    let in_it = |id, number| entry(id, number) + "    groups: [fleet]\n";
    let text = format!(
        "groups:\n{FLEET}{}",
        file(&(in_it("a", 1) + &in_it("b", 2)))
    );
    let registry = load(&text).unwrap();
    let (a, b) = (
        policy(&registry, "a").unwrap(),
        policy(&registry, "b").unwrap(),
    );
    assert!(Arc::ptr_eq(&a, &b));
}

#[test]
fn machines_that_write_the_same_share_one_policy() {
    let alike = |id, number| entry(id, number) + "    allow: [GET /a]\n";
    let registry = registry(&(alike("a", 1) + &alike("b", 2)));
    let (a, b) = (
        policy(&registry, "a").unwrap(),
        policy(&registry, "b").unwrap(),
    );
    assert!(Arc::ptr_eq(&a, &b));
}

#[test]
fn a_group_may_stand_before_or_behind_the_machines() {
    let machines = file(&(entry("a", 1) + "    groups: [fleet]\n"));
    for text in [
        format!("groups:\n{FLEET}{machines}"),
        format!("{machines}groups:\n{FLEET}"),
    ] {
        assert!(policy(&load(&text).unwrap(), "a").is_some());
    }
}

#[test]
fn lists_add_up_and_the_machines_own_rate_counts() {
    let own = "    groups: [fleet]\n    allow: [PUT /v1/own]\n    rate: { per_minute: 500 }\n";
    let registry = load(&with_groups(FLEET, own)).unwrap();
    let policy = policy(&registry, "a").unwrap();
    let client = Some("10.0.0.1".parse().unwrap());
    assert!(policy.judge("PUT", "/v1/own", client).is_ok());
    let permission = policy.judge("GET", "/v1/shared/x", client).unwrap();
    assert_eq!(permission.rule.unwrap().1, Some("fleet"));
    assert_eq!(policy.rate.unwrap().per_minute(), 500);
}

#[test]
fn of_the_rates_of_groups_the_lowest_counts() {
    let groups = format!("{FLEET}  - name: slow\n    rate: {{ per_minute: 5 }}\n");
    let registry = load(&with_groups(&groups, "    groups: [fleet, slow]\n")).unwrap();
    let rate = policy(&registry, "a").unwrap().rate.unwrap();
    assert_eq!(rate.per_minute(), 5);
}

#[test]
fn a_rule_that_is_none_is_named_with_its_place() {
    let lines = "    allow: [\"GET /a\", \"get /b\"]\n";
    refused(lines, "m.yaml:4: \"a\": allow[1]: it must begin with any");
}

#[test]
fn a_network_that_is_none_is_named_with_its_place() {
    refused(
        "    cidrs: [10.0.0.1/8]\n",
        "cidrs[0]: 10.0.0.1/8 names an address inside",
    );
}

#[test]
fn an_empty_list_is_refused_because_nothing_could_pass() {
    for key in ["allow", "cidrs"] {
        refused(
            &format!("    {key}: []\n"),
            "is empty, which would let nothing pass",
        );
        refused(&format!("    {key}: ~\n"), "has no value");
        refused(&format!("    {key}: x\n"), "must be a list");
    }
}

#[test]
fn a_list_has_so_many_items_and_no_more() {
    let rules = |count: usize| {
        (0..count)
            .map(|n| format!("GET /{n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let lines = |count| format!("    allow: [{}]\n", rules(count));
    assert!(load(&(file(&entry("a", 1)) + &lines(64))).is_ok());
    refused(&lines(65), "allow: has 65 items; at most 64 are allowed");
}

#[test]
fn a_rate_is_a_mapping_with_a_whole_number() {
    for rate in [
        "60",
        "{}",
        "{ per_minute: x }",
        "{ per_minute: 1.5 }",
        "{ per_minute: -1 }",
        "{ per_minute: +10 }",
        "{ per_minute: 0x10 }",
        "{ per_minute: 010 }",
        "[60]",
    ] {
        refused(&format!("    rate: {rate}\n"), "per_minute: 600");
    }
    for rate in ["0", "1000001"] {
        refused(
            &format!("    rate: {{ per_minute: {rate} }}\n"),
            "between 1 and 1000000",
        );
    }
    refused(
        "    rate: { per_minute: 1, per_hour: 2 }\n",
        "rate.per_hour: is an unknown key",
    );
    refused(
        "    rate: { per_minute: 1, per_minute: 2 }\n",
        "rate.per_minute: is given twice",
    );
}

#[test]
fn a_group_that_is_not_there_is_named() {
    refused(
        "    groups: [fleet]\n",
        "groups[0]: there is no group \"fleet\"",
    );
}

#[test]
fn a_group_is_named_once_and_not_by_too_many() {
    let told = refusal(&with_groups(FLEET, "    groups: [fleet, fleet]\n"));
    assert!(told.contains("groups[1]: is named twice"), "{told}");
    let nine = ["fleet"; 9].join(", ");
    let told = refusal(&with_groups(FLEET, &format!("    groups: [{nine}]\n")));
    assert!(
        told.contains("has 9 items; at most 8 are allowed"),
        "{told}"
    );
}

#[test]
fn the_mistakes_of_groups_are_told_with_their_lines() {
    for (group, words) in [
        (
            "  - allow: [GET /a]\n",
            "m.yaml:2: group no. 1: name: is missing",
        ),
        (
            "  - name: a b\n    allow: [GET /a]\n",
            "m.yaml:2: group \"a b\": name: a name is",
        ),
        ("  - name: g\n", "group \"g\": says nothing"),
        (
            "  - name: g\n    allow: [x]\n",
            "m.yaml:3: group \"g\": allow[0]: it must be methods",
        ),
        (
            "  - name: g\n    id: x\n    allow: [GET /a]\n",
            "m.yaml:3: group \"g\": id: is an unknown key",
        ),
        ("  - x\n", "m.yaml:2: group no. 1: must be a mapping"),
    ] {
        let told = refusal(&with_groups(group, ""));
        assert!(told.contains(words), "{told}");
    }
    let told = refusal(&with_groups(&FLEET.repeat(2), ""));
    assert!(told.contains("another group has this name"), "{told}");
}

#[test]
fn a_rule_more_in_a_group_changes_each_machine_in_it() {
    let text = with_groups(FLEET, "    groups: [fleet]\n");
    let old = load(&text).unwrap();
    let new = load(&text.replace("[\"read ", "[\"GET /more\", \"read ")).unwrap();
    let change = Change::between(&old, &new);
    assert_eq!(change.otherwise_changed.len(), 1);
    assert!(Change::between(&old, &load(&text).unwrap()).is_nothing());
}
