//! The registry in a database: SQLite, and a real PostgreSQL with its faults.

mod calls;
mod follow;
mod stale;
mod starved;

use std::time::Duration;

use countersign::config::DatabaseConfig;
use countersign::registry::CheckedEntry;
use countersign::registry::database::{Author, Database};
use countersign_core::identity::MachineId;
use serde_json::json;

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, raw, wait_for};
use crate::support::postgres::{Postgres, block_on};
use crate::support::process::clock;
use crate::support::signer::Machine;

/// Within two seconds a change is in force at every gateway; as much again is for a busy machine.
const BOUND: Duration = Duration::from_secs(4);

fn author() -> Author {
    Author {
        by: "operator".into(),
        request_id: "request".into(),
        at: 1_800_000_000,
    }
}

fn id(text: &str) -> MachineId {
    MachineId::parse(text).unwrap()
}

fn entry(machine: &Machine) -> CheckedEntry {
    let value = json!({"id": machine.id, "public_keys": [machine.public_key()]});
    CheckedEntry::parse(&value).unwrap()
}

fn sqlite(folder: &std::path::Path) -> DatabaseConfig {
    DatabaseConfig {
        address: countersign::config::DatabaseAddress::Sqlite(folder.join("registry.db")),
        password: None,
        tls: countersign::config::DatabaseTls::Off,
        max_stale: Duration::from_secs(300),
        state_dir: None,
    }
}

/// Adds machines; it must work.
fn add(database: &Database, machines: &[&Machine]) {
    let entries: Vec<_> = machines.iter().map(|machine| entry(machine)).collect();
    block_on(database.add(&entries, &author())).unwrap();
}

fn gateway(backend: &Backend, registry: String) -> Gateway {
    let options = Options {
        registry,
        more: "throttle: { failures_per_minute: 0 }\n".into(),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

/// A signed GET of a machine: the code of its refusal, or "".
fn ask(gateway: &Gateway, machine: &Machine) -> String {
    let lines = gateway.sign(machine, "GET", "/a", b"").lines();
    let answer = exchange(gateway.address, raw("GET", "/a", &lines, b""));
    match answer.status {
        200 => String::new(),
        _ => answer.code().to_owned(),
    }
}

/// Waits until a machine's request ends so at a gateway.
fn wait_until(gateway: &Gateway, machine: &Machine, code: &str) {
    wait_for(&format!("{:?} for {}", code, machine.id), || {
        (ask(gateway, machine) == code).then_some(())
    });
}

/// Removes a machine, and holds that no gateway takes it any more [`BOUND`] after the answer.
fn revoked_in_time(database: &Database, machine: &Machine, gateways: &[&Gateway]) {
    for gateway in gateways {
        assert_eq!(ask(gateway, machine), "", "before");
    }
    block_on(database.remove(&id(&machine.id), &author())).unwrap();
    refused_in_time(machine, gateways);
}

fn refused_in_time(machine: &Machine, gateways: &[&Gateway]) {
    let end = clock() + BOUND;
    let mut left: Vec<&Gateway> = gateways.to_vec();
    while !left.is_empty() {
        left.retain(|gateway| ask(gateway, machine) != "bad_signature");
        assert!(
            clock() < end || left.is_empty(),
            "{} still take it",
            left.len()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn two(backend: &Backend, postgres: &Postgres) -> [Gateway; 2] {
    [0, 1].map(|_| gateway(backend, postgres.registry("state_dir: none")))
}
