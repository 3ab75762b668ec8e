//! The place of the machines.

use super::*;
use crate::config::{DatabaseAddress, DatabaseConfig, DatabaseTls, RegistrySource};

fn with(registry: &str) -> String {
    MINIMAL.replace("{ file: machines.yaml }", registry)
}

fn database(registry: &str) -> DatabaseConfig {
    match good(&with(registry)).registry.source {
        RegistrySource::Database(database) => database,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_database_of_sqlite_is_a_file_beside_the_configuration() {
    let database = database("{ database: 'sqlite:registry.db' }");
    assert_eq!(
        database.address,
        DatabaseAddress::Sqlite("conf/registry.db".into())
    );
    assert_eq!(database.max_stale, Duration::from_secs(300));
    assert_eq!((database.password, database.state_dir), (None, None));
}

#[test]
fn a_database_of_postgresql_has_a_host_a_port_a_role_and_a_name() {
    let database = database(
        "{ database: 'postgres://countersign@db:5433/fleet', password: { file: pw }, tls: { ca: \
         ca.pem }, max_stale: 0, state_dir: none, operators: operators.yaml }",
    );
    let address = DatabaseAddress::Postgres {
        host: "db".into(),
        port: 5433,
        user: "countersign".into(),
        database: "fleet".into(),
    };
    assert_eq!(
        database.address.to_string(),
        "postgres://countersign@db:5433/fleet"
    );
    assert_eq!(database.address, address);
    assert_eq!(database.password, Some("conf/pw".into()));
    assert_eq!(
        database.tls,
        DatabaseTls::Verified(Some("conf/ca.pem".into()))
    );
    assert_eq!(
        (database.max_stale, database.state_dir),
        (Duration::ZERO, None)
    );
}

#[test]
fn a_server_elsewhere_gets_tls_unless_it_is_turned_off_which_is_a_warning() {
    let tls = |host: &str, more: &str| {
        database(&format!("{{ database: 'postgres://u@{host}/d'{more} }}")).tls
    };
    assert_eq!(tls("127.0.0.1", ""), DatabaseTls::Off);
    assert_eq!(tls("[::1]", ""), DatabaseTls::Off);
    assert_eq!(tls("db", ""), DatabaseTls::Verified(None));
    assert_eq!(tls("127.0.0.1", ", tls: {}"), DatabaseTls::Verified(None));
    assert_eq!(tls("db", ", tls: 'off'"), DatabaseTls::Off);
    let off = with("{ database: 'postgres://u@db/d', tls: 'off' }");
    let loaded = read(&off, Path::new("conf/countersign.yaml"), &environment()).unwrap();
    let keys: Vec<_> = loaded.warnings.iter().map(|it| it.key.as_str()).collect();
    assert!(keys.contains(&"registry.tls"), "{keys:?}");
}

#[test]
fn the_local_copy_is_where_the_journal_is_by_default() {
    let database = database("{ database: 'postgres://u@localhost/d' }");
    assert_eq!(database.state_dir, Some(PathBuf::from("conf/state")));
}

#[test]
fn a_password_in_the_address_is_refused_and_not_repeated() {
    let told = wrong(&with("{ database: 'postgres://u:s3cret@db/d' }"));
    assert!(
        told.contains("registry.database: holds a password"),
        "{told}"
    );
    assert!(!told.contains("s3cret"), "{told}");
}

#[test]
fn other_addresses_places_and_settings_are_refused() {
    for (registry, told) in [
        ("{}", "registry.file: is missing"),
        (
            "{ file: a, database: 'sqlite:b' }",
            "is set beside another place",
        ),
        (
            "{ file: a, max_stale: 5m }",
            "registry.max_stale: is for a database",
        ),
        (
            "{ database: 'sqlite:a', password: { file: b } }",
            "is for PostgreSQL",
        ),
        ("{ database: 'sqlite::memory:' }", "must be sqlite:FILE"),
        ("{ database: 'mysql://u@h/d' }", "must be sqlite:FILE"),
        ("{ database: 'postgres://h/d' }", "must be sqlite:FILE"),
        ("{ database: 'postgres://u@h:0/d' }", "must be sqlite:FILE"),
        (
            "{ database: 'postgres://u@h/d?sslmode=disable' }",
            "must be sqlite:FILE",
        ),
        (
            "{ database: 'sqlite:a', max_stale: 1s }",
            "must be between 5s and 24h",
        ),
    ] {
        let found = wrong(&with(registry));
        assert!(found.contains(told), "{registry}: {found}");
    }
}
