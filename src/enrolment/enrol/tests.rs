//! Whole enrolments against SQLite.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::super::{EnrolmentSecret, IssuedToken, TokenTerms};
use super::*;
use crate::config::{DatabaseAddress, DatabaseConfig, DatabaseTls, Joiner};
use crate::jwt::testing::ed25519;
use countersign_client::clock::Clock;
use countersign_core::enrolment::{KeyProof, SecretDigest};

const NOW: u64 = 1_800_000_000;
const WINDOW: Window = Window {
    past: 300,
    future: 300,
};

struct Fixture {
    folder: tempfile::TempDir,
    database: Database,
    joiners: Vec<Arc<ActiveJoiner>>,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig {
        address: DatabaseAddress::Sqlite(folder.path().join("r.db")),
        password: None,
        tls: DatabaseTls::Off,
        max_stale: std::time::Duration::from_secs(300),
        state_dir: None,
    };
    Fixture {
        database: Database::open(&config).await.unwrap(),
        folder,
        joiners: Vec::new(),
    }
}

fn author() -> Author {
    Author {
        by: "ops".into(),
        request_id: "r0".into(),
        at: NOW,
    }
}

/// A key of its own for each number.
fn key(number: u64) -> SigningKey {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SigningKey::from_bytes(&seed)
}

/// The body of an enrolment with a proof.
fn body(field: &str, secret: &str, vault: &str, number: u64) -> Value {
    let key = key(number);
    let public = key.verifying_key().to_bytes();
    let proof = KeyProof::of_enrolment(vault, &SecretDigest::of(secret), &public, NOW);
    json!({
        field: secret, "publicKey": STANDARD.encode(public), "hostname": format!("web-{number}"),
        "timestamp": NOW, "proof": proof.sign(&key),
    })
}

impl Fixture {
    /// A token with these terms beside a name and the vault `v`.
    async fn token(&self, more: Value) -> String {
        let mut terms = json!({ "name": "n", "vault": "v" });
        for (key, value) in more.as_object().unwrap() {
            terms[key] = value.clone();
        }
        let terms = TokenTerms::parse(&terms).unwrap();
        let issued = IssuedToken::create(&terms, NOW).unwrap();
        let author = author();
        let storing = self.database.create_token(&issued.stored, &author);
        storing.await.unwrap();
        issued.token.reveal().to_owned()
    }

    async fn call(
        &self,
        secret: EnrolmentSecret,
        vault: &str,
        body: &Value,
        now: u64,
    ) -> Result<Enrolled, NotEnrolled> {
        let call = EnrolmentCall {
            route: "/v1".into(),
            vault: Some(vault.into()),
            secret,
        };
        let body = body.to_string();
        let request = EnrolmentRequest {
            call: &call,
            body: body.as_bytes(),
            client: "192.0.2.7".parse().ok(),
            request_id: "r1",
            window: WINDOW,
            now,
        };
        enrol(&request, &self.joiners, &self.database, &|_| None).await
    }

    async fn register(&self, body: &Value) -> Result<Enrolled, NotEnrolled> {
        self.call(EnrolmentSecret::Token, "v", body, NOW).await
    }

    async fn uses(&self) -> u32 {
        let tokens = self.database.tokens().await.unwrap();
        tokens.iter().map(|token| token.uses).sum()
    }

    async fn machines(&self) -> usize {
        let page = self.database.page(None, 1000, None).await.unwrap();
        page.entries.len()
    }

    /// A joiner whose key is the Ed25519 one of the tests.
    fn joiner(&mut self, name: &str, issuer: &str, claims: &[(&str, &str)]) {
        let file = self.folder.path().join(format!("{name}.json"));
        let keys = json!({ "keys": [ed25519().jwk("k")] });
        std::fs::write(&file, keys.to_string()).unwrap();
        let pattern = |text: &str| countersign_core::pattern::Pattern::parse(text).unwrap();
        let claims = claims.iter();
        let joiner = Joiner {
            name: name.into(),
            issuer: issuer.into(),
            keys: crate::config::KeySource::File(file),
            audience: "countersign".into(),
            claims: claims
                .map(|(name, text)| ((*name).to_owned(), pattern(text)))
                .collect(),
            vault: "v".into(),
            machine: crate::config::machine_terms::MachineTerms::default(),
            machine_name: crate::config::NameTemplate::parse("k8s-{sub}").ok(),
        };
        let (clock, _) = Clock::manual(NOW * 1000);
        self.joiners
            .push(Arc::new(ActiveJoiner::new(joiner, clock)));
    }

