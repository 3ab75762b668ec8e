//! The login of each machine, with the real OpenBao behind the gateway.

use std::fs;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, ask_admin, raw, registry, wait_for};
use crate::support::openbao::{AUDIENCE, OpenBao, ROOT};
use crate::support::process::{countersign, run, unix_seconds};
use crate::support::signer::Machine;

/// One for all tests that do not stop or seal it.
static BAO: LazyLock<OpenBao> = LazyLock::new(OpenBao::start);

const LOOK_UP: &str = "countersign_credential_checks_total{credential=\"login:secrets\",result=";

/// The gateway's own key.
fn signer() -> Machine {
    Machine::new("gateway", 200)
}

/// A gateway that logs machines in at a mount of its own. The machines have the secrets that OpenBao
/// holds under their ids.
struct Site {
    gateway: Gateway,
    mount: String,
    keys: tempfile::TempDir,
}

impl Site {
    fn new(bao: &OpenBao, machines: &[&Machine]) -> Site {
        let trusted = json!({"jwt_validation_pubkeys": [signer().public_pem()]});
        Site::with(bao, machines, trusted, json!({}), "")
    }

    fn with(bao: &OpenBao, machines: &[&Machine], config: Value, role: Value, more: &str) -> Site {
        let mount = bao.mount(config, role);
        for machine in machines {
            bao.write(&machine.id, &format!("secret of {}", machine.id));
        }
        let keys = tempfile::tempdir().unwrap();
        fs::write(keys.path().join("assertion.pem"), signer().pem()).unwrap();
        let assertion = keys.path().join("assertion.pem");
        let gateway = Gateway::with(
            &Backend::start(),
            Options {
                servers: Some(vec![format!("http://{}", bao.address)]),
                upstream: format!(
                    "    login: {{ method: jwt, mount: {mount}, role: machine, audience: {AUDIENCE}, \
                     header: X-Vault-Token }}\n"
                ),
                more: format!(
                    "assertion:\n  issuer: https://gw.example\n  keys: [{}]\n{more}",
                    assertion.display()
                ),
                machines: registry(machines),
                start: unix_seconds(),
                ..Options::default()
            },
        );
        Site {
            gateway,
            mount,
            keys,
        }
    }

    /// Reads the secret of a machine as another machine, or as itself.
    fn read(&self, machine: &Machine, of: &str) -> Response {
        let path = format!("/v1/secret/data/{of}/db");
        let lines = self.gateway.sign(machine, "GET", &path, b"").lines();
        exchange(self.gateway.address, raw("GET", &path, &lines, b""))
    }

    fn logins(&self, result: &str) -> f64 {
        let labels = format!("upstream=\"secrets\",result=\"{result}\"");
        // The labels are in the order of the alphabet.
        let labels = labels.split(',').rev().collect::<Vec<_>>().join(",");
        self.gateway
            .metric(&format!("countersign_logins_total{{{labels}}}"))
    }

    fn tokens(&self) -> f64 {
        self.gateway
            .metric("countersign_backend_tokens{upstream=\"secrets\"}")
    }

    /// The accessors in the response records so far.
    fn accessors(&self, count: usize) -> Vec<String> {
        let records = self.gateway.decisions("response", count);
        let accessor = |record: &Value| record["login"]["accessor"].as_str().map(str::to_owned);
        records.iter().filter_map(accessor).collect()
    }
}

#[test]
fn a_machine_reads_its_own_secret_and_openbao_refuses_it_anothers() {
    let (one, other) = (Machine::new("own-1", 1), Machine::new("own-2", 2));
    let site = Site::new(&BAO, &[&one, &other]);
    let own = site.read(&one, "own-1");
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(own.json()["data"]["data"]["value"], "secret of own-1");
    let others = site.read(&one, "own-2");
    assert_eq!(others.status, 403);
    // OpenBao's own words, and no refusal of the gateway.
    assert_eq!(others.code(), "");
    assert!(
        others.json()["errors"][0]
            .as_str()
            .unwrap()
            .contains("permission denied")
    );
    assert_eq!(
        site.gateway.metric(&format!("{LOOK_UP}\"accepted\"}}")),
        1.0
    );
    assert_eq!(site.read(&one, "own-1").status, 200);
    assert_eq!(site.logins("accepted"), 1.0);
}

#[test]
fn fifty_first_requests_at_once_make_one_login() {
    let machine = Machine::new("crowd", 3);
    let site = Site::new(&BAO, &[&machine]);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(site.read(&machine, "crowd").status, 200));
        }
    });
    assert_eq!(site.logins("accepted"), 1.0);
    assert_eq!(site.tokens(), 1.0);
}

