//! One GET and its response.

use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, HOST, HeaderMap};
use http_body_util::{BodyExt, Full, Limited};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::agent::connect::Connector;
use crate::agent::refused::{self, MOST_BYTES, RefusalCode, Refused};
use crate::gateway_headers::REQUEST_ID;
use crate::signing::Headers;
use countersign_core::refusal::Code;

/// Deadline of a request.
const LONGEST: Duration = Duration::from_secs(15);

/// The relevant parts of a response.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) status: u16,
    /// Whether the response has the mark of a Countersign gateway, see [`is_marked`].
    pub(super) marked: bool,
    /// The gateway's refusal, if the response is one.
    pub(super) refused: Option<Refused>,
    /// `Date`, in Unix seconds.
    pub(super) date: Option<u64>,
}

impl Probe {
    /// The code of a refusal.
    pub(super) fn code(&self) -> Option<&RefusalCode> {
        self.refused.as_ref().map(|refused| &refused.code)
    }

    /// The code of a refusal, if this version knows it.
    pub(super) fn known_code(&self) -> Option<Code> {
        self.code().and_then(RefusalCode::known)
    }
}

/// Sends a GET, signed or unsigned, on a new connection.
///
/// # Errors
///
/// Why there is no response.
pub(super) async fn send(
    connector: &Connector,
    path: &str,
    signed: Option<&Headers>,
) -> Result<Probe, String> {
    let gateway = &connector.gateway;
    let mut request = http::Request::get(format!("{}{path}", gateway.prefix))
        .header(HOST, &gateway.authority)
        .header("user-agent", "countersign-doctor");
    for (header, value) in signed.into_iter().flatten() {
        request = request.header(header.name(), value);
    }
    let request = request
        .body(Full::new(Bytes::new()))
        .map_err(|error| format!("cannot build the request for {path}: {error}"))?;
    let exchange = async {
        let mut sender = connector.open().await.map_err(|why| why.to_string())?;
        let answer = (sender.send_request(request).await).map_err(|error| {
            format!(
                "{} gives no HTTP response: {error}. Is this the gateway's port?",
                gateway.authority
            )
        })?;
        let (head, body) = answer.into_parts();
        let limit = usize::try_from(MOST_BYTES).unwrap_or(usize::MAX);
        // A larger body is not a refusal, and no other body matters.
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_or_else(|_| Bytes::new(), |it| it.to_bytes());
        Ok(Probe {
            status: head.status.as_u16(),
            marked: is_marked(&head.headers),
            refused: refused::parse(&head.headers, &body),
            date: date(&head.headers),
        })
    };
    match tokio::time::timeout(LONGEST, exchange).await {
        Ok(probe) => probe,
        Err(_) => Err(format!(
            "{} did not respond within 15 s; see the gateway's log",
            gateway.authority
        )),
    }
}

/// A gateway sets `X-Request-Id` to 32 hexadecimal digits on every response, its own and the
/// backend's.
fn is_marked(headers: &HeaderMap) -> bool {
    let id = headers.get(REQUEST_ID).map(http::HeaderValue::as_bytes);
    id.is_some_and(|id| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit))
}

fn date(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    u64::try_from(date.unix_timestamp()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(date(&headers), Some(784_111_777));
    }

    #[test]
    fn only_an_id_of_32_hexadecimal_digits_is_the_mark() {
        let marked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, value.parse().unwrap());
            is_marked(&headers)
        };
        assert!(marked("00112233445566778899aabbccddeeff"));
        assert!(!marked("5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b"));
        assert!(!is_marked(&HeaderMap::new()));
    }
}
