//! The database is away: what is known counts until `max_stale`, and then nobody does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::{add, ask, gateway, wait_until};
use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, wait_for};
use crate::support::postgres::Postgres;
use crate::support::signer::Machine;

fn one() -> Machine {
    Machine::new("web-0", 1)
}

fn postgres() -> Postgres {
    let postgres = Postgres::with_registry();
    add(&postgres.database(), &[&one()]);
    postgres
}

/// The local copy of a state directory, once it has the machine.
fn copied(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("registry-copy.db");
    wait_for("the local copy", || {
        let log = fs::read(path.with_extension("db-wal")).unwrap_or_default();
        let has = |bytes: &[u8]| bytes.windows(5).any(|part| part == b"web-0");
        (has(&fs::read(&path).ok()?) || has(&log)).then_some(())
    });
    // The transaction is over with its state.
    std::thread::sleep(Duration::from_millis(300));
    path
}

fn ready(gateway: &Gateway) -> u16 {
    gateway.admin_get("/readyz").0
}

#[test]
fn machines_count_for_max_stale_without_the_database_and_again_when_it_is_back() {
    let (backend, mut postgres) = (Backend::start(), postgres());
    let registry = postgres.registry("state_dir: none, max_stale: 60s");
    let gateway = gateway(&backend, registry);
    postgres.stop();
    std::thread::sleep(Duration::from_secs(2));
    gateway.hands.advance(Duration::from_secs(50));
    assert_eq!(
        (ask(&gateway, &one()), ready(&gateway)),
        (String::new(), 200)
    );
    assert!(gateway.metric("countersign_registry_stale_seconds") >= 50.0);
    gateway.hands.advance(Duration::from_secs(11));
    assert_eq!(ask(&gateway, &one()), "registry_unavailable");
    let (status, why) = gateway.admin_get("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("registry"), "{why}");
    postgres.spawn();
    wait_until(&gateway, &one(), "");
    assert_eq!(ready(&gateway), 200);
}

#[test]
fn with_max_stale_0_a_lost_database_refuses_at_once_and_no_copy_is_kept() {
    let (backend, mut postgres) = (Backend::start(), postgres());
    let state = tempfile::tempdir().unwrap();
    let registry = postgres.registry(&format!("state_dir: {:?}, max_stale: 0", state.path()));
    let gateway = gateway(&backend, registry);
    assert_eq!(ask(&gateway, &one()), "");
    postgres.stop();
    // The clock of the gateway stands still: only the failed look refuses.
    wait_until(&gateway, &one(), "registry_unavailable");
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    postgres.spawn();
    wait_until(&gateway, &one(), "");
}

#[test]
fn a_gateway_starts_from_its_copy_while_the_database_is_away_but_not_from_an_old_one() {
    let (backend, mut postgres) = (Backend::start(), postgres());
    let state = tempfile::tempdir().unwrap();
    let registry = postgres.registry(&format!("state_dir: {:?}, max_stale: 60s", state.path()));
    drop({
        let gateway = gateway(&backend, registry.clone());
        let copy = copied(state.path());
        let mode = fs::metadata(copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        gateway
    });
    postgres.stop();
    let second = gateway(&backend, registry.clone());
    assert_eq!((ask(&second, &one()), ready(&second)), (String::new(), 200));
    // It counts from when it was confirmed, not from the start.
    second.hands.advance(Duration::from_secs(61));
    assert_eq!(
        (ask(&second, &one()).as_str(), ready(&second)),
        ("registry_unavailable", 503)
    );
    drop(second);
    let late = crate::support::gateway::Options {
        registry,
        start: crate::support::gateway::START + 120,
        ..Default::default()
    };
    let late = Gateway::with(&backend, late);
    assert_eq!(
        (ask(&late, &one()).as_str(), ready(&late)),
        ("registry_unavailable", 503)
    );
    postgres.spawn();
    wait_until(&late, &one(), "");
}

#[test]
fn a_copy_that_was_tampered_with_is_not_used() {
    let (backend, mut postgres) = (Backend::start(), postgres());
    let state = tempfile::tempdir().unwrap();
    let registry = postgres.registry(&format!("state_dir: {:?}, max_stale: 60s", state.path()));
    drop({
        let gateway = gateway(&backend, registry.clone());
        copied(state.path());
        gateway
    });
    postgres.stop();
    let thief = Machine::new("web-0", 66);
    for tamper in [
        format!(
            "UPDATE copy_row SET entry = replace(entry, '{}', '{}') WHERE id = 'web-0'",
            one().public_key(),
            thief.public_key()
        ),
        "UPDATE copy_state SET confirmed = confirmed + 30".to_owned(),
        "DELETE FROM copy_row".to_owned(),
    ] {
        let kept = fs::read(state.path().join("registry-copy.db")).unwrap();
        edit(&state.path().join("registry-copy.db"), &tamper);
        let second = gateway(&backend, registry.clone());
        for machine in [&one(), &thief] {
            assert_eq!(ask(&second, machine), "registry_unavailable", "{tamper}");
        }
        drop(second);
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(state.path().join(format!("registry-copy.db{end}")));
        }
        fs::write(state.path().join("registry-copy.db"), kept).unwrap();
    }
    let whole = gateway(&backend, registry);
    assert_eq!(ask(&whole, &one()), "");
}

/// Runs a statement on an SQLite file, and leaves no log beside it.
fn edit(file: &std::path::Path, sql: &str) {
    use sqlx::Connection as _;
    crate::support::postgres::block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        let done = sqlx::query(sql).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    });
}
