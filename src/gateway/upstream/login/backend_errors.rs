//! The reasons in an answer by which Vault and OpenBao refuse a request.

use std::borrow::Cow;

use serde::Deserialize;

use countersign_client::quoted::quoted;

/// Longest reason of the backend in the log, in bytes.
const MAX_REASON: usize = 200;

#[derive(Deserialize)]
struct BackendErrors<'a> {
    #[serde(borrow)]
    errors: Vec<Cow<'a, str>>,
}

/// The first reason in the answer to a refused login. It is quoted, without controls, and cut; one
/// that repeats an assertion is not told.
pub(super) fn reason(body: &[u8]) -> Option<String> {
    let answer: BackendErrors<'_> = serde_json::from_slice(body).ok()?;
    let reason = answer.errors.first()?;
    // Every assertion begins so: it is the encoding of `{"`.
    if reason.contains("eyJ") {
        return None;
    }
    let end = (0..=MAX_REASON.min(reason.len())).rev();
    let end = end.into_iter().find(|end| reason.is_char_boundary(*end))?;
    Some(quoted(&reason[..end]))
}

/// Whether a 403 with this body says that the token is unknown to the backend: it was revoked, or its
/// lease is over. A denial by policy is written in other words ("1 error occurred: ..").
pub(in crate::gateway::upstream) fn is_unknown_token(body: &[u8]) -> bool {
    let Ok(BackendErrors { errors }) = serde_json::from_slice(body) else {
        return false;
    };
    // OpenBao, and Vault before 1.15, then Vault since.
    errors.len() == 1
        && (errors[0] == "permission denied" || errors[0].trim_end().ends_with("* invalid token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_refusal_is_quoted_and_cut_and_repeats_no_assertion() {
        let of = |text: &str| reason(format!(r#"{{"errors":["{text}"]}}"#).as_bytes());
        assert_eq!(of("role not found"), Some("\"role not found\"".into()));
        assert_eq!(of("bad token eyJhbGciOiJFZERTQSJ9.e30.x"), None);
        let long = of(&"é".repeat(500));
        assert!(long.is_some_and(|text| text.len() <= MAX_REASON + 16));
        let line = of(r"one\ntwo");
        assert!(line.is_some_and(|text| !text.contains('\n')));
        for none in ["", "{}", r#"{"errors":[]}"#, r#"{"errors":[1]}"#, "<html>"] {
            assert_eq!(reason(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn the_words_about_an_unknown_token_are_not_those_of_a_denial_by_policy() {
        let of = |text: &str| is_unknown_token(format!(r#"{{"errors":["{text}"]}}"#).as_bytes());
        assert!(of("permission denied"));
        assert!(of(
            r"2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
        ));
        assert!(!of(r"1 error occurred:\n\t* permission denied\n\n"));
        for none in [
            "",
            "{}",
            r#"{"errors":[]}"#,
            r#"{"errors":["permission denied","x"]}"#,
        ] {
            assert!(!is_unknown_token(none.as_bytes()), "{none}");
        }
    }
}