#[test]
fn no_two_machines_share_a_token_and_the_records_name_each() {
    let machines: Vec<Machine> = (0..8)
        .map(|n| Machine::new(&format!("many-{n}"), 10 + n))
        .collect();
    let site = Site::new(&BAO, &machines.iter().collect::<Vec<_>>());
    for machine in &machines {
        assert_eq!(site.read(machine, &machine.id).status, 200);
    }
    let mut accessors = site.accessors(8);
    accessors.sort_unstable();
    accessors.dedup();
    assert_eq!(accessors.len(), 8);
    for accessor in accessors {
        let body = json!({ "accessor": accessor });
        let token = BAO.call("POST", "/v1/auth/token/lookup-accessor", body);
        let claimed = token["data"]["display_name"].as_str().unwrap().to_owned();
        assert!(
            claimed.starts_with(&format!("{}-many-", site.mount)),
            "{claimed}"
        );
    }
    let record = &site.gateway.decisions("response", 8)[0]["login"];
    assert_eq!(
        (&record["mount"], &record["role"]),
        (&json!(site.mount), &json!("machine"))
    );
}

#[test]
fn a_token_revoked_at_openbao_costs_one_503_and_the_next_try_logs_in_anew() {
    let machine = Machine::new("revoked", 30);
    let site = Site::new(&BAO, &[&machine]);
    assert_eq!(site.read(&machine, "revoked").status, 200);
    // A check has accepted the token once: so the refusal of a new token tells that it is dead.
    assert_eq!(site.read(&machine, "another").status, 403);
    let accessor = site.accessors(1).remove(0);
    BAO.call(
        "POST",
        "/v1/auth/token/revoke-accessor",
        json!({ "accessor": accessor }),
    );
    let dead = site.read(&machine, "revoked");
    assert_eq!(
        (dead.status, dead.code().as_str()),
        (503, "upstream_credential")
    );
    assert_eq!(site.read(&machine, "revoked").status, 200);
    assert_eq!(site.logins("accepted"), 2.0);
    assert_eq!(site.gateway.metric(&format!("{LOOK_UP}\"refused\"}}")), 1.0);
}

#[test]
fn a_sealed_openbao_is_a_503_and_works_again_when_it_is_opened() {
    let bao = OpenBao::start();
    let (known, new) = (Machine::new("sealed-1", 31), Machine::new("sealed-2", 32));
    let site = Site::new(&bao, &[&known, &new]);
    assert_eq!(site.read(&known, "sealed-1").status, 200);
    bao.call("POST", "/v1/sys/seal", Value::Null);
    let sealed = site.read(&new, "sealed-2");
    assert_eq!(
        (sealed.status, sealed.code().as_str()),
        (503, "upstream_credential")
    );
    assert_eq!(site.read(&known, "sealed-1").status, 503);
    let (status, ready) = site.gateway.admin_get("/readyz");
    assert_eq!(status, 200);
    assert!(
        ready.contains("login:secrets: the last login failed"),
        "{ready}"
    );
    assert_eq!(site.logins("unavailable"), 1.0);
    bao.call("POST", "/v1/sys/unseal", json!({ "key": bao.unseal_key() }));
    for machine in [&known, &new] {
        wait_for("the recovery", || {
            (site.read(machine, &machine.id).status == 200).then_some(())
        });
    }
}

#[test]
fn a_stopped_openbao_is_a_503_and_a_restarted_one_works_when_it_is_set_up() {
    let mut bao = OpenBao::start();
    let machine = Machine::new("stopped", 33);
    let site = Site::new(&bao, &[&machine]);
    bao.stop();
    let stopped = site.read(&machine, "stopped");
    assert_eq!(
        (stopped.status, stopped.code().as_str()),
        (503, "upstream_credential")
    );
    bao.spawn();
    let trusted = json!({"jwt_validation_pubkeys": [signer().public_pem()]});
    bao.mount_at(&site.mount, trusted, json!({}));
    bao.write("stopped", "again");
    wait_for("the recovery", || {
        (site.read(&machine, "stopped").status == 200).then_some(())
    });
}

#[test]
fn a_machine_with_another_key_or_switched_off_has_lost_its_token() {
    let (old, new) = (Machine::new("rekeyed", 34), Machine::new("rekeyed", 35));
    let off = Machine::new("off", 36);
    let stays = Machine::new("stays", 37);
    let site = Site::new(&BAO, &[&old, &off, &stays]);
    for machine in [&old, &off, &stays] {
        assert_eq!(site.read(machine, &machine.id).status, 200);
    }
    assert_eq!(site.tokens(), 3.0);
    let text = registry(&[&new, &stays, &off]) + "    enabled: false\n";
    site.gateway.write_registry(&text);
    wait_for("the tokens to be wiped", || {
        (site.tokens() == 1.0).then_some(())
    });
    assert_eq!(site.read(&old, "rekeyed").status, 401);
    assert_eq!(site.read(&off, "off").status, 403);
    assert_eq!(site.read(&new, "rekeyed").status, 200);
    assert_eq!(site.read(&stays, "stays").status, 200);
    assert_eq!(site.logins("accepted"), 4.0);
}

