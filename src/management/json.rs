//! JSON that has one reading: a key that stands twice in an object is a mistake.

use serde_json::{Map, Value};

use crate::jwt::JsonObject;

/// Parses the object that a body must be.
///
/// # Errors
///
/// The text of the mistake, which repeats no value of the body.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    let object: JsonObject = serde_json::from_slice(body)
        .map_err(|error| format!("The body must be one JSON object: {error}."))?;
    Ok(object.into_map())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_that_is_there_twice_is_a_mistake_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":[{"c":{"a":1,"a":2}}]}"#,
        ] {
            let told = object(text.as_bytes()).unwrap_err();
            assert!(told.contains("a key is there twice at line 1"), "{told}");
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_a_mistake() {
        for text in [
            "",
            "[]",
            "null",
            "1",
            "\"a\"",
            "{",
            "{}{}",
            "{}x",
            "\u{feff}{}",
        ] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn deep_nesting_is_a_mistake() {
        let text = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(object(text.as_bytes()).is_err());
    }

    #[test]
    fn a_mistake_repeats_no_value() {
        for text in [
            r#"{"a":"cse_secret""#,
            r#"{"a":cse_secret}"#,
            r#""cse_secret""#,
        ] {
            let told = object(text.as_bytes()).unwrap_err();
            assert!(!told.contains("secret"), "{told}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = object(&body);
        }
    }
}
