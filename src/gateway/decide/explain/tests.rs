use std::path::Path;

use super::*;
use crate::config::{self, Environment};

const NOW: u64 = 1_800_000_000;

const CONFIG: &str = "
listeners: [{ address: 127.0.0.1:0 }]
registry: { file: machines.yaml }
credentials:
  only-second: { header: X-Vault-Token, file: absent, upstreams: [second] }
upstreams:
  first: { servers: ['http://127.0.0.1:1'], credential: { header: X-Vault-Token, file: absent } }
  second: { servers: ['http://127.0.0.1:2'] }
routes: [{ path: /, upstream: first }, { path: /second, upstream: second }]
";

/// Explains a GET of `target` by a machine that names the credential `named`.
fn policy_of(named: &str, target: &str) -> PolicyFacts {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countersign.yaml");
    let loaded = config::read(CONFIG, &file, &Environment::of_process(NOW)).unwrap();
    let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let machines =
        format!("machines: [{{ id: m, public_keys: ['{key}'], credential: {named} }}]\n");
    let registry =
        Registry::from_bytes(Path::new("machines.yaml"), machines.as_bytes(), None).unwrap();
    let question = Question {
        machine: "m",
        method: "GET",
        target,
        client: None,
        at: NOW,
    };
    let explanation = explain(&loaded.config, &registry, question).unwrap();
    explanation.policy.unwrap()
}

#[test]
fn a_missing_credential_is_named_whether_it_is_the_machines_or_the_upstreams_own() {
    let missing = |named, target| {
        let policy = policy_of(named, target);
        assert!(policy.credential_missing);
        policy.credential.unwrap()
    };
    assert_eq!(missing("only-second", "/second"), "only-second");
    // The machine's credential is not for this upstream, so the upstream's own was looked up.
    assert_eq!(missing("only-second", "/a"), "upstream:first");
    assert_eq!(missing("unknown", "/a"), "unknown");
}

const LOGIN: &str = "
listeners: [{ address: 127.0.0.1:0 }]
registry: { file: machines.yaml }
assertion: { issuer: gw, keys: [key.pem] }
upstreams:
  first:
    servers: ['http://127.0.0.1:1']
    login: { method: jwt, mount: jwt, ROLE, audience: bao, header: X-Vault-Token }
routes: [{ path: /, upstream: first }]
";

/// As `openssl genpkey` writes it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
    -----END PRIVATE KEY-----\n";

/// Explains a GET of a machine in these groups, before an upstream with a login.
fn with_login(role: &str, groups: &str, target: &str) -> Explanation {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.pem"), KEY).unwrap();
    let file = folder.path().join("countersign.yaml");
    let text = LOGIN.replace("ROLE", role);
    let loaded = config::read(&text, &file, &Environment::of_process(NOW)).unwrap();
    let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let machines = format!(
        "groups: [{{ name: web, rate: {{ per_minute: 60 }} }}]\n\
         machines: [{{ id: m, public_keys: ['{key}']{groups} }}]\n"
    );
    let registry =
        Registry::from_bytes(Path::new("machines.yaml"), machines.as_bytes(), None).unwrap();
    let question = Question {
        machine: "m",
        method: "GET",
        target,
        client: None,
        at: NOW,
    };
    explain(&loaded.config, &registry, question).unwrap()
}

#[test]
fn a_login_that_would_be_used_is_named_and_not_tried() {
    let explanation = with_login("role: machine", "", "/v1/secret/data/a");
    assert_eq!(explanation.verdict, Prediction::Passes);
    let policy = explanation.policy.unwrap();
    assert_eq!(policy.credential.as_deref(), Some("login:first"));
    assert!(!policy.credential_missing && !policy.closed.is_empty());
    let expected = PredictedLogin {
        path: "/v1/auth/jwt/login".into(),
        role: Some("machine".into()),
        audience: "bao".into(),
    };
    assert_eq!(policy.login, Some(expected));
}

#[test]
fn a_machine_without_a_group_has_no_role_by_group() {
    let of_group = with_login("role_by: group", ", groups: [web]", "/a");
    assert_eq!(
        of_group.policy.unwrap().login.unwrap().role.as_deref(),
        Some("web")
    );
    let without = with_login("role_by: group", "", "/a");
    assert_eq!(
        without.verdict,
        Prediction::Refused(Refusal::UpstreamCredential)
    );
    assert!(without.policy.unwrap().credential_missing);
}

#[test]
fn paths_that_hand_tokens_out_are_closed_with_a_login_too() {
    let explanation = with_login("role: machine", "", "/v1/auth/token/lookup-self");
    assert!(explanation.policy.unwrap().is_closed);
    assert!(!explanation.verdict.passes());
}