#[test]
fn tokens_survive_a_reload_of_the_configuration_that_leaves_the_login_alone() {
    let machine = Machine::new("reload", 38);
    let site = Site::new(&BAO, &[&machine]);
    assert_eq!(site.read(&machine, "reload").status, 200);
    let loaded = "countersign_config_reloads_total{result=\"loaded\"}";
    site.gateway.edit_config(|text| text + "hosts: [gw]\n");
    wait_for("the reload", || {
        (site.gateway.metric(loaded) >= 1.0).then_some(())
    });
    assert_eq!(site.read(&machine, "reload").status, 200);
    assert_eq!(site.logins("accepted"), 1.0);
    // Another issuer is another login.
    site.gateway
        .edit_config(|text| text.replace("https://gw.example", "https://gw2.example"));
    wait_for("the reload", || {
        (site.gateway.metric(loaded) >= 2.0).then_some(())
    });
    assert_eq!(site.read(&machine, "reload").status, 200);
    assert_eq!(site.logins("accepted"), 2.0);
}

#[test]
fn a_role_that_refuses_the_assertion_is_a_503_that_the_metrics_show() {
    let machine = Machine::new("refused", 39);
    let trusted = json!({"jwt_validation_pubkeys": [signer().public_pem()]});
    let role = json!({"bound_audiences": ["another"]});
    let site = Site::with(&BAO, &[&machine], trusted, role, "");
    let answer = site.read(&machine, "refused");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "upstream_credential")
    );
    // The failure is kept for a moment, so that a client in a hurry makes no further login.
    for _ in 0..5 {
        assert_eq!(site.read(&machine, "refused").status, 503);
    }
    assert!(site.logins("refused") <= 2.0);
    let path = format!("/v1/auth/{}/role/machine", site.mount);
    BAO.call(
        "POST",
        &path,
        json!({"role_type": "jwt", "user_claim": "sub",
        "bound_audiences": [AUDIENCE], "token_policies": [site.mount]}),
    );
    wait_for("the recovery", || {
        (site.read(&machine, "refused").status == 200).then_some(())
    });
}

#[test]
fn openbao_takes_the_keys_from_the_admin_listener_and_keys_can_be_rotated() {
    let (first, second) = (Machine::new("rotate-1", 40), Machine::new("rotate-2", 41));
    let trusted = json!({"jwt_validation_pubkeys": [signer().public_pem()]});
    let site = Site::with(&BAO, &[&first, &second], trusted, json!({}), "");
    let jwks = format!("http://{}/.well-known/jwks.json", site.gateway.admin);
    let config = format!("/v1/auth/{}/config", site.mount);
    BAO.call(
        "POST",
        &config,
        json!({"jwks_url": jwks, "jwt_validation_pubkeys": []}),
    );
    assert_eq!(site.read(&first, "rotate-1").status, 200);
    let next = Machine::new("gateway", 201);
    let old_keys = site.gateway.admin_get("/.well-known/jwks.json").1;
    // The key is replaced in its file, as an operator rotates it.
    fs::write(site.keys.path().join("assertion.pem"), next.pem()).unwrap();
    wait_for("the new key", || {
        (site.gateway.admin_get("/.well-known/jwks.json").1 != old_keys).then_some(())
    });
    assert_eq!(site.read(&second, "rotate-2").status, 200);
    assert_eq!(site.logins("accepted"), 2.0);
}

#[test]
fn the_public_keys_are_served_on_the_path_that_the_configuration_names() {
    let machine = Machine::new("jwks", 42);
    let trusted = json!({"jwt_validation_pubkeys": [signer().public_pem()]});
    let more = "  jwks_path: /.well-known/jwks.json\n";
    let site = Site::with(&BAO, &[&machine], trusted, json!({}), more);
    let get = |method: &str| {
        let request = format!("{method} /.well-known/jwks.json HTTP/1.1\r\nHost: any\r\n\r\n");
        ask_admin(site.gateway.address, &request)
    };
    let (status, body) = get("GET");
    assert_eq!(status, 200);
    let keys: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"))
    );
    assert!(key.get("d").is_none());
    assert_eq!(get("HEAD"), (200, String::new()));
    assert_eq!(site.gateway.admin_get("/.well-known/jwks.json").1, body);
    // Any other method goes the way of every request.
    assert_eq!(get("POST").0, 401);
    // Root is no machine's token: the fixture alone knows it.
    assert!(!body.contains(ROOT));
}

#[test]
fn the_demo_with_openbao_shows_its_steps_and_ends_what_it_started() {
    let shown = run(&["demo", "--openbao", "--once"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{text}");
    assert!(text.contains("4. The next try"), "{text}");
    let address = text.split_once("backend   http://").unwrap().1;
    let address = address.split(' ').next().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err(), "{address}");
}

#[test]
fn the_demo_says_what_to_install_where_there_is_no_openbao() {
    let mut demo = countersign(&["demo", "--openbao", "--once"]);
    let shown = demo.env("PATH", "/nonexistent").output().unwrap();
    assert_eq!(shown.status.code(), Some(1));
    let text = String::from_utf8(shown.stderr).unwrap();
    assert!(
        text.contains("cannot start bao") && text.contains("--openbao"),
        "{text}"
    );
}
