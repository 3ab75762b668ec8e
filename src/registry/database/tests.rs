#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use serde_json::{Value, json};

use super::*;
use crate::config::{DatabaseAddress, DatabaseConfig, DatabaseTls};
use crate::registry::fixtures::key;
use crate::registry::{CheckedEntry, IdCase, key_format};
use countersign_core::identity::MachineId;

mod renewal;

/// A database in a directory that is gone after the test.
struct Fixture {
    _directory: tempfile::TempDir,
    config: DatabaseConfig,
    database: Database,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let config = DatabaseConfig {
        address: DatabaseAddress::Sqlite(directory.path().join("r.db")),
        password: None,
        tls: DatabaseTls::Off,
        max_stale: std::time::Duration::from_secs(300),
        state_dir: None,
    };
    Fixture {
        _directory: directory,
        database: Database::open(&config).await.unwrap(),
        config,
    }
}

fn author(at: u64) -> Author {
    Author {
        by: "ops".into(),
        request_id: "r1".into(),
        at,
    }
}

fn id(text: &str) -> MachineId {
    MachineId::parse(text).unwrap()
}

fn bytes(number: u64) -> [u8; 32] {
    key_format::parse(&key(number)).unwrap()
}

fn entry(id: &str, number: u64) -> CheckedEntry {
    parsed(json!({"id": id, "public_keys": [key(number)]}))
}

fn parsed(value: Value) -> CheckedEntry {
    CheckedEntry::parse(&value).unwrap()
}

fn token(id: &str, max_uses: u32) -> NewToken {
    let mut sha256 = [0; 32];
    sha256[..id.len()].copy_from_slice(id.as_bytes());
    NewToken {
        id: id.into(),
        sha256,
        max_uses,
        expires: 1000,
        terms: json!({"vault": "v"}),
    }
}

