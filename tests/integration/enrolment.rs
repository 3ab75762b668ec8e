//! Machines that enrol themselves, over sockets, with a registry in SQLite.

use std::fs;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::backend::Backend;
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, raw, registry};
use crate::support::postgres::Postgres;
use crate::support::signer::Machine;

const REGISTER: &str = "/v1/vault_prod/enroll/register";
const JOIN: &str = "/v1/vault_prod/enroll/jwt";

fn operator() -> Machine {
    Machine::new("operator-1", 200)
}

/// The key of the issuer of tokens.
fn issuer() -> SigningKey {
    SigningKey::from_bytes(&[77; 32])
}

fn gateway(backend: &Backend) -> Gateway {
    gateway_with(backend, "")
}

fn gateway_with(backend: &Backend, more: &str) -> Gateway {
    let registry = "{ database: 'sqlite:registry.db', operators: operators.yaml }";
    gateway_of(backend, registry.into(), more)
}

fn gateway_of(backend: &Backend, machines: String, more: &str) -> Gateway {
    Gateway::with(backend, options(machines, more))
}

fn options(machines: String, more: &str) -> Options {
    let x = URL_SAFE_NO_PAD.encode(issuer().verifying_key().as_bytes());
    let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] });
    Options {
        registry: machines,
        routes: "  - { path: /, upstream: secrets }\n  - { path: /v1, upstream: secrets }\n  \
                     - { path: /v1, enrolment: true }\n  \
                     - { path: /countersign/v1, management: true }\n"
            .into(),
        more: format!(
            "enrolment: {{ public_url: 'https://gw.example' }}\ntrusted_proxies: [127.0.0.1]\n\
                 joiners:\n  - {{ name: ci, issuer: 'https://ci', jwks: {{ file: ci.json }}, \
                 audience: countersign, claims: {{ 'ci/project': web }}, vault: vault_prod, \
                 machine: {{ name: '{{sub}}', expires_in: 1h }} }}\n{more}"
        ),
        files: vec![
            ("operators.yaml", registry(&[&operator()])),
            ("ci.json", keys.to_string()),
        ],
        ..Options::default()
    }
}

