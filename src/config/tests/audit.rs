//! The audit trail.

use super::*;

fn audit(text: &str) -> Audit {
    good(&minimal_and(&format!("audit: {text}"))).audit
}

#[test]
fn the_refusals_of_strangers_go_beside_the_file_of_the_trail() {
    for (trail, beside) in [
        ("audit.jsonl", "conf/audit.refused.jsonl"),
        ("trail", "conf/trail.refused"),
    ] {
        let refusals = audit(&format!("{{ file: {trail} }}")).refusals;
        assert_eq!(refusals.file.as_deref(), Some(Path::new(beside)));
    }
}

#[test]
fn on_standard_output_they_are_among_the_others() {
    assert_eq!(audit("{ file: \"-\" }").refusals.file, None);
}

#[test]
fn they_may_not_share_a_file_with_the_trail() {
    let text = wrong(&minimal_and(
        "audit: { file: a.jsonl, refusals: { file: a.jsonl } }",
    ));
    assert!(
        text.contains("audit.refusals.file: is the file of the accepted ones"),
        "{text}"
    );
}

#[test]
fn standard_output_cannot_be_rotated() {
    let text = wrong(&minimal_and("audit: { rotate: { age: 24h } }"));
    assert!(
        text.contains("audit.rotate: rotates standard output"),
        "{text}"
    );
}

#[test]
fn a_signing_key_that_is_none_is_a_mistake_that_tells_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    for content in ["s3cret", "-----BEGIN PRIVATE KEY-----\ns3cret\n"] {
        std::fs::write(&file, content).unwrap();
        let text = wrong(&minimal_and(&format!("audit: {{ signing_key: {file:?} }}")));
        assert!(text.contains("audit.signing_key: "), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_signing_key_does_not_show_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    // RFC 8410, section 10.3.
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    std::fs::write(&file, pem).unwrap();
    let audit = audit(&format!("{{ signing_key: {file:?} }}"));
    assert!(audit.signing_key.is_some());
    assert!(format!("{audit:?}").contains("GatewayKey(..)"));
}