#[tokio::test]
async fn a_machine_that_was_added_is_there_and_each_change_is_a_revision() {
    let it = fixture().await;
    let database = &it.database;
    let both = [entry("a", 1), entry("b", 2)];
    assert_eq!(database.add(&both, &author(5)).await.unwrap(), Revision(1));
    let found = database.entry(&id("a")).await.unwrap().unwrap();
    assert_eq!(found, both[0]);
    assert!(database.entry(&id("c")).await.unwrap().is_none());
    assert_eq!(
        database.add(&[entry("c", 3)], &author(6)).await.unwrap(),
        Revision(2)
    );
    let (changes, revision) = database.changes(Revision(0), 10).await.unwrap();
    assert_eq!(revision, Revision(2));
    assert_eq!(changes[0].added, [id("a"), id("b")]);
    assert_eq!((changes[1].at, &*changes[1].by), (6, "ops"));
    let (changes, _) = database.changes(Revision(1), 10).await.unwrap();
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn one_taken_id_or_key_refuses_all_and_is_named() {
    let it = fixture().await;
    let database = &it.database;
    database.add(&[entry("a", 1)], &author(5)).await.unwrap();
    for (entries, told) in [
        ([entry("b", 2), entry("a", 3)], "a machine a already"),
        (
            [entry("b", 2), entry("c", 1)],
            "a key of c is a key of the machine a",
        ),
    ] {
        match database.add(&entries, &author(6)).await {
            Err(WriteError::Exists(text)) => assert!(text.contains(told), "{text}"),
            other => panic!("{other:?}"),
        }
        assert!(database.entry(&id("b")).await.unwrap().is_none());
    }
    let twins = [entry("b", 2), entry("c", 2)];
    let refused = database.add(&twins, &author(6)).await;
    assert!(matches!(refused, Err(WriteError::Invalid(_))));
    assert_eq!(
        database.changes(Revision(0), 9).await.unwrap().1,
        Revision(1)
    );
}

#[tokio::test]
async fn a_group_that_is_not_there_is_named() {
    let it = fixture().await;
    let entry = parsed(json!({"id": "a", "public_keys": [key(1)], "groups": ["web"]}));
    let refused = it.database.add(&[entry], &author(5)).await;
    assert_eq!(
        refused,
        Err(WriteError::Invalid(vec![
            "groups: there is no group web".into()
        ]))
    );
}

#[tokio::test]
async fn a_removed_machine_leaves_a_tombstone_for_its_id_and_keys() {
    let it = fixture().await;
    let database = &it.database;
    database.add(&[entry("a", 1)], &author(5)).await.unwrap();
    database.remove(&id("a"), &author(86_400)).await.unwrap();
    assert!(database.entry(&id("a")).await.unwrap().is_none());
    let gone = database.remove(&id("a"), &author(7)).await;
    assert_eq!(gone, Err(WriteError::NoMachine));
    for (again, told) in [
        (entry("a", 2), "removed on 1970-01-02T00:00:00Z"),
        (entry("b", 1), "that of the removed machine a"),
    ] {
        match database.add(&[again], &author(8)).await {
            Err(WriteError::Exists(text)) => assert!(text.contains(told), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_patch_changes_fields_and_frees_the_keys_it_takes_out() {
    let it = fixture().await;
    let database = &it.database;
    database.add(&[entry("a", 1)], &author(5)).await.unwrap();
    let patch = json!({"public_keys": [key(2)], "owner": "ops"});
    let patch = patch.as_object().unwrap();
    let revision = database.patch(&id("a"), patch, &author(6)).await.unwrap();
    assert_eq!(revision, Revision(2));
    let again = database.patch(&id("a"), patch, &author(7)).await.unwrap();
    assert_eq!(again, Revision(2), "nothing changed");
    database.add(&[entry("b", 1)], &author(8)).await.unwrap();
    let taken = json!({"public_keys": [key(1)]});
    let taken = database
        .patch(&id("a"), taken.as_object().unwrap(), &author(9))
        .await;
    assert!(matches!(taken, Err(WriteError::Exists(_))));
    let bad = json!({"enabled": "no"});
    let bad = database
        .patch(&id("a"), bad.as_object().unwrap(), &author(9))
        .await;
    assert!(matches!(bad, Err(WriteError::Invalid(_))));
    let nobody = database.patch(&id("z"), patch, &author(9)).await;
    assert_eq!(nobody, Err(WriteError::NoMachine));
}

#[tokio::test]
async fn a_new_key_ends_the_others_and_takes_the_place_of_ended_ones() {
    let it = fixture().await;
    let database = &it.database;
    database.add(&[entry("a", 1)], &author(5)).await.unwrap();
    for number in 2..=6 {
        let now = 86_400 * number;
        let (machine, author) = (id("a"), author(now));
        let new = database.add_key(&machine, bytes(number), now, &author);
        new.await.unwrap();
    }
    let entry = database.entry(&id("a")).await.unwrap().unwrap();
    let keys: Vec<_> = (3..=6).map(bytes).collect();
    assert_eq!(entry.keys(), keys);
    assert_eq!(entry.fields()["public_keys"][3], json!(key(6)));
    assert_eq!(
        entry.fields()["public_keys"][0]["not_after"],
        "1970-01-05T00:00:00Z"
    );
    let same = database.add_key(&id("a"), bytes(6), 9, &author(9)).await;
    assert!(matches!(same, Err(WriteError::Exists(_))));
    let weak = database
        .add_key(&id("a"), [0; 32], 9, &author(86_400 * 9))
        .await;
    assert!(matches!(weak, Err(WriteError::Invalid(_))));
}

#[tokio::test]
async fn keys_that_still_count_are_not_taken_out_for_a_new_one() {
    let it = fixture().await;
    let database = &it.database;
    let keys = [key(1), key(2), key(3), key(4)];
    let full = parsed(json!({"id": "a", "public_keys": keys}));
    database.add(&[full], &author(5)).await.unwrap();
    let fifth = database.add_key(&id("a"), bytes(5), 1000, &author(6)).await;
    assert!(matches!(fifth, Err(WriteError::Invalid(_))));
}

#[tokio::test]
async fn pages_come_in_the_order_of_the_ids_and_by_text() {
    let it = fixture().await;
    let database = &it.database;
    let mut entries: Vec<_> = (0..5).map(|n| entry(&format!("m{n}"), n + 1)).collect();
    entries.push(parsed(
        json!({"id": "B", "public_keys": [key(9)], "owner": "Team_A"}),
    ));
    database.add(&entries, &author(5)).await.unwrap();
    database.remove(&id("m1"), &author(6)).await.unwrap();
    let ids = |page: &EntryPage| -> Vec<String> {
        page.entries
            .iter()
            .map(|entry| entry.id().to_string())
            .collect()
    };
    let first = database.page(None, 3, None).await.unwrap();
    assert_eq!(ids(&first), ["B", "m0", "m2"]);
    assert_eq!(
        (first.next.clone(), first.revision),
        (Some(id("m2")), Revision(2))
    );
    let last = database.page(first.next.as_ref(), 3, None).await.unwrap();
    assert_eq!(
        (ids(&last), last.next),
        (vec!["m3".into(), "m4".into()], None)
    );
    let found = database.page(None, 3, Some("team_a")).await.unwrap();
    assert_eq!(ids(&found), ["B"]);
    for nothing in ["team%a", "teamxa", "public_keys"] {
        let page = database.page(None, 3, Some(nothing)).await.unwrap();
        assert!(page.entries.is_empty(), "{nothing}");
    }
}

#[tokio::test]
async fn a_token_enrols_as_many_machines_as_it_says() {
    let it = fixture().await;
    let database = &it.database;
    database
        .create_token(&token("t", 2), &author(5))
        .await
        .unwrap();
    let admission = Admission::Token { id: "t".into() };
    for number in 1..=3 {
        let entry = entry(&format!("m{number}"), number);
        let enrolled = database.enrol(&admission, &entry, &author(6)).await;
        match number {
            3 => assert_eq!(enrolled, Err(EnrolError::Refused)),
            _ => assert_eq!(enrolled, Ok(Revision(number))),
        }
    }
    let stored = database
        .token(&token("t", 2).sha256)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((stored.uses, stored.max_uses, stored.revoked), (2, 2, None));
    assert_eq!(database.tokens().await.unwrap(), [stored]);
    assert!(database.token(&[9; 32]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refused_machine_spends_no_use() {
    let it = fixture().await;
    let database = &it.database;
    database.add(&[entry("a", 1)], &author(5)).await.unwrap();
    database
        .create_token(&token("t", 1), &author(5))
        .await
        .unwrap();
    let admission = Admission::Token { id: "t".into() };
    let taken = database.enrol(&admission, &entry("b", 1), &author(6)).await;
    assert!(matches!(
        taken,
        Err(EnrolError::Write(WriteError::Exists(_)))
    ));
    assert_eq!(database.tokens().await.unwrap()[0].uses, 0);
    let good = database.enrol(&admission, &entry("b", 2), &author(6)).await;
    assert_eq!(good, Ok(Revision(2)));
}

#[tokio::test]
async fn an_expired_revoked_or_unknown_token_is_refused() {
    let it = fixture().await;
    let database = &it.database;
    for name in ["expired", "revoked"] {
        database
            .create_token(&token(name, 9), &author(5))
            .await
            .unwrap();
    }
    let twice = database
        .create_token(&token("expired", 9), &author(5))
        .await;
    assert!(matches!(twice, Err(WriteError::Exists(_))));
    assert!(database.revoke_token("revoked", &author(7)).await.unwrap());
    assert!(database.revoke_token("revoked", &author(8)).await.unwrap());
    assert!(!database.revoke_token("unknown", &author(8)).await.unwrap());
    let revoked = database.token(&token("revoked", 9).sha256).await.unwrap();
    assert_eq!(revoked.unwrap().revoked, Some(7));
    for (name, at) in [("expired", 1000), ("revoked", 9), ("unknown", 9)] {
        let admission = Admission::Token { id: name.into() };
        let refused = database
            .enrol(&admission, &entry("a", 1), &author(at))
            .await;
        assert_eq!(refused, Err(EnrolError::Refused), "{name}");
    }
}

#[tokio::test]
async fn a_jwt_enrols_once_and_is_forgotten_after_its_end() {
    let it = fixture().await;
    let database = &it.database;
    let admission = Admission::Jwt {
        digest: [7; 32],
        expires: 100,
    };
    let first = database
        .enrol(&admission, &entry("a", 1), &author(50))
        .await;
    assert_eq!(first, Ok(Revision(1)));
    for at in [50, 100, 3700] {
        let again = database
            .enrol(&admission, &entry("b", 2), &author(at))
            .await;
        assert_eq!(again, Err(EnrolError::Refused));
    }
    let other = Admission::Jwt {
        digest: [8; 32],
        expires: 9000,
    };
    let other = database.enrol(&other, &entry("c", 3), &author(3701)).await;
    assert_eq!(other, Ok(Revision(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_at_once_only_as_many_enrol_as_the_token_says() {
    let it = fixture().await;
    it.database
        .create_token(&token("t", 10), &author(5))
        .await
        .unwrap();
    let second = Database::open(&it.config).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let database = if n % 2 == 0 {
                it.database.clone()
            } else {
                second.clone()
            };
            tokio::spawn(async move {
                let admission = Admission::Token { id: "t".into() };
                let entry = entry(&format!("m{n}"), n + 1);
                loop {
                    match database.enrol(&admission, &entry, &author(6)).await {
                        // All connections were in use for too long.
                        Err(EnrolError::Write(WriteError::Unavailable(_))) => {}
                        other => return other.is_ok(),
                    }
                }
            })
        })
        .collect();
    let mut enrolled = 0;
    for task in tasks {
        enrolled += usize::from(task.await.unwrap());
    }
    assert_eq!(enrolled, 10);
    assert_eq!(
        it.database
            .page(None, 99, None)
            .await
            .unwrap()
            .entries
            .len(),
        10
    );
}

#[tokio::test]
async fn ids_that_differ_in_case_are_refused_only_where_the_backend_folds_it() {
    let it = fixture().await;
    let database = &it.database;
    database
        .add(&[entry("a", 1), entry("A", 2)], &author(5))
        .await
        .unwrap();
    database.set_case(IdCase::Folded);
    database.add(&[entry("b", 3)], &author(5)).await.unwrap();
    match database.add(&[entry("B", 4)], &author(5)).await {
        Err(WriteError::Exists(text)) => assert!(text.contains("differs in case only"), "{text}"),
        other => panic!("{other:?}"),
    }
    let twins = [entry("c", 5), entry("C", 6)];
    assert!(database.add(&twins, &author(5)).await.is_err());
}

const DOCUMENT: &str = "
groups:
  - { name: web, allow: [GET /v1/a], rate: { per_minute: 60 } }
machines:
  - { id: a, public_keys: [KEY1, { key: KEY2, not_after: 2027-01-01 }], groups: [web], owner: 'x' }
  - { id: b, public_keys: [KEY3], enabled: false, expires: 2027-01-01T00:00:00Z }
removed:
  - { id: old, at: 2026-01-01, public_keys: [KEY4, KEY5] }
";

fn document() -> RegistryContents {
    let mut text = DOCUMENT.to_owned();
    for number in 1..=5 {
        text = text.replace(&format!("KEY{number}"), &format!("\"{}\"", key(number)));
    }
    let text = text.replace("2027-01-01 }", "\"2027-01-01\" }");
    RegistryContents::parse("m.yaml".as_ref(), &text).unwrap()
}

#[tokio::test]
async fn an_export_of_an_import_has_everything_and_parses_as_the_same() {
    let it = fixture().await;
    let contents = document();
    let database = &it.database;
    let revision = database
        .import(&contents, ImportMode::Replace, &author(5))
        .await;
    assert_eq!(revision, Ok(Revision(1)));
    let (exported, _) = database.export().await.unwrap();
    assert_eq!(exported.machines, contents.machines);
    assert_eq!(exported.groups, contents.groups);
    let removed = &exported.removed[0];
    assert_eq!((removed.id.as_str(), removed.keys.len()), ("old", 2));
    let yaml = exported.to_yaml();
    let again = RegistryContents::parse("m.yaml".as_ref(), &yaml).unwrap();
    assert_eq!(again, exported, "{yaml}");
    let old = database.add(&[entry("c", 4)], &author(6)).await;
    assert!(matches!(old, Err(WriteError::Exists(_))));
}

#[tokio::test]
async fn an_import_replaces_and_a_merge_adds() {
    let it = fixture().await;
    let database = &it.database;
    database.add(&[entry("z", 26)], &author(5)).await.unwrap();
    let merge = ImportMode::Merge;
    assert_eq!(
        database.import(&document(), merge, &author(6)).await,
        Ok(Revision(2))
    );
    assert_eq!(
        database.import(&document(), merge, &author(7)).await,
        Ok(Revision(3))
    );
    assert_eq!(database.page(None, 9, None).await.unwrap().entries.len(), 3);
    let mut other = document();
    other.machines[1] = entry("b", 77);
    let other = database.import(&other, merge, &author(8)).await;
    assert!(matches!(other, Err(WriteError::Exists(_))), "{other:?}");
    let replaced = database
        .import(&document(), ImportMode::Replace, &author(9))
        .await;
    assert_eq!(replaced, Ok(Revision(4)));
    assert!(database.entry(&id("z")).await.unwrap().is_none());
    let (changes, _) = database.changes(Revision(3), 9).await.unwrap();
    assert!(changes[0].is_replacement);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let it = fixture().await;
    let mut change = it.database.begin_change().await.unwrap();
    let sql = "UPDATE registry SET schema_version = 99";
    change.session.execute(sql, &[]).await.unwrap();
    change.session.commit().await.unwrap();
    match Database::open(&it.config).await {
        Err(WriteError::Invalid(told)) => {
            assert!(told[0].contains("schema version 99"), "{told:?}")
        }
        other => panic!("{other:?}"),
    }
    let write = it.database.add(&[entry("a", 1)], &author(5)).await;
    assert!(matches!(write, Err(WriteError::Unavailable(_))));
}

#[tokio::test]
async fn the_file_of_a_database_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let it = fixture().await;
    let DatabaseAddress::Sqlite(file) = &it.config.address else {
        panic!();
    };
    for file in [file.clone(), file.with_extension("db-wal")] {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_page_of_changes_ends_before_its_ids_are_too_many_but_has_one() {
    let it = fixture().await;
    let mut session = it
        .database
        .begin(super::session::Purpose::Write)
        .await
        .unwrap();
    // Ten thousand ids of 60 bytes, twice; then a small change.
    let ids: Vec<String> = (0..10_000).map(|n| format!("{n:060}")).collect();
    let large = json!({"added": ids}).to_string();
    for (revision, machines) in [(1, &*large), (2, "{}"), (3, &*large), (4, "{}")] {
        let sql = "INSERT INTO change_log VALUES ($1, 'h', 0, 'a', 'r', 0, $2)";
        let values = [
            super::connection::Argument::Int(revision),
            super::connection::Argument::Text(machines),
        ];
        session.execute(sql, &values).await.unwrap();
    }
    session.commit().await.unwrap();
    let page = async |after| {
        let (changes, _) = it.database.changes(Revision(after), 1000).await.unwrap();
        let revisions = changes.iter().map(|it| it.revision.0);
        revisions.collect::<Vec<u64>>()
    };
    assert_eq!(page(0).await, [1, 2]);
    assert_eq!(page(2).await, [3, 4]);
    let mut session = it
        .database
        .begin(super::session::Purpose::Write)
        .await
        .unwrap();
    let huge = json!({"added": vec!["a".repeat(100); 20_000]}).to_string();
    let sql = "UPDATE change_log SET machines = $1 WHERE revision = 3";
    let values = [super::connection::Argument::Text(&huge)];
    session.execute(sql, &values).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(page(2).await, [3]);
}