/// Creates a token with these terms beside its name and vault, by a call of the operator.
fn token(gateway: &Gateway, more: Value) -> (String, String) {
    let mut terms = json!({ "name": "fleet", "vault": "vault_prod" });
    for (key, value) in more.as_object().unwrap() {
        terms[key] = value.clone();
    }
    let answer = manage(gateway, "POST", "/enrolment-tokens", &terms.to_string());
    assert_eq!(answer.status, 200, "{}", answer.json());
    let answer = answer.json();
    let text = |key: &str| answer[key].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

fn manage(gateway: &Gateway, method: &str, path: &str, body: &str) -> Response {
    let path = format!("/countersign/v1{path}");
    let signed = gateway.sign(&operator(), method, &path, body.as_bytes());
    exchange(
        gateway.address,
        raw(method, &path, &signed.lines(), body.as_bytes()),
    )
}

/// The body of an enrolment, by the protocol's description.
fn body(gateway: &Gateway, field: &str, secret: &str, machine: u8) -> Value {
    let key = SigningKey::from_bytes(&[machine; 32]);
    let public = STANDARD.encode(key.verifying_key().as_bytes());
    let now = gateway.now();
    let digest: String = (Sha256::digest(secret).iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let message = format!("countersign-enrol-1:vault_prod:{digest}:{public}:{now}");
    let proof = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
    json!({
        field: secret, "publicKey": public, "hostname": format!("web-{machine}"),
        "timestamp": now, "proof": proof,
    })
}

/// A token of the issuer.
fn jwt(gateway: &Gateway, subject: &str, project: &str) -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = encode(json!({ "alg": "EdDSA", "kid": "k" }));
    let claims = encode(json!({
        "iss": "https://ci", "aud": "countersign", "sub": subject, "exp": gateway.now() + 300,
        "ci": { "project": project },
    }));
    let signed = format!("{header}.{claims}");
    let signature = issuer().sign(signed.as_bytes()).to_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn post(gateway: &Gateway, path: &str, body: &[u8], from: &str) -> Response {
    let lines = format!("X-Forwarded-For: {from}\r\nContent-Type: application/json\r\n");
    exchange(gateway.address, raw("POST", path, &lines, body))
}

fn register(gateway: &Gateway, body: &Value) -> Response {
    post(gateway, REGISTER, body.to_string().as_bytes(), "192.0.2.1")
}

/// What a client can tell refusals apart by: everything but the id of the request and the date.
fn told(answer: &Response) -> (u16, Vec<(String, String)>, Value) {
    let mut body = answer.json();
    body.as_object_mut().unwrap().remove("request_id");
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !matches!(&*name.to_lowercase(), "x-request-id" | "date"));
    (answer.status, headers, body)
}

#[test]
fn an_enrolled_machine_signs_its_first_request_at_once() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let (id, token) = token(&gateway, json!({ "machine": { "owner": "ops" } }));
    let answer = register(&gateway, &body(&gateway, "token", &token, 7));
    assert_eq!(answer.status, 200, "{}", answer.json());
    let enrolled = answer.json();
    assert_eq!(enrolled["vaultId"], "vault_prod");
    assert_eq!(enrolled["machineName"], "web-7");
    assert_eq!(enrolled["apiUrl"], "https://gw.example");
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let machine_id = enrolled["machineId"].as_str().unwrap().to_owned();
    let machine = Machine::new(&machine_id, 7);
    let signed = gateway.sign(&machine, "GET", "/v1/secret/a", b"");
    let read = exchange(
        gateway.address,
        raw("GET", "/v1/secret/a", &signed.lines(), b""),
    );
    assert_eq!(read.status, 200);
    let seen = backend.only();
    assert_eq!(seen.one("X-Machine-Identity"), machine_id);
    assert_eq!(seen.one("X-Machine-Owner"), "ops");

    let record = gateway.decisions("enrolled", 1).remove(0);
    assert_eq!(record["machine"]["id"], machine_id);
    assert_eq!(record["machine"]["public_key"], machine.public_key());
    assert_eq!(record["enrolled_by"]["token"], id);
    assert_eq!(record["hostname"], "web-7");
    assert_eq!(record["client_ip"], "192.0.2.1");
    assert_eq!(record["proved"], true);
    let sample = "countersign_enrolments_total{result=\"enrolled\"}";
    assert_eq!(gateway.metric(sample), 1.0);
}

#[test]
fn nothing_tells_a_wrong_token_from_a_used_up_expired_revoked_or_other_one() {
    let backend = Backend::start();
    let gateway = gateway_with(&backend, "throttle: { failures_per_minute: 0 }\n");
    let (_, used_up) = token(&gateway, json!({}));
    assert_eq!(
        register(&gateway, &body(&gateway, "token", &used_up, 1)).status,
        200
    );
    let (revoked_id, revoked) = token(&gateway, json!({}));
    let path = format!("/enrolment-tokens/{revoked_id}");
    assert_eq!(manage(&gateway, "DELETE", &path, "").status, 200);
    let (_, network) = token(&gateway, json!({ "cidrs": ["198.51.100.0/24"] }));
    let (_, other_vault) = token(&gateway, json!({ "vault": "vault_test" }));
    let (_, expired) = token(&gateway, json!({ "expires_in": "10s" }));
    gateway.hands.advance(std::time::Duration::from_secs(10));
    let unknown = format!("cse_{}", "A".repeat(43));

    let all = [
        &unknown,
        &used_up,
        &revoked,
        &network,
        &other_vault,
        &expired,
        &"no".to_owned(),
    ];
    let answers: Vec<_> = all
        .iter()
        .map(|token| told(&register(&gateway, &body(&gateway, "token", token, 2))))
        .collect();
    let (status, _, refusal) = &answers[0];
    assert_eq!(
        (*status, &refusal["code"]),
        (401, &json!("enrolment_refused"))
    );
    for answer in &answers[1..] {
        assert_eq!(answer, &answers[0]);
    }
    // The operator learns the cause.
    let records = gateway.decisions("refused", all.len());
    let causes: Vec<_> = records
        .iter()
        .map(|record| record["cause"].as_str().unwrap())
        .collect();
    let expected = [
        "unknown_token",
        "used_up",
        "revoked",
        "network",
        "other_vault",
        "expired",
        "unknown_token",
    ];
    assert_eq!(causes, expected);
    let sample = "countersign_enrolments_total{result=\"refused\"}";
    assert_eq!(gateway.metric(sample), 7.0);
}