    async fn join(&self, jwt: &str, number: u64) -> Result<Enrolled, NotEnrolled> {
        let body = body("jwt", jwt, "v", number);
        self.call(EnrolmentSecret::Jwt, "v", &body, NOW).await
    }
}

fn cause(result: Result<Enrolled, NotEnrolled>) -> (&'static str, Refusal) {
    let why = result.map(|_| ()).unwrap_err();
    (why.cause.as_str(), why.refusal)
}

fn mistakes(result: Result<Enrolled, NotEnrolled>) -> String {
    match result.map(|_| ()).unwrap_err().refusal {
        Refusal::Invalid(mistakes) => mistakes.join("\n"),
        other => format!("{other:?}"),
    }
}

fn claims(sub: &str) -> Value {
    json!({ "iss": "https://i", "aud": "countersign", "sub": sub, "exp": NOW + 600 })
}

#[tokio::test]
async fn a_good_token_enrols_a_machine_on_its_terms() {
    let it = fixture().await;
    let terms = json!({ "machine": { "owner": "ops", "expires_in": "1d", "may_renew": true } });
    let token = it.token(terms).await;
    let enrolled = it.register(&body("token", &token, "v", 1)).await.unwrap();
    assert!(enrolled.proved);
    assert_eq!((&*enrolled.name, &*enrolled.vault), ("web-1", "v"));
    let entry = it.database.entry(&enrolled.id).await.unwrap().unwrap();
    let fields = entry.fields();
    for (field, value) in [
        ("name", json!("web-1")),
        ("vault", json!("v")),
        ("owner", json!("ops")),
        ("expires", json!("2027-01-16T08:00:00Z")),
        ("expires_in", json!("1d")),
        ("may_renew", json!(true)),
    ] {
        assert_eq!(fields[field], value, "{field}");
    }
    assert_eq!(entry.keys(), [key(1).verifying_key().to_bytes()]);
    assert_eq!(it.uses().await, 1);
    let (changes, _) = (it.database)
        .changes(crate::registry::database::Revision(0), 10)
        .await
        .unwrap();
    let by = changes.last().unwrap().by.clone();
    assert_eq!(by, enrolled.by.to_string());
    assert!(by.starts_with("token:tok_") && !by.contains(&token), "{by}");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_one_refusal_and_no_use() {
    let it = fixture().await;
    let good = it.token(json!({})).await;
    let used = it.token(json!({})).await;
    it.register(&body("token", &used, "v", 1)).await.unwrap();
    let network = it.token(json!({ "cidrs": ["198.51.100.0/24"] })).await;
    let unknown = countersign_core::enrolment::EnrolmentToken::from_bytes(&[7; 32]);
    let revoked = it.token(json!({ "name": "revoked" })).await;
    let tokens = it.database.tokens().await.unwrap();
    let revoked_id = tokens
        .iter()
        .find(|token| token.terms["name"] == "revoked")
        .map(|token| token.id.clone())
        .unwrap();
    it.database
        .revoke_token(&revoked_id, &author())
        .await
        .unwrap();

    let mut found = Vec::new();
    for (token, vault, at) in [
        (unknown.reveal(), "v", NOW),
        ("cse_no", "v", NOW),
        ("", "v", NOW),
        (&*used, "v", NOW),
        (&*good, "v", NOW + 600),
        (&*good, "other", NOW),
        (&*network, "v", NOW),
        (&*revoked, "v", NOW),
    ] {
        let body = body("token", token, vault, 2);
        let result = it.call(EnrolmentSecret::Token, vault, &body, at).await;
        let (cause, refusal) = cause(result);
        assert_eq!(refusal, Refusal::EnrolmentRefused);
        found.push(cause);
    }
    let expected = [
        "unknown_token",
        "unknown_token",
        "unknown_token",
        "used_up",
        "expired",
        "other_vault",
        "network",
        "revoked",
    ];
    assert_eq!(found, expected);
    assert_eq!((it.uses().await, it.machines().await), (1, 1));
}

#[tokio::test]
async fn a_wrong_token_is_refused_before_anything_else_is_judged() {
    let it = fixture().await;
    let mut all_wrong = body("token", "cse_no", "v", 1);
    all_wrong["publicKey"] = json!("AAAA");
    all_wrong["proof"] = json!("no");
    all_wrong["hostname"] = json!(" ");
    let (_, refusal) = cause(it.register(&all_wrong).await);
    assert_eq!(refusal, Refusal::EnrolmentRefused);
}

#[tokio::test]
async fn a_good_token_learns_what_is_wrong_with_the_rest_and_no_use_is_spent() {
    let it = fixture().await;
    let terms = json!({ "name_pattern": "web-*", "hostname_pattern": "web-*" });
    let token = it.token(terms).await;
    let good = || body("token", &token, "v", 1);
    for (field, value, expected) in [
        ("publicKey", json!("AAAA"), "publicKey:"),
        ("publicKey", json!(STANDARD.encode([0; 32])), "publicKey:"),
        ("proof", json!(STANDARD.encode([0; 64])), "proof:"),
        ("timestamp", json!(NOW - 301), "timestamp:"),
        ("timestamp", json!(NOW - 1), "proof:"),
        ("hostname", json!("db-1"), "hostname:"),
        ("hostname", json!("a b"), "hostname:"),
        ("name", json!("db-1"), "name:"),
        ("name", json!("web-é"), "name:"),
        ("name", json!("x".repeat(129)), "name:"),
    ] {
        let mut wrong = good();
        wrong[field] = value.clone();
        let told = mistakes(it.register(&wrong).await);
        assert!(told.contains(expected), "{field} {value}: {told}");
        assert!(!told.contains(&token), "{told}");
    }
    let mut unproved = good();
    unproved.as_object_mut().unwrap().remove("proof");
    unproved.as_object_mut().unwrap().remove("timestamp");
    assert!(mistakes(it.register(&unproved).await).starts_with("proof: is missing"));
    assert_eq!(it.uses().await, 0);
    it.register(&good()).await.unwrap();
}

#[tokio::test]
async fn a_proof_for_another_vault_or_secret_is_none() {
    let it = fixture().await;
    let token = it.token(json!({})).await;
    for (secret, vault) in [("cse_other", "v"), (&*token, "w")] {
        let mut wrong = body("token", secret, vault, 1);
        wrong["token"] = json!(token);
        assert!(mistakes(it.register(&wrong).await).starts_with("proof:"));
    }
}

#[tokio::test]
async fn a_stock_client_needs_no_proof_where_the_token_says_so_but_a_wrong_one_is_refused() {
    let it = fixture().await;
    let token = it
        .token(json!({ "require_proof": false, "max_uses": 2 }))
        .await;
    let mut wrong = body("token", &token, "v", 1);
    wrong["proof"] = json!(STANDARD.encode([0; 64]));
    assert!(mistakes(it.register(&wrong).await).starts_with("proof:"));
    let stock = json!({
        "token": token, "hostname": "serverless",
        "publicKey": STANDARD.encode(key(1).verifying_key().to_bytes()),
    });
    assert!(!it.register(&stock).await.unwrap().proved);
}

#[tokio::test]
async fn a_key_that_is_known_or_buried_is_refused_and_no_use_is_spent() {
    let it = fixture().await;
    let token = it.token(json!({ "max_uses": 5 })).await;
    let first = it.register(&body("token", &token, "v", 1)).await.unwrap();
    for _ in 0..2 {
        let told = mistakes(it.register(&body("token", &token, "v", 1)).await);
        assert_eq!(told, "publicKey: the key is taken; make another key.");
        assert_eq!(it.uses().await, 1);
        // Again, now that the machine is a tombstone.
        let _ = it.database.remove(&first.id, &author()).await;
    }
    it.register(&body("token", &token, "v", 2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_at_once_with_a_token_for_ten_are_ten_machines() {
    let it = Arc::new(fixture().await);
    let token = it.token(json!({ "max_uses": 10 })).await;
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let (it, token) = (Arc::clone(&it), token.clone());
            tokio::spawn(async move { it.register(&body("token", &token, "v", number)).await })
        })
        .collect();
    let mut enrolled = 0;
    let mut others = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => enrolled += 1,
            Err(why) => others.push(why.cause.as_str()),
        }
    }
    assert_eq!(enrolled, 10, "{others:?}");
    assert_eq!((it.uses().await, it.machines().await), (10, 10));
    assert!(others.iter().all(|cause| *cause == "used_up"), "{others:?}");
}

