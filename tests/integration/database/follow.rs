//! Changes come into force at every gateway in time, whatever happens to the database.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::registry::database::Database;
use serde_json::json;

use super::{
    add, ask, author, entry, gateway, id, refused_in_time, revoked_in_time, sqlite, two, wait_until,
};
use crate::support::backend::Backend;
use crate::support::gateway::wait_for;
use crate::support::postgres::{Postgres, block_on};
use crate::support::signer::Machine;

/// Stops the threads of a test, also where it fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn machines<const COUNT: usize>() -> [Machine; COUNT] {
    std::array::from_fn(|n| Machine::new(&format!("web-{n}"), n as u8 + 1))
}

#[test]
fn a_machine_in_sqlite_is_served_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    let registry = format!(
        "{{ database: 'sqlite:{}/registry.db' }}",
        folder.path().display()
    );
    let gateway = gateway(&backend, registry);
    let [one, two] = machines();
    assert_eq!(ask(&gateway, &one), "bad_signature");
    let database = block_on(Database::open(&sqlite(folder.path()))).unwrap();
    add(&database, &[&one, &two]);
    wait_until(&gateway, &one, "");
    assert_eq!(gateway.metric("countersign_registry_revision"), 1.0);
    let off = json!({"enabled": false});
    block_on(database.patch(&id("web-1"), off.as_object().unwrap(), &author())).unwrap();
    wait_until(&gateway, &two, "machine_disabled");
    revoked_in_time(&database, &one, &[&gateway]);
    assert_eq!(gateway.metric("countersign_registry_machines"), 1.0);
    let records = gateway.decisions("registry", 4);
    assert_eq!(records[1]["added"]["ids"], json!(["web-0", "web-1"]));
    assert_eq!(records[3]["removed"]["ids"], json!(["web-0"]));
}

#[test]
fn a_revocation_counts_at_both_gateways_in_time_under_load_and_without_the_notification() {
    let (backend, postgres) = (Backend::start(), Postgres::with_registry());
    let all: [Machine; 5] = machines();
    let database = postgres.database();
    add(&database, &all.iter().collect::<Vec<_>>());
    let gateways = two(&backend, &postgres);
    let both = [&gateways[0], &gateways[1]];
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let end = StopAtEnd(&stop);
        for gateway in both {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(ask(gateway, &all[4]), "");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        revoked_in_time(&database, &all[0], &both);
        // The connections that listen are cut, once and just before the change.
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%LISTEN%' \
             AND pid <> pg_backend_pid()",
        );
        revoked_in_time(&database, &all[1], &both);
        // No notification comes at all: the connections are cut as soon as they stand.
        let cutting = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                postgres.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE query LIKE '%LISTEN%' AND pid <> pg_backend_pid()",
                );
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        revoked_in_time(&database, &all[2], &both);
        drop(end);
        cutting.join().unwrap();
    });
    assert!(served.load(Ordering::SeqCst) > 10);
}

#[test]
fn a_revocation_counts_in_time_after_the_server_was_stopped_and_continued_or_restarted() {
    let (backend, mut postgres) = (Backend::start(), Postgres::with_registry());
    let all: [Machine; 4] = machines();
    let database = postgres.database();
    add(&database, &all.iter().collect::<Vec<_>>());
    let gateways = two(&backend, &postgres);
    let both = [&gateways[0], &gateways[1]];
    for gateway in both {
        wait_until(gateway, &all[0], "");
    }
    postgres.signal("STOP");
    // Several looks fail; what is known is served.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(both.map(|gateway| ask(gateway, &all[3])), ["", ""]);
    postgres.signal("CONT");
    revoked_in_time(&database, &all[0], &both);
    postgres.stop();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(both.map(|gateway| ask(gateway, &all[3])), ["", ""]);
    postgres.spawn();
    revoked_in_time(&database, &all[1], &both);
    postgres.kill();
    postgres.spawn();
    revoked_in_time(&database, &all[2], &both);
}

