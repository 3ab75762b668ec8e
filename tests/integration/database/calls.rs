//! Calls on PostgreSQL; the unit tests have the same of SQLite.

use countersign::config::DatabaseTls;
use countersign::registry::database::{
    Admission, Database, EnrolError, ImportMode, NewToken, RegistryContents, Revision, WriteError,
};
use serde_json::json;

use super::{add, author, entry, id};
use crate::support::postgres::{Postgres, block_on};
use crate::support::signer::Machine;
use crate::support::tls;

fn machine(number: u8) -> Machine {
    Machine::new(&format!("m{number}"), number)
}

fn token(id: &str, max_uses: u32) -> NewToken {
    NewToken {
        id: id.into(),
        sha256: [id.len() as u8; 32],
        max_uses,
        expires: u64::MAX,
        terms: json!({}),
    }
}

#[test]
fn every_call_works_on_postgresql_as_on_sqlite() {
    let postgres = Postgres::with_registry();
    let database = postgres.database();
    block_on(async {
        let [one, two, three] = [1, 2, 3].map(machine);
        let added = database.add(&[entry(&one), entry(&two)], &author()).await;
        assert_eq!(added, Ok(Revision(1)));
        let again = database.add(&[entry(&three), entry(&two)], &author()).await;
        assert!(matches!(again, Err(WriteError::Exists(_))), "{again:?}");
        let patch = json!({"owner": "Ops"});
        let patch = patch.as_object().unwrap();
        let patched = database.patch(&id("m1"), patch, &author()).await;
        assert_eq!(patched, Ok(Revision(2)));
        assert_eq!(database.remove(&id("m2"), &author()).await, Ok(Revision(3)));
        let buried = database.add(&[entry(&two)], &author()).await;
        assert!(matches!(buried, Err(WriteError::Exists(_))), "{buried:?}");
        let page = database.page(None, 5, Some("ops")).await.unwrap();
        assert_eq!((page.entries.len(), page.revision), (1, Revision(3)));
        let (changes, _) = database.changes(Revision(1), 5).await.unwrap();
        assert_eq!(changes[1].removed, [id("m2")]);
        database
            .create_token(&token("t", 1), &author())
            .await
            .unwrap();
        let admission = Admission::Token { id: "t".into() };
        let enrolled = database.enrol(&admission, &entry(&three), &author()).await;
        assert_eq!(enrolled, Ok(Revision(4)));
        let over = database
            .enrol(&admission, &entry(&machine(4)), &author())
            .await;
        assert_eq!(over, Err(EnrolError::Refused));
        let jwt = Admission::Jwt {
            digest: [1; 32],
            expires: author().at,
        };
        let first = database.enrol(&jwt, &entry(&machine(5)), &author()).await;
        assert_eq!(first, Ok(Revision(5)));
        let second = database.enrol(&jwt, &entry(&machine(6)), &author()).await;
        assert_eq!(second, Err(EnrolError::Refused));
        let (contents, revision) = database.export().await.unwrap();
        assert_eq!((contents.machines.len(), contents.removed.len()), (3, 1));
        let yaml = contents.to_yaml();
        let parsed = RegistryContents::parse("m.yaml".as_ref(), &yaml).unwrap();
        assert_eq!(parsed, contents);
        let replaced = database
            .import(&parsed, ImportMode::Replace, &author())
            .await;
        assert_eq!(replaced, Ok(Revision(revision.0 + 1)));
        assert_eq!(database.export().await.unwrap().0, contents);
    });
}

#[test]
fn of_a_hundred_at_once_at_two_gateways_ten_enrol_with_a_token_for_ten() {
    let postgres = Postgres::with_registry();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let databases = [postgres.database(), postgres.database()];
        databases[0]
            .create_token(&token("t", 10), &author())
            .await
            .unwrap();
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                let database = databases[n % 2].clone();
                tokio::spawn(async move {
                    let admission = Admission::Token { id: "t".into() };
                    let entry = entry(&machine(n as u8 + 1));
                    database.enrol(&admission, &entry, &author()).await
                })
            })
            .collect();
        let mut enrolled = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => enrolled += 1,
                Err(error) => assert_eq!(error, EnrolError::Refused),
            }
        }
        assert_eq!(enrolled, 10);
        let (contents, revision) = databases[1].export().await.unwrap();
        assert_eq!((contents.machines.len(), revision), (10, Revision(10)));
        assert_eq!(databases[1].tokens().await.unwrap()[0].uses, 10);
    });
}

