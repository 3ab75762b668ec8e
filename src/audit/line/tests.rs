#![allow(clippy::unwrap_used, reason = "a test may panic")]

use base64::Engine;
use proptest::prelude::*;

use super::*;

fn json(value: impl Serialize) -> String {
    let mut line = encode(&value, 0).unwrap();
    assert_eq!(line.pop(), Some(b'\n'));
    String::from_utf8(line).unwrap()
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

proptest! {
    #[test]
    fn whatever_the_text_it_is_printable_and_reads_back(text in any::<String>()) {
        let json = json(&*text);
        prop_assert!(json.bytes().all(|b| matches!(b, b' '..=b'~')));
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn keys_and_signatures_are_in_padded_base64(bytes: Vec<u8>) {
        prop_assert_eq!(json(Base64(&bytes)), format!("\"{}\"", STANDARD.encode(&bytes)));
    }
}
