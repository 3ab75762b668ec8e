use serde_json::json;

use super::super::testing::{TestKey, ed25519, p256, rsa};
use super::*;

fn all() -> [&'static TestKey; 3] {
    [ed25519(), p256(), rsa()]
}

/// The keys of the issuer: of each kind one.
fn keys() -> IssuerKeys {
    let keys = json!({ "keys": [ed25519().jwk("ed"), p256().jwk("ec"), rsa().jwk("rsa")] });
    IssuerKeys::parse(keys.to_string().as_bytes()).unwrap()
}

fn verify(token: &str) -> Result<JwtClaims, JwtFault> {
    Jwt::parse(token)?.verify(&keys())
}

fn fault(token: &str) -> JwtFault {
    verify(token).map(|_| ()).unwrap_err()
}

/// An Ed25519 token with these header parameters in place of the usual ones.
fn with_header(header: &Value) -> String {
    ed25519().token_of(&header.to_string(), r#"{"iss":"i"}"#)
}

#[test]
fn a_token_of_each_algorithm_verifies_and_gives_its_claims() {
    for (key, id) in all().into_iter().zip(["ed", "ec", "rsa"]) {
        let token = key.token(id, &json!({ "iss": "i", "sub": "s" }));
        assert_eq!(Jwt::parse(&token).unwrap().claimed_issuer(), Some("i"));
        assert_eq!(verify(&token).unwrap().text("sub").as_deref(), Some("s"));
    }
}

#[test]
fn a_token_without_a_key_id_is_tried_with_every_key_of_its_algorithm() {
    for key in all() {
        let header = json!({ "alg": key.algorithm() }).to_string();
        assert!(verify(&key.token_of(&header, "{}")).is_ok(), "{header}");
    }
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let token = ed25519().token("ed", &json!({ "sub": "system:serviceaccount:prod:web" }));
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(&changed).is_err(), "{at}");
    }
}

#[test]
fn no_token_passes_without_a_signature() {
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let token = with_header(&json!({ "alg": name, "kid": "ed" }));
        assert_eq!(fault(&token), JwtFault::Algorithm, "{name}");
        let (signed, _) = token.rsplit_once('.').unwrap();
        assert_eq!(fault(&format!("{signed}.")), JwtFault::Algorithm);
    }
    let token = ed25519().token("ed", &json!({}));
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(fault(&format!("{signed}.")), JwtFault::Signature);
}

#[test]
fn a_public_key_does_not_serve_as_the_secret_of_an_hmac() {
    use hmac::{Hmac, KeyInit, Mac};
    for (key, id) in all().into_iter().zip(["ed", "ec", "rsa"]) {
        for field in ["x", "n"] {
            let Some(secret) = key.jwk(id)[field].as_str().map(str::to_owned) else {
                continue;
            };
            let header = json!({ "alg": "HS256", "kid": id }).to_string();
            let [header, payload] = [&*header, "{}"].map(|part| URL_SAFE_NO_PAD.encode(part));
            let signed = format!("{header}.{payload}");
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(signed.as_bytes());
            let mac = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
            assert_eq!(fault(&format!("{signed}.{mac}")), JwtFault::Algorithm);
        }
    }
}

#[test]
fn a_key_is_for_its_own_algorithm_alone() {
    for (key, id) in all().into_iter().zip(["ed", "ec", "rsa"]) {
        for other in ["EdDSA", "ES256", "RS256"] {
            let header = json!({ "alg": other, "kid": id }).to_string();
            let is_own = other == key.algorithm();
            assert_eq!(
                verify(&key.token_of(&header, "{}")).is_ok(),
                is_own,
                "{header}"
            );
        }
        for other in ["ES384", "RS512", "PS256", "HS256", "EdDSA ", "es256"] {
            let header = json!({ "alg": other, "kid": id }).to_string();
            assert_eq!(fault(&key.token_of(&header, "{}")), JwtFault::Algorithm);
        }
    }
}

#[test]
fn a_key_that_the_token_brings_along_is_not_looked_at() {
    let stranger = TestKey::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[99; 32]));
    let header = json!({
        "alg": "EdDSA", "kid": "ed", "jwk": stranger.jwk("ed"), "jku": "http://127.0.0.1:1/",
        "x5u": "http://127.0.0.1:1/", "x5c": ["AAAA"],
    });
    let token = stranger.token_of(&header.to_string(), "{}");
    assert_eq!(fault(&token), JwtFault::Signature);
}

