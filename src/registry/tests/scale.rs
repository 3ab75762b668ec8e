//! Many machines: they load, and each costs less than it may.

use std::collections::HashSet;
use std::mem::size_of;
use std::path::Path;
use std::sync::Arc;

use crate::registry::fixtures::{file, key, load};

use crate::registry::{Change, Registry};
use countersign_core::identity::{Machine, MachineKey};

/// A machine as a fleet has them: a UUID, a name, one of a few vaults and owners.
fn realistic(number: u64) -> String {
    format!(
        "  - id: 5b0c6f3e-8a1d-4f0e-9a57-{number:012x}\n    name: prod-api-{number}\n    vault: vault_{}\n    \
         owner: team-{}\n    public_keys: [\"{}\"]\n    enabled: true\n",
        number % 10,
        number % 100,
        key(number)
    )
}

fn fleet(count: u64) -> String {
    file(&(1..=count).map(realistic).collect::<String>())
}

/// The memory that an allocator takes for `bytes`: a header, and rounding up.
fn allocation(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16)
}

/// The heap one machine takes in a registry, the vaults and owners that it shares left out.
fn footprint(machine: &Machine) -> usize {
    const ARC_COUNTS: usize = 2 * size_of::<usize>();
    let name = machine.name.as_deref().unwrap_or_default();
    let name = allocation(ARC_COUNTS + name.len());
    let keys = allocation(machine.keys.len() * size_of::<MachineKey>());
    // A table is at least 7/16 full just after it has grown, and has a control byte for each slot.
    let slot = (size_of::<std::sync::Arc<countersign_core::identity::Machine>>() + 1) * 16 / 7;
    allocation(ARC_COUNTS + size_of::<Machine>()) + name + keys + slot
}

#[test]
fn a_machine_costs_less_than_600_bytes() {
    let registry = load(&fleet(1000)).unwrap();
    let most = registry.machines().map(|machine| footprint(machine)).max();
    assert!(most.unwrap() < 600, "{most:?}");
}

/// A fleet of which every machine is in a group, and every tenth has rules of its own.
fn ruled_fleet(count: u64) -> String {
    let rules: Vec<String> = (0..64)
        .map(|n| format!("\"read /v1/secret/data/app-{n}/**\""))
        .collect();
    let group = format!(
        "groups:\n  - name: fleet\n    allow: [{}]\n",
        rules.join(", ")
    );
    let machine = |number: u64| {
        let own = match number % 10 {
            0 => format!("    allow: [\"any /v1/own/{number}/**\"]\n"),
            _ => String::new(),
        };
        realistic(number) + "    groups: [fleet]\n" + &own
    };
    group + &file(&(1..=count).map(machine).collect::<String>())
}

#[test]
fn a_fleet_shares_the_rules_of_its_group() {
    let registry = load(&ruled_fleet(1000)).unwrap();
    let policies: HashSet<_> = registry
        .machines()
        .filter_map(|machine| machine.policy.as_ref().map(Arc::as_ptr))
        .collect();
    assert_eq!(policies.len(), 1 + 100);
    let lists: HashSet<_> = (registry.machines())
        .filter_map(|machine| {
            machine
                .policy
                .as_ref()?
                .allow
                .as_ref()?
                .last()
                .map(Arc::as_ptr)
        })
        .collect();
    assert_eq!(lists.len(), 1);
}

#[test]
fn one_hundred_thousand_machines_of_a_group_load_and_reload() {
    let text = ruled_fleet(100_000);
    let old = load(&text).unwrap();
    let text = text.replacen("name: prod-api-777\n", "name: renamed\n", 1);
    let new = Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), Some(&old)).unwrap();
    assert_eq!(Change::between(&old, &new).touched(), 1);
    let policy = |registry: &Registry| {
        let machine = registry.find("5b0c6f3e-8a1d-4f0e-9a57-000000000309");
        machine.and_then(|machine| machine.policy.clone()).unwrap()
    };
    assert!(
        Arc::ptr_eq(&policy(&old), &policy(&new)),
        "the renamed one shares what it had"
    );
}

#[test]
fn one_hundred_thousand_machines_load() {
    let registry = load(&fleet(100_000)).unwrap();
    assert_eq!(registry.len(), 100_000);
    assert!(
        registry
            .find("5b0c6f3e-8a1d-4f0e-9a57-0000000186a0")
            .is_some()
    );
}

#[test]
fn a_reload_that_renames_one_of_many_changes_one() {
    let text = fleet(2_000);
    let old = load(&text).unwrap();
    let text = text.replacen("name: prod-api-777\n", "name: renamed\n", 1);
    let new = Registry::from_bytes(Path::new("m.yaml"), text.as_bytes(), Some(&old)).unwrap();
    let change = Change::between(&old, &new);
    assert_eq!((change.touched(), change.otherwise_changed.len()), (1, 1));
}