#[test]
fn a_jwt_enrols_once_and_every_wrong_one_looks_like_a_used_one() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let good = jwt(&gateway, "runner-1", "web");
    let join = |secret: &str, machine: u8| {
        let body = body(&gateway, "jwt", secret, machine).to_string();
        post(&gateway, JOIN, body.as_bytes(), "192.0.2.1")
    };
    let answer = join(&good, 1);
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.json()["machineName"], "runner-1");
    let record = gateway.decisions("enrolled", 1).remove(0);
    assert_eq!(
        record["enrolled_by"],
        json!({ "joiner": "ci", "subject": "runner-1" })
    );

    let other_project = jwt(&gateway, "runner-1", "db");
    let (signed, _) = other_project.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(86));
    let used = told(&join(&good, 2));
    assert_eq!(
        (used.0, &used.2["code"]),
        (401, &json!("enrolment_refused"))
    );
    for wrong in [&*other_project, &forged, "no"] {
        assert_eq!(told(&join(wrong, 3)), used);
    }
}

#[test]
fn a_failing_audit_log_costs_no_key_and_no_use_of_a_secret() {
    let backend = Backend::start();
    let mut options = options(
        "{ database: 'sqlite:registry.db', operators: operators.yaml }".into(),
        "",
    );
    options.audit = "/dev/full".into();
    let gateway = Gateway::with(&backend, options);
    let good = jwt(&gateway, "runner-1", "web");
    let body = body(&gateway, "jwt", &good, 1).to_string();
    for _ in 0..3 {
        let answer = post(&gateway, JOIN, body.as_bytes(), "192.0.2.1");
        assert_eq!((answer.status, &*answer.code()), (503, "audit_unavailable"));
    }
    let script = "import sqlite3, sys\n\
                  for table in ('machine', 'machine_key', 'used_jwt'):\n    \
                  print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM ' + table).fetchone()[0])";
    let counted = Command::new("python3")
        .args(["-c", script])
        .arg(gateway.folder.path().join("registry.db"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&counted.stdout), "0\n0\n0\n");
}

#[test]
fn a_source_that_tries_tokens_is_turned_away() {
    let backend = Backend::start();
    let gateway = gateway_with(&backend, "throttle: { failures_per_minute: 5 }\n");
    let (_, good) = token(&gateway, json!({}));
    let wrong = body(&gateway, "token", &format!("cse_{}", "A".repeat(43)), 1).to_string();
    let mut codes = Vec::new();
    while !codes.contains(&"throttled".to_owned()) {
        assert!(codes.len() < 50, "{codes:?}");
        codes.push(post(&gateway, REGISTER, wrong.as_bytes(), "192.0.2.9").code());
    }
    // Also with a good token, and nobody else is.
    let good = body(&gateway, "token", &good, 1).to_string();
    let banned = post(&gateway, REGISTER, good.as_bytes(), "192.0.2.9");
    assert_eq!((banned.status, &*banned.code()), (429, "throttled"));
    assert!(banned.header("retry-after").is_some());
    assert_eq!(
        post(&gateway, REGISTER, good.as_bytes(), "192.0.2.1").status,
        200
    );
}

