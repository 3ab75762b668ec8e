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
