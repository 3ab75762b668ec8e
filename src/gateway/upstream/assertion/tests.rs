use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey};
use serde_json::{Value, json};

use super::asserted_machine::SignerOf;
use super::*;
use countersign_core::decision::Attempt;
use countersign_core::header_name::SigningHeader;
use countersign_core::headers::{Occurrence, SigningHeaders};
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::message::BodyHash;
use countersign_core::method::Method;
use countersign_core::replay::Window;
use countersign_core::target::{QueryPolicy, Target};

pub(crate) const NOW: u64 = 1_800_000_000;

/// A machine with this id, whose key comes of the seed.
pub(crate) fn machine(id: &str, seed: u8) -> Arc<Machine> {
    let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
    Arc::new(Machine {
        id: MachineId::parse(id).unwrap(),
        name: Some("prod-api-7".into()),
        vault: None,
        owner: Some("payments".into()),
        credential: None,
        keys: [PublicKey::from_bytes(key.as_bytes()).unwrap().into()].into(),
        enabled: true,
        not_before: None,
        expires: None,
        policy: None,
        groups: ["fleet".into(), "eu".into()].into(),
    })
}

/// A request that the machine has signed with the key of the seed.
pub(crate) fn signed(machine: &Arc<Machine>, seed: u8, target: &str, body: &[u8]) -> Signed {
    let nonce = "AAAAAAAAAAAAAAAAAAAAAA==";
    let hash = BodyHash::of(body);
    let hex: String = hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let message = format!("POST:{target}:{NOW}:{nonce}:{hex}");
    let key = SigningKey::from_bytes(&[seed; 32]);
    let signature = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
    let time = NOW.to_string();
    let values = [machine.id.as_str(), &time, nonce, &signature];
    let headers = SigningHeaders::parse(|header| {
        let index = SigningHeader::ALL.iter().position(|known| *known == header);
        Occurrence::Once(values[index.unwrap()].as_bytes())
    });
    let target = Target::parse(target.as_bytes()).unwrap();
    let target = target.under(QueryPolicy::Signed).unwrap();
    let window = Window {
        past: 300,
        future: 300,
    };
    let method = Method::accept("POST", &[]).unwrap();
    let timely = Attempt::new(method, target, headers.unwrap()).check_time(NOW, &window);
    let attributed = timely.unwrap().look_up(|_| Some(Arc::clone(machine)));
    attributed.verify(hash).unwrap()
}

fn key(seed: u8) -> GatewayKey {
    GatewayKey::of_test(SigningKey::from_bytes(&[seed; 32]))
}

pub(crate) fn assertions(seeds: &[u8]) -> Assertions {
    let configured = Assertion {
        issuer: "https://gw.example".into(),
        keys: seeds.iter().map(|&seed| key(seed)).collect(),
        files: Vec::new(),
        jwks_path: None,
    };
    Assertions::new(&configured).unwrap()
}

/// The header and the claims, and the signature over both verified from the bytes alone.
fn taken_apart(token: &str, seed: u8) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        unreachable!("{token}");
    };
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let public = SigningKey::from_bytes(&[seed; 32]).verifying_key();
    let message = format!("{header}.{claims}");
    let signature = Signature::from_slice(&bytes(signature)).unwrap();
    public
        .verify_strict(message.as_bytes(), &signature)
        .unwrap();
    let json = |part| serde_json::from_slice(&bytes(part)).unwrap();
    (json(header), json(claims))
}

fn login(seed: u8) -> (Value, Value) {
    let subject = AssertedMachine::of(&signed(&machine("web-1", 1), 1, "/v1/a", b""));
    let token = assertions(&[seed])
        .for_login(&subject, "openbao", NOW)
        .unwrap();
    taken_apart(&token, seed)
}

#[test]
fn an_assertion_names_its_algorithm_type_and_key() {
    let (header, _) = login(7);
    let set: Value = serde_json::from_slice(&assertions(&[7]).jwks()).unwrap();
    let expected = json!({"alg": "EdDSA", "typ": "JWT", "kid": set["keys"][0]["kid"]});
    assert_eq!(header, expected);
}

