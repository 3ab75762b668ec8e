//! `conf/countersign.yaml` is the documentation of every key: these tests keep it complete and
//! true.

use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use super::*;

/// As `openssl genpkey` writes it.
const ASSERTION_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
    -----END PRIVATE KEY-----\n";

const REFERENCE: &str = include_str!("../../../conf/countersign.yaml");

/// Where the files are that an upstream's `tls` names: they are read with the configuration.
static FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["vault.internal".to_owned()]).unwrap();
    for (name, content) in [
        ("vault-ca.pem", made.cert.pem()),
        ("gateway-cert.pem", made.cert.pem()),
        ("gateway-tls-key.pem", made.signing_key.serialize_pem()),
        ("assertion.pem", ASSERTION_KEY.to_owned()),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    folder
});

fn reference() -> Loaded {
    let file = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/conf/countersign.yaml"
    ));
    load(file, &environment()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The reference with its optional settings switched on: `#key: value` becomes `key: value`.
fn uncommented() -> String {
    let switch_on = |line: &str| match line.split_once('#') {
        Some((indent, setting))
            if indent.trim().is_empty() && setting.starts_with(|c: char| c.is_alphabetic()) =>
        {
            format!("{indent}{setting}\n")
        }
        _ => format!("{line}\n"),
    };
    REFERENCE.lines().map(switch_on).collect()
}

fn without(text: &str, setting: &str) -> String {
    let kept = |line: &&str| !line.trim_start().starts_with(setting);
    text.lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Every setting, but the date of another mode, an adapter (which excludes others), the `file` of each two that exclude one another,
/// and the file of a key.
fn everything() -> String {
    let with_env = without(&uncommented(), "file: vault-token");
    let with_env = without(&with_env, "file: team-a-token");
    let enforcing = without(&with_env, "observe_until:");
    let enforcing = without(&enforcing, "adapter:");
    let enforcing = without(&enforcing, "management:");
    let without_key = without(&enforcing, "signing_key:");
    let without_files = without(&without_key, "file: machines.yaml");
    let without_files = without(&without_files, "directory: machines.d");
    let mut text = without(&without_files, "password_file:");
    text = without_block(&text, "    login:");
    with_files(&mut text);
    text.replace("http://127.0.0.1:8200", "https://127.0.0.1:8200")
        .replace("- path: /  ", "- path: /edge  ")
        .replace("file: \"-\"", "file: audit.jsonl")
        .replace("store: memory", "store: redis")
        .replace("state_dir: state", "state_dir: none")
}

/// A login in place of the credential.
fn logging_in() -> String {
    let with_login = without_block(&uncommented(), "    credential:");
    let text = without_block(&with_login, "    set_headers:");
    let text = without(&text, "file: team-a-token");
    let text = without(&text, "observe_until:");
    let text = without(&text, "adapter:");
    let text = without(&text, "management:");
    let text = without(&text, "signing_key:");
    let text = without(&text, "role_by:");
    let text = without(&text, "file: machines.yaml");
    let text = without(&text, "directory: machines.d");
    let mut text = without(&text, "password_file:");
    with_files(&mut text);
    text.replace("http://127.0.0.1:8200", "https://127.0.0.1:8200")
        .replace("- path: /  ", "- path: /edge  ")
        .replace("file: \"-\"", "file: audit.jsonl")
        .replace("store: memory", "store: redis")
        .replace("state_dir: state", "state_dir: none")
}

/// Leaves a key out, with all that is indented deeper.
fn without_block(text: &str, head: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(head);
    let mut inside = false;
    let kept = text.lines().filter(|line| {
        inside = match line.starts_with(head) {
            true => true,
            false => inside && (line.trim().is_empty() || indent(line) > depth),
        };
        !inside
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// Names the files that are there.
fn with_files(text: &mut String) {
    for name in [
        "vault-ca.pem",
        "gateway-cert.pem",
        "gateway-tls-key.pem",
        "assertion.pem",
    ] {
        assert!(text.contains(name), "{name}");
        let path = FILES.path().join(name);
        *text = text.replace(name, path.to_str().unwrap());
    }
}

fn absent_keys(text: &str) -> Vec<String> {
    let notes = Notes::new(Path::new("countersign.yaml"));
    let config = read_noting(text, Path::new("countersign.yaml"), &environment(), &notes);
    let absent = notes.absent_keys();
    notes
        .conclude(config)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    absent
}

#[test]
fn the_reference_loads_without_a_warning() {
    assert_eq!(reference().warnings, []);
}

#[test]
fn the_reference_with_its_optional_settings_has_every_key_there_is() {
    assert_eq!(
        absent_keys(&everything()),
        [
            "registry.file",
            "registry.directory",
            "credentials.team-a.file",
            "upstreams.secrets.credential.file",
            "upstreams.secrets.login",
            "routes[0].management",
            "routes[0].adapter",
            "routes[0].observe_until",
            "enrolment",
            "joiners",
            "replay.redis.password_file",
            "audit.signing_key"
        ]
    );
    assert!(uncommented().contains("signing_key: gateway-key.pem"));
    assert!(uncommented().contains("observe_until: 2027-01-31 "));
    assert!(uncommented().contains("adapter: { kind: sikkerkey, kv: secret }"));
    assert!(uncommented().contains("management: true"));
    assert!(uncommented().contains("file: vault-token"));
    assert!(uncommented().contains("file: team-a-token"));
    assert!(uncommented().contains("password_file: redis-password"));
}

#[test]
fn the_reference_has_every_key_of_a_login() {
    assert_eq!(
        absent_keys(&logging_in()),
        [
            "registry.file",
            "registry.directory",
            "credentials.team-a.file",
            "upstreams.secrets.credential",
            "upstreams.secrets.login.role_by",
            "upstreams.secrets.set_headers",
            "routes[0].management",
            "routes[0].adapter",
            "routes[0].observe_until",
            "enrolment",
            "joiners",
            "replay.redis.password_file",
            "audit.signing_key"
        ]
    );
    assert!(uncommented().contains("role_by: group"));
}

#[test]
fn a_key_that_the_reference_lacks_would_be_noticed() {
    let poorer = without(&everything(), "idle_timeout:");
    assert!(absent_keys(&poorer).contains(&"upstreams.secrets.idle_timeout".to_owned()));
}

#[test]
fn the_settings_of_the_reference_are_the_real_defaults() {
    let reference = reference().config;
    // Of the same place: the directory of the journal is beside the file.
    let minimal = read(MINIMAL, &reference.file, &environment())
        .unwrap()
        .config;
    assert_eq!(reference.admin, minimal.admin);
    assert_eq!(reference.admin_hosts, minimal.admin_hosts);
    assert_eq!(reference.hosts, minimal.hosts);
    assert_eq!(reference.identity_header, minimal.identity_header);
    assert_eq!(reference.routes, minimal.routes);
    assert_eq!(reference.replay, minimal.replay);
    assert_eq!(reference.limits, minimal.limits);
    assert_eq!(reference.throttle, minimal.throttle);
    assert_eq!(reference.audit, minimal.audit);
    assert_eq!(reference.log, minimal.log);
    assert_eq!(reference.shutdown, minimal.shutdown);
    assert_eq!(reference.threads, minimal.threads);
    assert_eq!(
        format!("{:?}", reference.upstreams),
        format!("{:?}", minimal.upstreams)
    );
}

#[test]
fn the_configuration_for_vault_loads_without_a_warning() {
    let text = include_str!("../../../conf/vault.yaml");
    let ca = FILES.path().join("vault-ca.pem");
    let text = text.replace("vault-ca.pem", ca.to_str().unwrap());
    let file = FILES.path().join("vault.yaml");
    let environment = Environment {
        resolve: |_| Ok(vec![([10, 0, 0, 1], 8200).into()]),
        ..environment()
    };
    let loaded = read(&text, &file, &environment);
    let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.warnings, []);
    // No token lies on the disk of the gateway.
    assert!(loaded.config.credentials.is_empty());
    assert!(loaded.config.upstreams[0].login.is_some());
}

#[test]
fn the_configuration_for_a_bearer_api_loads_without_a_warning() {
    let text = include_str!("../../../conf/bearer-api.yaml");
    let key = FILES.path().join("api-key");
    std::fs::write(&key, "sk-a-key-of-the-api").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let file = FILES.path().join("bearer-api.yaml");
    let environment = Environment {
        resolve: |_| Ok(vec![([10, 0, 0, 1], 443).into()]),
        ..environment()
    };
    let loaded = read(text, &file, &environment);
    let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.warnings, []);
    let key = loaded.config.upstreams[0].credential.as_ref().unwrap();
    assert_eq!(key.value.as_ref().unwrap(), "Bearer sk-a-key-of-the-api");
}

#[test]
fn the_registry_of_the_reference_lies_beside_it() {
    let config = reference().config;
    assert_eq!(
        config.registry.path().unwrap(),
        config.file.with_file_name("machines.yaml")
    );
}
