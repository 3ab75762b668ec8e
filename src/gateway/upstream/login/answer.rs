//! The answer to a login, as Vault and OpenBao write it.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Longest token, in bytes, as for the secret of a credential.
const MAX_TOKEN: usize = 8 * 1024;

/// Longest accessor that is recorded, in bytes.
const MAX_ACCESSOR: usize = 128;

/// The lease of a token whose answer names none, because it does not expire.
const WITHOUT_LEASE: Duration = Duration::from_secs(3600);

/// Longest time for which a token is kept, whatever its lease.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The token that a backend granted.
#[derive(Debug)]
pub(super) struct Grant {
    /// Marked as sensitive, and wiped when it is dropped.
    pub(super) token: HeaderValue,
    pub(super) accessor: Option<Box<str>>,
    /// How long the gateway uses the token: two thirds of its lease.
    pub(super) keep: Duration,
    /// Whether it is a batch token, which no request can revoke.
    pub(super) is_batch: bool,
    /// Whether it has a limited number of uses: it would end between two requests.
    pub(super) has_limited_uses: bool,
}

/// The answer is not JSON, or holds no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoGrant;

// The token is borrowed: a copy in a `String` would not be wiped. One that is written with an escape
// cannot be borrowed, and is refused.
#[derive(Deserialize)]
struct LoginAnswer<'a> {
    #[serde(borrow)]
    auth: Option<LoginAuth<'a>>,
}

#[derive(Deserialize)]
struct LoginAuth<'a> {
    client_token: &'a str,
    #[serde(default)]
    accessor: Option<&'a str>,
    lease_duration: u64,
    #[serde(default)]
    num_uses: u64,
    #[serde(default)]
    token_type: Option<&'a str>,
}

/// Reads the answer. It fails closed.
///
/// # Errors
///
/// [`NoGrant`].
pub(super) fn read(body: &[u8]) -> Result<Grant, NoGrant> {
    let answer: LoginAnswer<'_> = serde_json::from_slice(body).map_err(|_| NoGrant)?;
    let auth = answer.auth.ok_or(NoGrant)?;
    let token = auth.client_token.as_bytes();
    if !is_word(token, MAX_TOKEN) {
        return Err(NoGrant);
    }
    let secret = Bytes::from_owner(Zeroizing::new(token.to_vec()));
    let mut token = HeaderValue::from_maybe_shared(secret).map_err(|_| NoGrant)?;
    token.set_sensitive(true);
    let accessor = auth
        .accessor
        .filter(|text| is_word(text.as_bytes(), MAX_ACCESSOR));
    let lease = match auth.lease_duration {
        0 => WITHOUT_LEASE,
        seconds => Duration::from_secs(seconds).min(LONGEST * 3 / 2),
    };
    Ok(Grant {
        token,
        accessor: accessor.map(Box::from),
        keep: lease * 2 / 3,
        is_batch: auth.token_type == Some("batch"),
        has_limited_uses: auth.num_uses > 0,
    })
}

/// Whether the bytes are visible ASCII, at least one and at most `most`.
fn is_word(bytes: &[u8], most: usize) -> bool {
    (1..=most).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn answer(auth: &str) -> Result<Grant, NoGrant> {
        read(format!(r#"{{"request_id":"1","auth":{auth},"warnings":null}}"#).as_bytes())
    }

    fn keep(lease: &str) -> Duration {
        let auth = format!(r#"{{"client_token":"s.x","lease_duration":{lease}}}"#);
        answer(&auth).unwrap().keep
    }

    #[test]
    fn a_grant_has_the_token_its_accessor_and_two_thirds_of_the_lease() {
        let grant = answer(
            r#"{"client_token":"s.abc","accessor":"acc","policies":["default"],"lease_duration":90,
            "renewable":true,"token_type":"service","num_uses":0}"#,
        );
        let grant = grant.unwrap();
        assert_eq!(grant.token, "s.abc");
        assert_eq!(grant.accessor.as_deref(), Some("acc"));
        assert_eq!(grant.keep, Duration::from_secs(60));
    }

    #[test]
    fn a_batch_token_has_no_accessor() {
        for accessor in [r#""accessor":"","#, r#""accessor":null,"#, ""] {
            let auth = format!(r#"{{"client_token":"b.x",{accessor}"lease_duration":60}}"#);
            assert_eq!(answer(&auth).unwrap().accessor, None, "{accessor}");
        }
    }

    #[test]
    fn the_time_a_token_is_kept_has_bounds() {
        assert_eq!(keep("0"), Duration::from_secs(2400));
        assert_eq!(keep("1"), Duration::from_secs(1) * 2 / 3);
        assert_eq!(keep("2764800"), LONGEST);
        assert_eq!(keep("18446744073709551615"), LONGEST);
    }

    #[test]
    fn an_answer_without_a_usable_token_grants_nothing() {
        for auth in [
            "null",
            "{}",
            "[]",
            r#"{"client_token":"s.x"}"#,
            r#"{"client_token":"","lease_duration":60}"#,
            r#"{"client_token":null,"lease_duration":60}"#,
            r#"{"client_token":"s x","lease_duration":60}"#,
            r#"{"client_token":"s.x\n","lease_duration":60}"#,
            r#"{"client_token":"s.\u0061","lease_duration":60}"#,
            r#"{"client_token":"s.é","lease_duration":60}"#,
            r#"{"client_token":"s.x","lease_duration":-1}"#,
            r#"{"client_token":"s.x","lease_duration":1.5}"#,
            r#"{"client_token":"s.x","lease_duration":"60"}"#,
            r#"{"client_token":"s.x","client_token":"s.y","lease_duration":60}"#,
        ] {
            assert_eq!(answer(auth).unwrap_err(), NoGrant, "{auth}");
        }
        let long = format!(
            r#"{{"client_token":"{}","lease_duration":60}}"#,
            "x".repeat(8193)
        );
        assert_eq!(answer(&long).unwrap_err(), NoGrant);
    }

    #[test]
    fn what_is_not_one_json_object_grants_nothing() {
        let good = r#"{"auth":{"client_token":"s.x","lease_duration":60}}"#;
        assert!(read(good.as_bytes()).is_ok());
        for bad in ["", "<html>", "null", &good[1..], &format!("{good}{good}")] {
            assert_eq!(read(bad.as_bytes()).unwrap_err(), NoGrant, "{bad}");
        }
    }

    #[test]
    fn a_grant_tells_of_limited_uses_and_of_batch_tokens() {
        let of = |more: &str| {
            let auth = format!(r#"{{"client_token":"s.x","lease_duration":60{more}}}"#);
            let grant = answer(&auth).unwrap();
            (grant.has_limited_uses, grant.is_batch)
        };
        assert_eq!(of(""), (false, false));
        assert_eq!(of(r#","num_uses":1"#), (true, false));
        assert_eq!(of(r#","token_type":"service""#), (false, false));
        assert_eq!(of(r#","token_type":"batch""#), (false, true));
    }

    #[test]
    fn the_debug_form_of_a_grant_does_not_show_the_token() {
        let auth = r#"{"client_token":"s.secret","lease_duration":60}"#;
        assert!(!format!("{:?}", answer(auth).unwrap()).contains("s.secret"));
    }
}