#[test]
fn a_body_of_more_than_16_kib_is_refused() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let answer = post(&gateway, REGISTER, &vec![b' '; 16 * 1024 + 1], "192.0.2.1");
    assert_eq!((answer.status, &*answer.code()), (413, "body_too_large"));
    let answer = post(&gateway, REGISTER, &vec![b' '; 16 * 1024], "192.0.2.1");
    assert_eq!((answer.status, &*answer.code()), (422, "invalid"));
    assert_eq!(gateway.decisions("refused", 2).len(), 2);
}

#[test]
fn the_form_and_the_method_of_the_call_are_checked() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let got = exchange(gateway.address, raw("GET", REGISTER, "", b""));
    assert_eq!((got.status, got.header("allow")), (405, Some("POST")));
    let query = post(&gateway, &format!("{REGISTER}?a=b"), b"{}", "192.0.2.1");
    assert_eq!((query.status, &*query.code()), (400, "query_not_allowed"));
    let empty = post(&gateway, REGISTER, b"{}", "192.0.2.1");
    assert_eq!((empty.status, &*empty.code()), (422, "invalid"));
    let mistakes = empty.json()["errors"].as_array().unwrap().len();
    assert_eq!(mistakes, 3, "{}", empty.json());
    let sample = "countersign_enrolments_total{result=\"invalid\"}";
    assert_eq!(gateway.metric(sample), 3.0);
    assert!(backend.seen().is_empty());
}

#[test]
fn every_other_path_below_the_prefix_belongs_to_the_other_route() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    for path in [
        "/v1/vault_prod/enroll/other",
        "/v1/vault_prod/enroll",
        "/v1/vault_prod/x/enroll/register",
        "/v1/vault_prod/enroll/register/",
        "/other/vault_prod/enroll/register",
    ] {
        let answer = post(&gateway, path, b"{}", "192.0.2.1");
        assert_eq!(
            (answer.status, &*answer.code()),
            (401, "missing_header"),
            "{path}"
        );
    }
    assert!(backend.seen().is_empty());
}

