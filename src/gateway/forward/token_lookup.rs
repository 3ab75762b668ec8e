//! The answer of a Vault-like backend to `lookup-self`: what the token of the request may do. Many
//! programs begin with it. The token itself stands in it, and the gateway empties that field.

use http::Method;
use pingora::http::ResponseHeader;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The path; the query does not matter.
const PATH: &str = "/v1/auth/token/lookup-self";

/// Largest answer. One has about 1 KiB; names of policies and metadata can make it longer. A longer
/// one does not pass.
const MAX_ANSWER: usize = 64 * 1024;

/// Headers about the bytes of the body, which are then other ones.
const DIGESTS: [&str; 5] = [
    "content-digest",
    "content-md5",
    "digest",
    "etag",
    "repr-digest",
];

/// The answer to a look-up, as far as it has come.
pub(super) struct LookupAnswer {
    body: Zeroizing<Vec<u8>>,
}

/// The answer is not one to a look-up, so that the token cannot be taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotALookup;

/// The fields of the answer that matter here. A field that stands twice is a mistake: two programs
/// may read different ones.
#[derive(Deserialize)]
struct LookupBody<'b> {
    #[serde(borrow)]
    data: TokenFields<'b>,
}

#[derive(Deserialize)]
struct TokenFields<'b> {
    #[serde(borrow, default)]
    id: Option<&'b RawValue>,
    #[serde(borrow, default)]
    accessor: Option<&'b RawValue>,
}

/// Whether a request is a look-up of its own token.
pub(super) fn is_asked(method: &str, target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    path == PATH && (method == Method::GET || method == Method::HEAD)
}

/// Removes from a head what tells about the body before it was changed.
pub(super) fn forget_body(head: &mut ResponseHeader) {
    for name in DIGESTS {
        head.remove_header(name);
    }
    head.remove_header(&http::header::CONTENT_LENGTH);
}

impl LookupAnswer {
    pub(super) fn new() -> LookupAnswer {
        LookupAnswer {
            // Room for all: a buffer that grows leaves copies behind that are not wiped.
            body: Zeroizing::new(Vec::with_capacity(MAX_ANSWER)),
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    ///
    /// The answer is too large.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), NotALookup> {
        if self.body.len() + piece.len() > MAX_ANSWER {
            return Err(NotALookup);
        }
        self.body.extend_from_slice(piece);
        Ok(())
    }

    /// The whole body, with the token and its accessor emptied and every other byte kept.
    ///
    /// # Errors
    ///
    /// It is not JSON with one object `data`.
    pub(super) fn emptied(&self) -> Result<Vec<u8>, NotALookup> {
        let fields: LookupBody<'_> = serde_json::from_slice(&self.body).map_err(|_| NotALookup)?;
        let start = self.body.as_ptr() as usize;
        let mut places: Vec<(usize, usize)> = [fields.data.id, fields.data.accessor]
            .into_iter()
            .flatten()
            .map(|value| {
                let begin = value.get().as_ptr() as usize - start;
                (begin, begin + value.get().len())
            })
            .collect();
        places.sort_unstable();
        let mut emptied = Vec::with_capacity(self.body.len());
        let mut kept = 0;
        for (begin, end) in places {
            emptied.extend_from_slice(&self.body[kept..begin]);
            emptied.extend_from_slice(b"\"\"");
            kept = end;
        }
        emptied.extend_from_slice(&self.body[kept..]);
        Ok(emptied)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn emptied(body: &str) -> Result<String, NotALookup> {
        let mut answer = LookupAnswer::new();
        for piece in body.as_bytes().chunks(7) {
            answer.take(piece)?;
        }
        (answer.emptied()).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn the_token_and_its_accessor_are_emptied_and_every_other_byte_is_kept() {
        assert_eq!(
            emptied(
                "{ \"request_id\":\"1\", \"data\" :{\"accessor\":\"acc\",\"n\": 1.50, \
                 \"id\":\"hvs.token\", \"meta\":{\"id\":\"kept\"}},\n\"auth\":null}\n"
            ),
            Ok(
                "{ \"request_id\":\"1\", \"data\" :{\"accessor\":\"\",\"n\": 1.50, \
                 \"id\":\"\", \"meta\":{\"id\":\"kept\"}},\n\"auth\":null}\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn any_kind_of_value_is_emptied_and_null_stays() {
        assert_eq!(
            emptied(r#"{"data":{"id":["hvs.token"],"accessor":null}}"#).unwrap(),
            r#"{"data":{"id":"","accessor":null}}"#
        );
        assert_eq!(emptied(r#"{"data":{}}"#).unwrap(), r#"{"data":{}}"#);
    }

    #[test]
    fn a_name_with_escapes_is_the_name() {
        assert_eq!(
            emptied(r#"{"d\u0061ta":{"\u0069d":"hvs.\u0074oken"}}"#).unwrap(),
            r#"{"d\u0061ta":{"\u0069d":""}}"#
        );
    }

    #[test]
    fn an_answer_of_another_shape_does_not_pass() {
        for body in [
            "",
            "hvs.token",
            "{",
            r#"{"data":{"id":"hvs.token"}} x"#,
            r#"{"data":{"id":"a","id":"hvs.token"}}"#,
            r#"{"data":{"id":"a"},"data":{"id":"hvs.token"}}"#,
            r#"{"data":null,"wrap_info":{"token":"hvs.wrapping"}}"#,
            r#"{"data":"hvs.token"}"#,
            r#"["hvs.token"]"#,
            r#"{"errors":["hvs.token"]}"#,
        ] {
            assert_eq!(emptied(body), Err(NotALookup), "{body}");
        }
    }

    #[test]
    fn an_answer_that_is_not_utf_8_does_not_pass() {
        let mut answer = LookupAnswer::new();
        answer.take(b"{\"data\":{\"id\":\"\xff\"}}").unwrap();
        assert_eq!(answer.emptied(), Err(NotALookup));
    }

    #[test]
    fn an_answer_of_the_largest_size_passes_and_one_byte_more_does_not() {
        let shell = r#"{"data":{"id":"t","m":""}}"#.len();
        let of = |length: usize| {
            let filling = "x".repeat(length - shell);
            emptied(&format!(r#"{{"data":{{"id":"t","m":"{filling}"}}}}"#))
        };
        assert_eq!(of(MAX_ANSWER).unwrap().len(), MAX_ANSWER - 1);
        assert_eq!(of(MAX_ANSWER + 1), Err(NotALookup));
    }

    #[test]
    fn the_look_up_is_known_by_its_path_with_any_query() {
        for (method, target) in [("GET", PATH), ("HEAD", PATH)] {
            assert!(is_asked(method, target));
            assert!(is_asked(method, &format!("{target}?x=y")));
        }
        for (method, target) in [
            ("POST", PATH.to_owned()),
            ("GET", format!("{PATH}/")),
            ("GET", "/v1/auth/token/renew-self".to_owned()),
            ("GET", format!("/x{PATH}")),
        ] {
            assert!(!is_asked(method, &target), "{method} {target}");
        }
    }
}