#[tokio::test]
async fn a_jwt_of_a_joiner_enrols_once_under_the_name_of_its_claims() {
    let mut it = fixture().await;
    it.joiner("k8s", "https://i", &[("sub", "prod:*")]);
    let jwt = ed25519().token("k", &claims("prod:web"));
    let enrolled = it.join(&jwt, 1).await.unwrap();
    assert_eq!(enrolled.name, "k8s-prod:web");
    let expected = AdmittedBy::Joiner {
        name: "k8s".into(),
        subject: Some("prod:web".into()),
    };
    assert_eq!(enrolled.by, expected);
    let (cause, refusal) = cause(it.join(&jwt, 2).await);
    assert_eq!((cause, refusal), ("reused", Refusal::EnrolmentRefused));
    assert_eq!(it.machines().await, 1);
}

#[tokio::test]
async fn a_used_jwt_is_refused_before_anything_else_is_judged() {
    let mut it = fixture().await;
    it.joiner("k8s", "https://i", &[("sub", "*")]);
    let jwt = ed25519().token("k", &claims("web"));
    it.join(&jwt, 1).await.unwrap();
    let mut unproved = body("jwt", &jwt, "v", 2);
    for field in ["proof", "timestamp"] {
        unproved.as_object_mut().unwrap().remove(field);
    }
    let mut weak = body("jwt", &jwt, "v", 2);
    weak["publicKey"] = json!(STANDARD.encode([0; 32]));
    for body in [unproved, weak] {
        let result = it.call(EnrolmentSecret::Jwt, "v", &body, NOW).await;
        assert_eq!(cause(result), ("reused", Refusal::EnrolmentRefused));
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_jwt_is_one_refusal() {
    let mut it = fixture().await;
    it.joiner("k8s", "https://i", &[("sub", "prod:*"), ("env", "live")]);
    let with = |key: &str, value: Value| {
        let mut all = claims("prod:web");
        all["env"] = json!("live");
        all[key] = value;
        all
    };
    for (all, expected) in [
        (with("iss", json!("https://other")), "no_joiner"),
        (with("iss", json!(["https://i"])), "no_joiner"),
        (with("aud", json!("other")), "audience"),
        (with("exp", json!(NOW - 30)), "time"),
        (with("nbf", json!(NOW + 60)), "time"),
        (with("exp", json!(null)), "time"),
        (with("sub", json!("test:web")), "claims"),
        (with("env", json!(["live"])), "claims"),
        (with("env", json!("live2")), "claims"),
        (with("env", json!(null)), "claims"),
    ] {
        let jwt = ed25519().token("k", &all);
        let (cause, refusal) = cause(it.join(&jwt, 1).await);
        assert_eq!(
            (cause, refusal),
            (expected, Refusal::EnrolmentRefused),
            "{all}"
        );
    }
    for (jwt, expected) in [
        ("no".to_owned(), "jwt"),
        (ed25519().token("other", &with("a", json!(1))), "signature"),
        (
            crate::jwt::testing::p256().token("k", &with("a", json!(1))),
            "signature",
        ),
    ] {
        let (cause, refusal) = cause(it.join(&jwt, 1).await);
        assert_eq!((cause, refusal), (expected, Refusal::EnrolmentRefused));
    }
    let good = ed25519().token("k", &with("a", json!(1)));
    let elsewhere = body("jwt", &good, "w", 1);
    let result = it.call(EnrolmentSecret::Jwt, "w", &elsewhere, NOW).await;
    assert_eq!(cause(result).0, "no_joiner");
    assert_eq!(it.machines().await, 0);
    it.join(&good, 1).await.unwrap();
}

#[tokio::test]
async fn a_jwt_always_needs_a_proof() {
    let mut it = fixture().await;
    it.joiner("k8s", "https://i", &[("sub", "*")]);
    let jwt = ed25519().token("k", &claims("web"));
    let mut unproved = body("jwt", &jwt, "v", 1);
    for field in ["proof", "timestamp"] {
        unproved.as_object_mut().unwrap().remove(field);
    }
    let result = it.call(EnrolmentSecret::Jwt, "v", &unproved, NOW).await;
    assert!(mistakes(result).starts_with("proof: is missing"));
    it.join(&jwt, 1).await.unwrap();
}

#[tokio::test]
async fn the_first_joiner_whose_conditions_are_met_lets_a_machine_in() {
    let mut it = fixture().await;
    it.joiner("test", "https://i", &[("sub", "test:*")]);
    it.joiner("prod", "https://i", &[("sub", "prod:*")]);
    let jwt = ed25519().token("k", &claims("prod:web"));
    let enrolled = it.join(&jwt, 1).await.unwrap();
    assert_eq!(enrolled.by.to_string(), "joiner:prod");
}

#[tokio::test]
async fn an_agent_gives_the_bytes_of_its_token_in_hexadecimal_and_the_token_names_the_vault() {
    let it = fixture().await;
    let token = it.token(json!({ "require_proof": false })).await;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(&token[4..])
        .unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let call = EnrolmentCall {
        route: "/v1".into(),
        vault: None,
        secret: EnrolmentSecret::AgentToken,
    };
    let public = STANDARD.encode(key(1).verifying_key().to_bytes());
    for (token, is_good) in [(&token, false), (&hex.to_uppercase(), true)] {
        let body = json!({ "token": token, "publicKey": public, "name": "bot" }).to_string();
        let request = EnrolmentRequest {
            call: &call,
            body: body.as_bytes(),
            client: None,
            request_id: "r1",
            window: WINDOW,
            now: NOW,
        };
        let result = enrol(&request, &[], &it.database, &|_| None).await;
        assert_eq!(result.is_ok(), is_good, "{result:?}");
        if let Ok(enrolled) = result {
            let it = (&*enrolled.name, &*enrolled.vault, &*enrolled.hostname);
            assert_eq!(it, ("bot", "v", "agent"));
        }
    }
}

#[tokio::test]
async fn an_entry_that_the_operators_object_to_is_refused() {
    let it = fixture().await;
    let token = it.token(json!({})).await;
    let call = EnrolmentCall {
        route: "/v1".into(),
        vault: Some("v".into()),
        secret: EnrolmentSecret::Token,
    };
    let body = body("token", &token, "v", 1).to_string();
    let request = EnrolmentRequest {
        call: &call,
        body: body.as_bytes(),
        client: None,
        request_id: "r1",
        window: WINDOW,
        now: NOW,
    };
    let objection = |_: &CheckedEntry| Some("public_keys: one is an operator's".to_owned());
    let result = enrol(&request, &[], &it.database, &objection).await;
    let told = mistakes(result);
    assert_eq!(told, "publicKey: the key is taken; make another key.");
    assert_eq!(it.uses().await, 0);
}

#[tokio::test]
async fn no_secret_is_in_the_database() {
    let mut it = fixture().await;
    it.joiner("k8s", "https://i", &[("sub", "*")]);
    let token = it.token(json!({ "max_uses": 3 })).await;
    let jwt = ed25519().token("k", &claims("web"));
    it.register(&body("token", &token, "v", 1)).await.unwrap();
    it.join(&jwt, 2).await.unwrap();
    let signature = jwt.rsplit('.').next().unwrap();
    for file in std::fs::read_dir(it.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for planted in [&token, &jwt, signature] {
            assert!(memchr::memmem::find(&bytes, planted.as_bytes()).is_none());
        }
    }
}
