//! The golden vectors, each sent to a gateway that knows what the vector says it knows.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_core::enrolment::{KeyProof, SecretDigest};
use countersign_core::identity::{MachineId, PublicKey};
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Options};

#[test]
fn every_vector_gets_the_verdict_that_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut cases: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 200, "the vectors are there: {}", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| run(case).err()).collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_proof_of_a_new_key_is_judged_as_the_vector_says() {
    let text = include_str!("../vectors/enrolment-proofs.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 10);
    for case in &cases {
        let text = |field: &str| case[field].as_str().unwrap();
        let bytes = STANDARD.decode(text("public_key")).unwrap();
        let key = PublicKey::from_bytes(&bytes.try_into().unwrap()).unwrap();
        let at = case["timestamp"].as_u64().unwrap();
        let proof = match text("kind") {
            "enrolment" => {
                let secret = SecretDigest::of(text("secret"));
                KeyProof::of_enrolment(text("vault"), &secret, key.as_bytes(), at)
            }
            _ => {
                let machine = MachineId::parse(text("machine")).unwrap();
                KeyProof::of_renewal(&machine, key.as_bytes(), at)
            }
        };
        let is_good = case["good"].as_bool().unwrap();
        let about = text("about");
        assert_eq!(proof.is_given_by(&key, text("proof")), is_good, "{about}");
        if is_good {
            assert_eq!(proof.as_bytes(), text("signed").as_bytes(), "{about}");
        }
    }
}

fn run(folder: &Path) -> Result<(), String> {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let case: Value = serde_json::from_str(&text("case.json")).unwrap();
    let request = fs::read(folder.join("request.http")).unwrap();
    let expected = text("verdict.txt");
    let now = case["now"].as_u64().unwrap();

    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            routes: route(&case["route"]),
            machines: machines(&case["machines"]),
            more: format!(
                "replay: {{ state_dir: none, window: {}s, future: {}s }}\n",
                case["window"]["past"], case["window"]["future"]
            ),
            start: now - 100_000,
            ..Options::default()
        },
    );
    gateway.hands.set(now * 1000);

    let mut client = Client::connect(gateway.address);
    client.send(&request);
    let head = request.starts_with(b"HEAD ");
    let answer = client
        .try_receive(head)
        .ok_or_else(|| format!("{name}: no answer"))?;
    let verdict = match answer.status {
        200 => "accepted".to_owned(),
        // A refused HEAD has no body; the record has the code.
        _ if head => gateway.decisions("refused", 1)[0]["code"]
            .as_str()
            .unwrap()
            .to_owned(),
        _ => answer.code(),
    };
    let delivered = backend.seen().len();
    if verdict != expected || delivered != usize::from(expected == "accepted") {
        return Err(format!(
            "{name}: {verdict}, not {expected}; {delivered} delivered"
        ));
    }
    if expected == "accepted" {
        let record = gateway.decisions("accepted", 1).remove(0);
        let message = ["method", "signed_path", "timestamp", "nonce", "body_sha256"]
            .map(|field| record[field].to_string().trim_matches('"').to_owned())
            .join(":");
        if message != text("message.txt") {
            return Err(format!("{name}: the record gives the message {message}"));
        }
    }
    Ok(())
}

fn route(route: &Value) -> String {
    let crossing = route.get("forward_headers").cloned();
    format!(
        "  - {{ path: /, upstream: secrets, query: {}, max_body: {}, methods: {}, forward_headers: {} }}\n",
        route["query"].as_str().unwrap(),
        route["max_body"],
        route["methods"],
        crossing.unwrap_or_else(|| Value::Array(Vec::new())),
    )
}

fn machines(machines: &Value) -> String {
    let mut text = "machines:\n".to_owned();
    for machine in machines.as_array().unwrap() {
        text += &format!(
            "  - id: {}\n    public_keys: {}\n    enabled: {}\n",
            machine["id"], machine["public_keys"], machine["enabled"]
        );
        for bound in ["not_before", "expires"] {
            if let Some(seconds) = machine[bound].as_u64() {
                text += &format!("    {bound}: {}\n", rfc3339(seconds));
            }
        }
    }
    if machines.as_array().unwrap().is_empty() {
        text = "machines: []\n".to_owned();
    }
    text
}

/// UTC, by the civil-from-days algorithm.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest % 3600 / 60,
        rest % 60
    )
}
