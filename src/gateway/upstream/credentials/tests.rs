use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::{self, Environment};
use countersign_core::identity::MachineId;

/// Credentials of two upstreams, of which the first has its own, in a folder of their own.
struct Fixture {
    folder: tempfile::TempDir,
    credentials: Credentials,
    metrics: Metrics,
}

const CONFIG: &str = "
listeners: [{ address: 127.0.0.1:0 }]
registry: { file: machines.yaml }
credentials:
  team-a: { header: Authorization, prefix: 'Bearer ', file: a }
  only-first: { header: X-Vault-Token, file: b, upstreams: [first] }
upstreams:
  first: { servers: ['http://127.0.0.1:1'], credential: { header: X-Vault-Token, file: own } }
  second: { servers: ['http://127.0.0.1:2'] }
routes: [{ path: /, upstream: first }, { path: /b, upstream: second }]
";

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "own"] {
            fs::write(folder.path().join(name), format!("secret-{name}\n")).unwrap();
        }
        let file = folder.path().join("countersign.yaml");
        let loaded = config::read(CONFIG, &file, &Environment::of_process(1_800_000_000)).unwrap();
        let metrics = Metrics::new("", "").unwrap();
        Fixture {
            credentials: Credentials::new(&loaded.config, &metrics, None),
            folder,
            metrics,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self, name: &str) -> &Arc<CredentialState> {
        (self.credentials.iter())
            .find(|credential| credential.name() == name)
            .unwrap()
    }

    /// The header and the value that a machine with this credential sends to an upstream.
    fn carried(&self, credential: Option<&str>, upstream: usize) -> Option<(String, String)> {
        match self.choose(credential, upstream) {
            Choice::Carry(Injection::Credential { credential, value }) => {
                let value = value.to_str().unwrap().to_owned();
                Some((credential.header().to_string(), value))
            }
            Choice::Nothing => None,
            Choice::LogIn(_) | Choice::Carry(Injection::Token { .. }) => panic!("a login"),
            Choice::NoValue(_) | Choice::NotConfigured => panic!("missing"),
        }
    }

    fn choose(&self, credential: Option<&str>, upstream: usize) -> Choice {
        let machine = Machine {
            id: MachineId::parse("m").unwrap(),
            name: None,
            vault: None,
            owner: None,
            credential: credential.map(Into::into),
            keys: Box::default(),
            enabled: true,
            not_before: None,
            expires: None,
            policy: None,
            groups: Arc::default(),
        };
        (self.credentials).choose(&machine, upstream, ["first", "second"][upstream])
    }

    fn is_usable(&self, name: &str) -> bool {
        let sample = format!("countersign_credential_usable{{credential=\"{name}\"}} 1");
        self.metrics.render().contains(&sample)
    }
}

fn own() -> Option<(String, String)> {
    Some(("x-vault-token".into(), "secret-own".into()))
}

#[test]
fn a_machine_without_a_credential_carries_the_upstreams_own_or_none() {
    let fixture = Fixture::new();
    assert_eq!(fixture.carried(None, 0), own());
    assert_eq!(fixture.carried(None, 1), None);
}

#[test]
fn a_machines_credential_is_carried_in_place_of_the_upstreams_own() {
    let fixture = Fixture::new();
    let expected = Some(("authorization".into(), "Bearer secret-a".into()));
    assert_eq!(fixture.carried(Some("team-a"), 0), expected);
    assert_eq!(fixture.carried(Some("team-a"), 1), expected);
}

#[test]
fn a_credential_stays_away_from_upstreams_that_it_is_not_for() {
    let fixture = Fixture::new();
    let expected = Some(("x-vault-token".into(), "secret-b".into()));
    assert_eq!(fixture.carried(Some("only-first"), 0), expected);
    assert_eq!(fixture.carried(Some("only-first"), 1), None);
}

#[test]
fn a_credential_that_is_not_configured_is_missing_and_no_other_takes_its_place() {
    let choice = Fixture::new().choose(Some("team-b"), 0);
    assert!(matches!(choice, Choice::NotConfigured));
    // Not even where its name is that of an upstream's own.
    let choice = Fixture::new().choose(Some("upstream:first"), 0);
    assert!(matches!(choice, Choice::NotConfigured));
}

#[test]
fn every_header_of_a_credential_is_reserved_in_every_spelling_and_no_other() {
    let credentials = Fixture::new().credentials;
    let is_header = |name| credentials.resembles_header(&HeaderName::from_static(name));
    assert!(is_header("authorization") && is_header("x-vault-token"));
    assert!(is_header("x.vault.token") && is_header("x_vault~token"));
    assert!(!is_header("x-vault-index"));
}

#[test]
fn a_file_that_changed_is_another_credential_from_then_on() {
    let fixture = Fixture::new();
    assert_eq!(fixture.state("upstream:first").read_again(), Ok(false));
    fs::write(fixture.file("own"), "rotated").unwrap();
    assert_eq!(fixture.carried(None, 0), own());
    assert_eq!(fixture.state("upstream:first").read_again(), Ok(true));
    assert_eq!(fixture.carried(None, 0).unwrap().1, "rotated");
}

#[test]
fn a_file_that_is_gone_empty_or_odd_takes_the_credential_away_until_it_is_good_again() {
    let fixture = Fixture::new();
    for bad in [None, Some(""), Some("two words"), Some("two\nlines")] {
        match bad {
            None => fs::remove_file(fixture.file("a")).unwrap(),
            Some(text) => fs::write(fixture.file("a"), text).unwrap(),
        }
        let error = fixture
            .state("team-a")
            .read_again()
            .unwrap_err()
            .to_string();
        assert!(!error.contains("two"), "{error}");
        let choice = fixture.choose(Some("team-a"), 0);
        assert!(matches!(choice, Choice::NoValue(missing) if missing.name() == "team-a"));
        assert!(!fixture.is_usable("team-a") && fixture.is_usable("only-first"));
        fs::write(fixture.file("a"), "back").unwrap();
        assert_eq!(fixture.state("team-a").read_again(), Ok(true));
        assert_eq!(fixture.carried(Some("team-a"), 0).unwrap().1, "Bearer back");
        assert!(fixture.is_usable("team-a"));
    }
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let fixture = Fixture::new();
    let choice = fixture.choose(Some("team-a"), 0);
    let text = format!("{:?} {choice:?}", fixture.credentials);
    assert!(
        text.contains("team-a") && !text.contains("secret"),
        "{text}"
    );
}