/// Each answer counts: what was answered is there, and nothing is there twice or in part.
#[test]
fn fifty_kills_of_the_database_lose_no_machine_that_was_answered_and_leave_no_half_one() {
    const MOST: u32 = 400;
    let mut postgres = Postgres::with_registry();
    let (config, stop) = (postgres.config(), std::sync::atomic::AtomicBool::new(false));
    block_on(
        postgres
            .database()
            .create_token(&token("t", MOST), &author()),
    )
    .unwrap();
    let answered = std::thread::scope(|scope| {
        let enrol = |start: u32| {
            let (config, stop) = (config.clone(), &stop);
            move || {
                let database = Database::new(&config);
                let mut answered = Vec::new();
                for n in (start..60_000).step_by(2) {
                    if stop.load(std::sync::atomic::Ordering::SeqCst) {
                        break;
                    }
                    let machine = numbered(n);
                    let admission = Admission::Token { id: "t".into() };
                    match block_on(database.enrol(&admission, &machine, &author())) {
                        Ok(_) => answered.push(machine.id().to_string()),
                        Err(EnrolError::Refused) => break,
                        Err(_) => std::thread::sleep(std::time::Duration::from_millis(3)),
                    }
                }
                answered
            }
        };
        let workers = [scope.spawn(enrol(0)), scope.spawn(enrol(1))];
        for kill in 0..50 {
            std::thread::sleep(std::time::Duration::from_millis(10 + kill));
            postgres.kill();
            postgres.spawn();
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let answered = workers.map(|worker| worker.join().unwrap());
        answered.concat()
    });
    let database = postgres.database();
    let (contents, revision) = block_on(database.export()).unwrap();
    let present: Vec<&str> = contents
        .machines
        .iter()
        .map(|it| it.id().as_str())
        .collect();
    assert!(!answered.is_empty());
    for id in &answered {
        assert!(present.contains(&&**id), "{id} was answered and is gone");
    }
    let uses = block_on(database.tokens()).unwrap()[0].uses;
    assert!(uses <= MOST);
    assert_eq!(uses as usize, present.len(), "each use is a machine");
    assert_eq!(
        revision,
        Revision(present.len() as u64),
        "each machine is a revision"
    );
    let keys = postgres.number("SELECT count(*) FROM machine_key");
    assert_eq!(keys as usize, present.len());
}

/// A machine with a key made of a number.
fn numbered(number: u32) -> countersign::registry::CheckedEntry {
    use base64::Engine as _;
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let key = base64::engine::general_purpose::STANDARD.encode(key.as_bytes());
    let value = json!({"id": format!("n{number}"), "public_keys": [key]});
    countersign::registry::CheckedEntry::parse(&value).unwrap()
}

#[test]
fn a_database_without_a_registry_says_how_to_make_one_and_a_newer_one_is_refused() {
    let postgres = Postgres::start();
    let config = postgres.config();
    let told = block_on(Database::open(&config)).unwrap_err().to_string();
    assert!(told.contains("countersign registry migrate"), "{told}");
    assert_eq!(block_on(Database::migrate(&config)), Ok((0, 1)));
    assert_eq!(block_on(Database::migrate(&config)), Ok((1, 1)));
    assert!(block_on(Database::open(&config)).is_ok());
    postgres.sql("UPDATE registry SET schema_version = 7");
    let newer = block_on(Database::open(&config)).unwrap_err().to_string();
    assert!(newer.contains("schema version 7"), "{newer}");
    let write = block_on(postgres.database().add(&[entry(&machine(1))], &author()));
    assert!(
        matches!(write, Err(WriteError::Unavailable(_))),
        "{write:?}"
    );
    assert!(block_on(Database::migrate(&config)).is_err());
}

#[test]
fn the_connection_is_tls_with_the_name_and_the_authority_checked() {
    let postgres = Postgres::prepared(
        "ssl = on\nssl_cert_file = 'FOLDER/cert.pem'\nssl_key_file = 'FOLDER/key.pem'\n\
         log_connections = on\n",
        |folder| {
            tls::write_certificate(folder);
            use std::os::unix::fs::PermissionsExt;
            let key = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(folder.join("key.pem"), key).unwrap();
        },
    );
    let mut config = postgres.config();
    config.tls = DatabaseTls::Verified(Some(postgres.folder().join("cert.pem")));
    if let countersign::config::DatabaseAddress::Postgres { host, .. } = &mut config.address {
        *host = "localhost".into();
    }
    block_on(Database::migrate(&config)).unwrap();
    assert!(postgres.log().contains("SSL enabled"), "{}", postgres.log());
    for (what, tls) in [
        ("an unknown authority", DatabaseTls::Verified(None)),
        (
            "no file",
            DatabaseTls::Verified(Some("/no/such/file".into())),
        ),
    ] {
        let mut other = config.clone();
        other.tls = tls;
        let refused = block_on(Database::open(&other));
        assert!(
            matches!(refused, Err(WriteError::Unavailable(_))),
            "{what}: {refused:?}"
        );
    }
}

#[test]
fn a_password_that_changes_is_read_again_and_told_to_nobody() {
    let mut postgres = Postgres::with_registry();
    let database = postgres.database();
    add(&database, &[&machine(1)]);
    postgres.sql("ALTER ROLE countersign PASSWORD 'another-secret'");
    std::fs::write(postgres.folder().join("password"), "wrong-secret\n").unwrap();
    postgres.stop();
    postgres.password = "another-secret".into();
    postgres.spawn();
    let path = postgres.folder().to_owned();
    let told = block_on(database.entry(&id("m1"))).unwrap_err().to_string();
    assert!(told.contains("password authentication failed"), "{told}");
    assert!(
        !told.contains("secret") && !format!("{database:?}").contains("secret"),
        "{told}"
    );
    std::fs::write(path.join("password"), "another-secret\n").unwrap();
    assert!(block_on(database.entry(&id("m1"))).unwrap().is_some());
}
