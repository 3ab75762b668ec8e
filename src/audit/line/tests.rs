#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

fn json(value: impl Value) -> String {
    let mut out = Vec::new();
    value.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn printable_ascii_stays_as_it_is() {
    assert_eq!(json("a b~"), "\"a b~\"");
}

#[test]
fn quotes_and_backslashes_are_escaped() {
    assert_eq!(json(r#"a"b\c"#), "\"a\\\"b\\\\c\"");
}

#[test]
fn a_line_feed_in_a_value_does_not_end_the_line() {
    assert_eq!(json("a\r\nb"), "\"a\\r\\nb\"");
}

#[test]
fn terminal_escapes_are_escaped() {
    let shown = json("\u{1b}[2J\u{7f}\u{9b}31m");
    assert_eq!(shown, "\"\\u001b[2J\\u007f\\u009b31m\"");
}

#[test]
fn bidirectional_overrides_are_escaped() {
    assert_eq!(json("\u{202e}x"), "\"\\u202ex\"");
}

#[test]
fn characters_beyond_sixteen_bits_become_surrogate_pairs() {
    assert_eq!(json("a\u{1f511}b"), "\"a\\ud83d\\udd11b\"");
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let mut out = Vec::new();
    escaped(&mut out, b"a\xff\xc3b");
    assert_eq!(out, b"a\\ufffd\\ufffdb");
}

#[test]
fn an_object_without_fields_is_one_all_the_same() {
    let mut out = Vec::new();
    object(&mut out, |_| {});
    assert_eq!(out, b"{}");
}

#[test]
fn fields_and_items_stand_apart_by_commas() {
    let mut out = Vec::new();
    object(&mut out, |fields| {
        fields.field("a", true);
        fields.optional("b", None::<&str>);
        fields.field("c", List([1u64, 2].iter()));
        fields.field("d", List([0u64; 0].iter()));
    });
    assert_eq!(out, br#"{"a":true,"c":[1,2],"d":[]}"#);
}

proptest! {
    #[test]
    fn whatever_the_text_it_is_printable_and_reads_back(text in any::<String>()) {
        let json = json(&*text);
        prop_assert!(json.bytes().all(|b| matches!(b, b' '..=b'~')));
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn printable_text_is_as_serde_has_it(text in "[ -~\t\r\n\u{8}\u{c}\u{0}\u{1f}]*") {
        prop_assert_eq!(json(&*text), serde_json::to_string(&text).unwrap());
    }

    #[test]
    fn numbers_are_as_serde_has_them(number: u64, shift in 0..64u32) {
        let number = number >> shift;
        prop_assert_eq!(json(number), serde_json::to_string(&number).unwrap());
    }

    #[test]
    fn addresses_are_as_serde_has_them(address: IpAddr) {
        prop_assert_eq!(json(address), serde_json::to_string(&address).unwrap());
    }

    #[test]
    fn keys_and_signatures_are_in_padded_base64(bytes: Vec<u8>) {
        prop_assert_eq!(json(Base64(&bytes)), format!("\"{}\"", STANDARD.encode(&bytes)));
    }
}