/// A hundred machines use a token for ten, at these gateways of one registry.
fn enrol_a_hundred(gateways: &[Gateway]) {
    let first = &gateways[0];
    let (id, token) = token(first, json!({ "max_uses": 10 }));
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|machine| {
                let gateway = &gateways[usize::from(machine) % gateways.len()];
                let body = body(gateway, "token", &token, machine);
                scope.spawn(move || register(gateway, &body))
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let count = |status| answers.iter().filter(|it| it.status == status).count();
    let others: Vec<_> = answers.iter().map(|it| (it.status, it.code())).collect();
    assert_eq!(count(200), 10, "{others:?}");
    // A gateway that judges 64 at once says so, and one whose connections to the database are all in
    // use.
    assert_eq!(count(401) + count(503), 90, "{others:?}");
    let recorded: usize = (gateways.iter())
        .map(|gateway| gateway.decisions("enrolled", 0).len())
        .sum();
    assert_eq!(recorded, 10);
    let tokens = manage(first, "GET", "/enrolment-tokens", "").json();
    let tokens = tokens["tokens"].as_array().unwrap();
    let used = tokens.iter().find(|token| token["id"] == id).unwrap();
    assert_eq!(used["uses"], 10);
    let machines = manage(first, "GET", "/machines", "").json();
    assert_eq!(machines["machines"].as_array().unwrap().len(), 10);
}

const UNTHROTTLED: &str = "throttle: { failures_per_minute: 0 }\n";

#[test]
fn a_hundred_at_once_with_a_token_for_ten_are_ten_machines() {
    let backend = Backend::start();
    enrol_a_hundred(&[gateway_with(&backend, UNTHROTTLED)]);
}

#[test]
fn a_hundred_at_two_gateways_with_a_token_for_ten_are_ten_machines() {
    let backend = Backend::start();
    let postgres = Postgres::with_registry();
    let gateways = [(); 2].map(|()| {
        let registry = postgres.registry("operators: operators.yaml");
        gateway_of(&backend, registry, UNTHROTTLED)
    });
    enrol_a_hundred(&gateways);
}

#[test]
fn a_machine_renews_itself_with_a_key_that_it_proves() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let terms = json!({ "machine": { "expires_in": "1h", "may_renew": true } });
    let (_, token) = token(&gateway, terms);
    let answer = register(&gateway, &body(&gateway, "token", &token, 1)).json();
    let id = answer["machineId"].as_str().unwrap();
    let renew = |old: u8, new: u8| {
        let key = SigningKey::from_bytes(&[new; 32]);
        let public = STANDARD.encode(key.verifying_key().as_bytes());
        let now = gateway.now();
        let message = format!("countersign-renew-1:{id}:{public}:{now}");
        let proof = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
        let body = json!({ "public_key": public, "timestamp": now, "proof": proof }).to_string();
        let path = "/countersign/v1/self/keys";
        let machine = Machine::new(id, old);
        let signed = gateway.sign(&machine, "POST", path, body.as_bytes());
        exchange(
            gateway.address,
            raw("POST", path, &signed.lines(), body.as_bytes()),
        )
    };
    let renewed = renew(1, 2);
    assert_eq!(renewed.status, 200, "{}", renewed.json());
    assert!(renewed.json()["expires"].is_string());
    // A stranger cannot, and the operator is no machine.
    assert_eq!(renew(9, 3).code(), "bad_signature");
    crate::support::gateway::wait_for("the new key", || {
        let machine = Machine::new(id, 2);
        let signed = gateway.sign(&machine, "GET", "/v1/a", b"");
        let read = exchange(gateway.address, raw("GET", "/v1/a", &signed.lines(), b""));
        (read.status == 200).then_some(())
    });
}

#[test]
fn no_secret_is_in_a_file_a_record_a_metric_or_an_answer() {
    let backend = Backend::start();
    let gateway = gateway(&backend);
    let (_, token) = token(&gateway, json!({ "max_uses": 3 }));
    let wrong = format!("cse_{}", "B".repeat(43));
    let jwt = jwt(&gateway, "runner-1", "web");
    let mut answers = vec![
        register(&gateway, &body(&gateway, "token", &token, 1)),
        register(&gateway, &body(&gateway, "token", &wrong, 2)),
        register(
            &gateway,
            &json!({ "token": [&token], "publicKey": &token, "hostname": &token }),
        ),
        manage(&gateway, "GET", "/enrolment-tokens", ""),
        manage(&gateway, "GET", "/machines", ""),
        manage(&gateway, "GET", "/changes?after=0", ""),
    ];
    for machine in [3, 4] {
        let body = body(&gateway, "jwt", &jwt, machine).to_string();
        answers.push(post(&gateway, JOIN, body.as_bytes(), "192.0.2.1"));
    }
    assert_eq!(answers.iter().filter(|it| it.status == 200).count(), 5);
    gateway.decisions("enrolled", 2);
    let (_, metrics) = gateway.admin_get("/metrics");
    let mut places: Vec<Vec<u8>> = answers.into_iter().map(|answer| answer.body).collect();
    places.push(metrics.into_bytes());
    let mut files = 0;
    for entry in fs::read_dir(gateway.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            places.push(fs::read(path).unwrap());
            files += 1;
        }
    }
    assert!(
        files >= 4,
        "the database and the audit log are among them: {files}"
    );
    let signature = jwt.rsplit('.').next().unwrap();
    for planted in [&token[4..], &wrong[4..], &*jwt, signature] {
        let found = |place: &Vec<u8>| memchr::memmem::find(place, planted.as_bytes()).is_some();
        assert!(!places.iter().any(found), "{planted}");
    }
}
