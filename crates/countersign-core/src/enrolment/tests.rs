use super::*;

/// The values of an independent signer in Python.
const TOKEN: &str = "cse_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8";
const MESSAGE: &str = "countersign-enrol-1:vault_prod:\
    2d860de11d6e6c031242f54e7e6b9aa6998ada2e5ea4780429c490ec3b1943c2:\
    A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=:1800000000";
const PROOF_TEXT: &str =
    "11Ks/d0q6rPcz1exw6DE4euLy6W8F7hPnn2joVXcMtRIrf7csF9vvtzzl6HVnnuW2xaAZUJeZWhuqeP4/87oBQ==";

fn key() -> SigningKey {
    SigningKey::from_bytes(&std::array::from_fn(|n| u8::try_from(n).unwrap()))
}

fn public() -> PublicKey {
    PublicKey::from_bytes(key().verifying_key().as_bytes()).unwrap()
}

fn proof(vault: &str, secret: &str, timestamp: u64) -> KeyProof {
    KeyProof::of_enrolment(
        vault,
        &SecretDigest::of(secret),
        public().as_bytes(),
        timestamp,
    )
}

#[test]
fn a_token_is_the_prefix_and_its_bytes() {
    let bytes = std::array::from_fn(|n| u8::try_from(n + 32).unwrap());
    let token = EnrolmentToken::from_bytes(&bytes);
    assert_eq!(token.reveal(), TOKEN);
    assert_eq!(EnrolmentToken::parse(TOKEN).unwrap().reveal(), TOKEN);
}

#[test]
fn the_bytes_of_a_token_in_hexadecimal_are_the_same_token() {
    let hex: String = (32..64).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(EnrolmentToken::parse_hex(&hex).unwrap().reveal(), TOKEN);
    for text in [
        "",
        &hex[1..],
        &format!("{hex}0"),
        &hex.replace('2', "g"),
        TOKEN,
    ] {
        assert!(EnrolmentToken::parse_hex(text).is_none(), "{text}");
    }
}

#[test]
fn other_texts_are_no_tokens() {
    let spelled_twice = format!("{}9", &TOKEN[..46]);
    for text in [
        "",
        "cse_",
        &TOKEN[1..],
        &TOKEN[..46],
        &format!("{TOKEN}="),
        &format!(" {TOKEN}"),
        &format!("{TOKEN}\n"),
        &TOKEN.to_uppercase(),
        &TOKEN.replace("cse_", "CSE_"),
        &TOKEN.replace('z', "+"),
        &spelled_twice,
    ] {
        assert!(EnrolmentToken::parse(text).is_none(), "{text:?}");
    }
}

#[test]
fn nothing_shows_a_token_or_its_digest() {
    let token = EnrolmentToken::parse(TOKEN).unwrap();
    assert_eq!(format!("{token:?}"), "EnrolmentToken(..)");
    assert_eq!(format!("{:?}", token.digest()), "SecretDigest(..)");
}

#[test]
fn the_proof_is_that_of_the_independent_signer() {
    let proof = proof("vault_prod", TOKEN, 1_800_000_000);
    assert_eq!(proof.as_bytes(), MESSAGE.as_bytes());
    assert_eq!(proof.sign(&key()), PROOF_TEXT);
    assert!(proof.is_given_by(&public(), PROOF_TEXT));
}

#[test]
fn a_proof_is_for_one_vault_one_secret_one_time_and_one_key() {
    for other in [
        proof("vault_prod2", TOKEN, 1_800_000_000),
        proof("vault_prod", &TOKEN[1..], 1_800_000_000),
        proof("vault_prod", TOKEN, 1_800_000_001),
        KeyProof::of_enrolment(
            "vault_prod",
            &SecretDigest::of(TOKEN),
            &[7; 32],
            1_800_000_000,
        ),
    ] {
        assert!(!other.is_given_by(&public(), PROOF_TEXT), "{other:?}");
    }
    let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let stranger = PublicKey::from_bytes(stranger.as_bytes()).unwrap();
    assert!(!proof("vault_prod", TOKEN, 1_800_000_000).is_given_by(&stranger, PROOF_TEXT));
}

#[test]
fn a_proof_has_one_spelling() {
    let proof = proof("vault_prod", TOKEN, 1_800_000_000);
    for text in [
        "",
        PROOF_TEXT.trim_end_matches('='),
        &format!("{PROOF_TEXT}\n"),
        &PROOF_TEXT.replace('/', "_"),
    ] {
        assert!(!proof.is_given_by(&public(), text), "{text}");
    }
}

#[test]
fn a_vault_is_one_segment_of_a_path() {
    for vault in ["v", "vault_prod", "a.b-c", "...", &"x".repeat(128)] {
        assert!(is_vault(vault), "{vault}");
    }
    for vault in [
        "",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a%20b",
        &"x".repeat(129),
    ] {
        assert!(!is_vault(vault), "{vault}");
    }
}

#[test]
fn a_proof_of_a_renewal_is_none_of_an_enrolment() {
    let id = MachineId::parse("web-1").unwrap();
    let renewal = KeyProof::of_renewal(&id, public().as_bytes(), 1_800_000_000);
    let expected =
        "countersign-renew-1:web-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=:1800000000";
    assert_eq!(renewal.as_bytes(), expected.as_bytes());
    assert!(renewal.is_given_by(&public(), &renewal.sign(&key())));
    assert!(!renewal.is_given_by(&public(), PROOF_TEXT));
}