/// The replica has lost the last changes, and comes to the same revision by others.
#[test]
fn a_replica_that_lagged_is_noticed_also_at_the_same_revision_and_read_whole() {
    let (backend, mut postgres) = (Backend::start(), Postgres::with_registry());
    let all: [Machine; 4] = machines();
    let database = postgres.database();
    add(&database, &[&all[0], &all[1]]);
    postgres.stop();
    postgres.back_up("replica");
    postgres.spawn();
    let gateways = two(&backend, &postgres);
    let both = [&gateways[0], &gateways[1]];
    // The replica will not have this one: revision 2 is another change there.
    add(&database, &[&all[2]]);
    for gateway in both {
        wait_until(gateway, &all[2], "");
    }
    postgres.stop();
    postgres.use_data("replica");
    postgres.spawn();
    block_on(database.remove(&id("web-0"), &author())).unwrap();
    refused_in_time(&all[0], &both);
    for gateway in both {
        assert_eq!(ask(gateway, &all[2]), "bad_signature");
        assert_eq!(ask(gateway, &all[1]), "");
        assert_eq!(gateway.metric("countersign_registry_revision"), 2.0);
    }
    add(&database, &[&all[3]]);
    wait_until(both[0], &all[3], "");
}

#[test]
fn a_database_that_lost_most_machines_is_taken_for_a_mistake_until_the_operator_forces_it() {
    let (backend, mut postgres) = (Backend::start(), Postgres::with_registry());
    let all: [Machine; 5] = machines();
    let database = postgres.database();
    postgres.stop();
    postgres.back_up("empty");
    postgres.spawn();
    add(&database, &all.iter().collect::<Vec<_>>());
    let gateway = gateway(&backend, postgres.registry("state_dir: none"));
    postgres.stop();
    postgres.use_data("empty");
    postgres.spawn();
    wait_for("the refusal", || {
        let sample = "countersign_registry_reloads_total{result=\"rejected\"}";
        (gateway.metric(sample) >= 1.0).then_some(())
    });
    assert_eq!(ask(&gateway, &all[0]), "");
    let force = ["reload", "--force", "--admin", &gateway.admin.to_string()].map(str::to_owned);
    let force: Vec<&str> = force.iter().map(String::as_str).collect();
    let output = crate::support::process::run(&force);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ask(&gateway, &all[0]), "bad_signature");
}

#[test]
fn a_bad_row_refuses_its_change_as_a_whole_and_nothing_else_comes_into_force_until_it_is_mended() {
    let (backend, postgres) = (Backend::start(), Postgres::with_registry());
    let [one, two, three] = machines();
    let database = postgres.database();
    add(&database, &[&one]);
    let gateway = gateway(
        &backend,
        postgres.registry("state_dir: none, max_stale: 20s"),
    );
    // Somebody with access to the database writes past the gateway's checks.
    add(&database, &[&two]);
    wait_until(&gateway, &two, "");
    postgres.sql(
        "BEGIN; UPDATE machine SET entry = '{\"id\":\"web-1\",\"public_keys\":[],\"allow\":1}' \
         WHERE id = 'web-1'; UPDATE registry SET revision = 3, head = 'x'; \
         INSERT INTO change_log VALUES (3, 'x', 0, 'me', '', 0, '{\"changed\":[\"web-1\"]}'); COMMIT",
    );
    wait_for("the refusal", || {
        let sample = "countersign_registry_reloads_total{result=\"rejected\"}";
        (gateway.metric(sample) >= 1.0).then_some(())
    });
    assert_eq!([ask(&gateway, &one), ask(&gateway, &two)], ["", ""]);
    assert_eq!(gateway.metric("countersign_registry_revision"), 2.0);
    gateway.hands.advance(Duration::from_secs(25));
    wait_until(&gateway, &one, "registry_unavailable");
    postgres.sql("UPDATE machine SET entry = NULL, removed = 1 WHERE id = 'web-1'");
    block_on(database.add(&[entry(&three)], &author())).unwrap();
    wait_until(&gateway, &three, "");
    assert_eq!(ask(&gateway, &two), "bad_signature");
}