#[test]
fn an_assertion_holds_the_claims_of_the_contract_and_no_others() {
    let (_, mut claims) = login(7);
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 22);
    let fingerprint = machine("web-1", 1).keys[0].public.fingerprint().to_string();
    let expected = json!({
        "iss": "https://gw.example", "sub": "web-1", "aud": "openbao",
        "iat": NOW, "nbf": NOW - 30, "exp": NOW + 60,
        "machine": {
            "id": "web-1", "name": "prod-api-7", "owner": "payments",
            "groups": ["fleet", "eu"], "key": fingerprint,
        },
    });
    assert_eq!(claims, expected);
}

#[test]
fn an_assertion_is_valid_for_a_verifier_whose_clock_is_behind() {
    let (_, claims) = login(7);
    assert!(claims["nbf"].as_u64().unwrap() + 30 <= claims["iat"].as_u64().unwrap());
}

#[test]
fn no_two_assertions_have_the_same_id() {
    assert_ne!(login(7).1["jti"], login(7).1["jti"]);
}

#[test]
fn an_assertion_for_a_request_is_bound_to_its_method_path_and_body() {
    let signed = signed(&machine("web-1", 1), 1, "/v1/a?version=2", b"hello");
    let value = assertions(&[7]).for_request(&signed, "api", NOW).unwrap();
    assert!(value.is_sensitive());
    let (_, claims) = taken_apart(value.to_str().unwrap(), 7);
    assert_eq!(claims["aud"], "api");
    assert_eq!(claims["htm"], "POST");
    assert_eq!(claims["htu"], "/v1/a?version=2");
    // printf hello | openssl dgst -sha256 -binary | basenc --base64url
    assert_eq!(claims["bh"], "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ");
}

/// RFC 8037, appendix A.1 to A.3.
#[test]
fn the_id_of_a_key_is_the_thumbprint_of_the_standard() {
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let seed: [u8; 32] = seed.unwrap().try_into().unwrap();
    provider::install();
    let jwk = public(&GatewayKey::of_test(SigningKey::from_bytes(&seed))).unwrap();
    let jwk = serde_json::to_value(jwk).unwrap();
    assert_eq!(jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(jwk["kid"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let names: Vec<&String> = jwk.as_object().unwrap().keys().collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
}

#[test]
fn the_document_has_every_key_and_the_first_one_signs() {
    let set: Value = serde_json::from_slice(&assertions(&[7, 8, 9]).jwks()).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 3);
    let subject = AssertedMachine::of(&signed(&machine("web-1", 1), 1, "/v1/a", b""));
    let token = assertions(&[7, 8]).for_login(&subject, "a", NOW).unwrap();
    assert_eq!(taken_apart(&token, 7).0["kid"], set["keys"][0]["kid"]);
}

#[test]
fn two_requests_of_one_machine_have_the_same_subject() {
    let machine = machine("web-1", 1);
    let one = AssertedMachine::of(&signed(&machine, 1, "/v1/a", b""));
    assert_eq!(
        one,
        AssertedMachine::of(&signed(&machine, 1, "/v1/b", b"x"))
    );
}

#[test]
fn a_machine_that_was_loaded_anew_is_another_subject() {
    let one = AssertedMachine::of(&signed(&machine("web-1", 1), 1, "/v1/a", b""));
    let other = AssertedMachine::of(&signed(&machine("web-1", 1), 1, "/v1/a", b""));
    assert_ne!(one, other);
}

#[test]
fn a_look_up_finds_the_subject_of_its_request_alone() {
    use moka::Equivalent;
    use std::hash::{BuildHasher, RandomState};
    let (one, other) = (machine("web-1", 1), machine("web-2", 2));
    let (of_one, of_other) = (signed(&one, 1, "/a", b""), signed(&other, 2, "/a", b""));
    let subject = AssertedMachine::of(&of_one);
    assert!(SignerOf(&of_one).equivalent(&subject));
    assert!(!SignerOf(&of_other).equivalent(&subject));
    let hasher = RandomState::new();
    assert_eq!(
        hasher.hash_one(SignerOf(&of_one)),
        hasher.hash_one(&subject)
    );
}

#[test]
fn the_debug_forms_hold_no_key() {
    let assertions = assertions(&[7]);
    assert_eq!(format!("{assertions:?}"), "Assertions(https://gw.example)");
}