#[test]
fn a_key_id_that_the_issuer_does_not_have_is_told_apart_from_a_wrong_signature() {
    let token = ed25519().token("new", &json!({}));
    assert_eq!(fault(&token), JwtFault::UnknownKey);
    for id in [json!(1), json!(null), json!(["ed"]), json!({})] {
        let token = with_header(&json!({ "alg": "EdDSA", "kid": id }));
        assert_eq!(fault(&token), JwtFault::Malformed, "{id}");
    }
}

#[test]
fn a_header_that_changes_the_meaning_is_refused() {
    for header in [
        json!({ "alg": "EdDSA", "crit": ["exp"] }),
        json!({ "alg": "EdDSA", "crit": [] }),
        json!({ "alg": "EdDSA", "b64": false, "crit": ["b64"] }),
        json!({ "alg": "EdDSA", "b64": true }),
        json!({ "alg": "EdDSA", "enc": "A128GCM" }),
        json!({ "alg": "EdDSA", "zip": "DEF" }),
        json!({ "alg": "EdDSA", "typ": "logout+jwt" }),
        json!({ "alg": "EdDSA", "typ": 1 }),
    ] {
        assert_eq!(fault(&with_header(&header)), JwtFault::Header, "{header}");
    }
    for kind in ["JWT", "jwt", "at+jwt"] {
        assert!(verify(&with_header(&json!({ "alg": "EdDSA", "typ": kind }))).is_ok());
    }
}

#[test]
fn json_with_two_readings_is_refused() {
    for (header, payload) in [
        (r#"{"alg":"EdDSA","alg":"EdDSA"}"#, "{}"),
        (r#"{"alg":"none","alg":"EdDSA"}"#, "{}"),
        (r#"{"alg":"EdDSA","kid":"ed","kid":"ec"}"#, "{}"),
        (r#"{"alg":"EdDSA"}"#, r#"{"sub":"a","sub":"b"}"#),
        (r#"{"alg":"EdDSA"}"#, r#"{"a":{"sub":"a","sub":"b"}}"#),
        (r#"{"alg":"EdDSA"}"#, "[]"),
        (r#"{"alg":"EdDSA"}"#, ""),
        ("[]", "{}"),
    ] {
        let token = ed25519().token_of(header, payload);
        assert_eq!(fault(&token), JwtFault::Malformed, "{header} {payload}");
    }
}

#[test]
fn what_has_not_three_parts_of_base64url_is_no_token() {
    let good = ed25519().token("ed", &json!({}));
    for text in [
        "",
        ".",
        "..",
        "...",
        good.rsplit_once('.').unwrap().0,
        &format!("{good}.{good}"),
        &format!("{good}."),
        &format!(".{good}"),
        &format!(" {good}"),
        &format!("{good} "),
        &format!("{good}="),
        &good.replace('.', ".="),
        &format!("{}.{}", good, "x".repeat(MAX_JWT)),
    ] {
        assert!(verify(text).is_err(), "{text}");
    }
    let huge = json!({ "pad": "x".repeat(MAX_JWT) });
    assert_eq!(fault(&ed25519().token("ed", &huge)), JwtFault::Malformed);
}

#[test]
fn the_twin_of_an_ecdsa_signature_has_the_digest_of_its_brother() {
    // The order of P-256: with (r, s), (r, n - s) verifies too.
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let token = p256().token("ec", &json!({ "sub": "s" }));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut twin = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(N[at]) - i16::from(twin[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        twin[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let twin = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(twin));
    assert_ne!(twin, token);
    let digests = [&token, &twin].map(|token| *verify(token).unwrap().digest());
    assert_eq!(digests[0], digests[1]);
    let other = p256().token("ec", &json!({ "sub": "t" }));
    assert_ne!(*verify(&other).unwrap().digest(), digests[0]);
}

#[test]
fn nothing_shows_a_token() {
    let token = ed25519().token("ed", &json!({ "sub": "planted" }));
    let jwt = Jwt::parse(&token).unwrap();
    let shown = format!("{jwt:?} {:?} {:?}", jwt.verify(&keys()).unwrap(), keys());
    for part in token.split('.').chain(["planted"]) {
        assert!(!shown.contains(part), "{shown}");
    }
}
