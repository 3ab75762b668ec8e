//! The claims of a token whose signature has verified.

use serde_json::Value;

use super::object::JsonObject;

/// How far the clocks of issuer and gateway may differ, in seconds.
const LEEWAY: u64 = 30;

/// The furthest end of a token, in seconds from now: a year, as Kubernetes extends tokens, and a day.
const FURTHEST: u64 = 366 * 86_400;

/// The claims of a verified token. Only [`Jwt::verify`](super::Jwt::verify) makes them. Whether they
/// are meant for this gateway, and now, is still to be checked.
#[derive(Clone)]
pub struct JwtClaims {
    claims: JsonObject,
    digest: [u8; 32],
}

impl JwtClaims {
    pub(super) fn new(claims: JsonObject, digest: [u8; 32]) -> JwtClaims {
        JwtClaims { claims, digest }
    }

    /// The SHA-256 of the signed text: the name under which the token is spent.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether the token is of this issuer: one text, compared byte for byte.
    pub fn is_from(&self, issuer: &str) -> bool {
        self.claims.get("iss").and_then(Value::as_str) == Some(issuer)
    }

    /// Whether the token is meant for this audience: `aud` is its name, or a list that has it.
    pub fn is_for(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    /// The second from which on the token is good no more, if it is good at `now`: `exp`, which it
    /// must have, and 30 s for a clock that differs. It fails closed: a time that is no number makes
    /// the token bad, and so does an end more than a year away, because a spent token is remembered
    /// until its end.
    pub fn end_if_good_at(&self, now: u64) -> Option<u64> {
        let end = self.time("exp")??.saturating_add(LEEWAY);
        let latest = now.saturating_add(LEEWAY);
        let has_begun = |key| {
            self.time(key)
                .map(|from| from.is_none_or(|from| from <= latest))
        };
        let is_near = end <= now.saturating_add(FURTHEST);
        let is_good = now < end && is_near && has_begun("nbf")? && has_begun("iat")?;
        is_good.then_some(end)
    }

    /// A claim: the name is looked up as it stands, then as a path into objects, whose steps are
    /// between its slashes.
    pub fn find(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.claims.get(name) {
            return Some(value);
        }
        let mut steps = name.split('/');
        let first = self.claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.as_object()?.get(step))
    }

    /// A claim as text: of a text itself, of a number or a truth value as JSON writes it. Lists and
    /// objects have none.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.find(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// A time, in Unix seconds: `Some(None)` without one, `None` if it is no time.
    fn time(&self, key: &str) -> Option<Option<u64>> {
        let Some(value) = self.claims.get(key) else {
            return Some(None);
        };
        // RFC 7519, section 2: seconds, which may have a fraction.
        let whole = value.as_u64();
        let fraction = || value.as_f64().filter(|it| (0.0..1e15).contains(it));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 1e15"
        )]
        whole.or_else(|| fraction().map(|it| it as u64)).map(Some)
    }
}

impl std::fmt::Debug for JwtClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JwtClaims(..)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn claims(value: Value) -> JwtClaims {
        JwtClaims::new(
            JsonObject::parse(value.to_string().as_bytes()).unwrap(),
            [0; 32],
        )
    }

    #[test]
    fn a_token_is_of_one_issuer_and_for_one_of_its_audiences() {
        let it = claims(json!({ "iss": "https://a", "aud": ["x", "countersign"] }));
        assert!(it.is_from("https://a") && it.is_for("countersign"));
        assert!(!it.is_from("https://a/") && !it.is_for("counter") && !it.is_for(""));
        for other in [
            json!({}),
            json!({ "iss": ["https://a"], "aud": { "countersign": 1 } }),
            json!({ "iss": "https://b", "aud": "countersign2" }),
            json!({ "iss": null, "aud": [["countersign"], 1] }),
        ] {
            let it = claims(other.clone());
            assert!(
                !it.is_from("https://a") && !it.is_for("countersign"),
                "{other}"
            );
        }
        assert!(claims(json!({ "aud": "countersign" })).is_for("countersign"));
    }

    #[test]
    fn a_token_is_good_between_its_times_with_half_a_minute_on_either_side() {
        let good = |value| claims(value).end_if_good_at(NOW);
        assert_eq!(good(json!({ "exp": NOW - 29 })), Some(NOW + 1));
        assert_eq!(good(json!({ "exp": NOW - 30 })), None);
        let end = NOW + 600;
        for (key, at, is_good) in [
            ("nbf", NOW + 30, true),
            ("nbf", NOW + 31, false),
            ("iat", NOW + 30, true),
            ("iat", NOW + 31, false),
            ("iat", 0, true),
        ] {
            let got = good(json!({ "exp": end, key: at }));
            assert_eq!(got, is_good.then_some(end + 30), "{key} {at}");
        }
    }

    #[test]
    fn a_token_without_an_end_or_with_a_time_that_is_none_is_bad() {
        for value in [
            json!({}),
            json!({ "exp": null }),
            json!({ "exp": "1800000600" }),
            json!({ "exp": -1 }),
            json!({ "exp": 1e300 }),
            json!({ "exp": NOW + 9, "nbf": "0" }),
            json!({ "exp": NOW + 9, "iat": [0] }),
        ] {
            assert_eq!(claims(value.clone()).end_if_good_at(NOW), None, "{value}");
        }
        let fraction = json!({ "exp": 1_800_000_009.5 });
        assert_eq!(claims(fraction).end_if_good_at(NOW), Some(NOW + 39));
        let never = json!({ "exp": u64::MAX });
        assert_eq!(claims(never).end_if_good_at(NOW), None);
    }

    #[test]
    fn a_claim_is_found_as_it_stands_and_then_as_a_path() {
        let it = claims(json!({
            "kubernetes.io": { "namespace": "prod", "pod": { "name": "web" } },
            "kubernetes.io/pod": "literal",
            "a": "plain", "n": 7, "t": true, "list": ["x"], "null": null,
        }));
        for (name, expected) in [
            ("kubernetes.io/namespace", Some("prod")),
            ("kubernetes.io/pod/name", Some("web")),
            ("kubernetes.io/pod", Some("literal")),
            ("a", Some("plain")),
            ("n", Some("7")),
            ("t", Some("true")),
            ("list", None),
            ("list/0", None),
            ("null", None),
            ("a/b", None),
            ("kubernetes.io", None),
            ("kubernetes.io/", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(it.text(name).as_deref(), expected, "{name}");
        }
    }
}
