//! The response to a refused request: JSON that the known clients read.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use serde::Serialize;

use crate::config::headers::REQUEST_ID;
use crate::gateway::receive::request_id::RequestId;
use countersign_core::refusal::Refusal;

/// The body of every refusal. `error` is what SikkerKey clients show, `errors` what Vault
/// clients show.
#[derive(Serialize)]
struct Reply<'a> {
    error: &'a str,
    errors: &'a [&'a str],
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time: Option<u64>,
}

/// Writes the response. It is the same where `session` has read no request.
///
/// # Errors
///
/// Only Pingora's, where the client cannot be written to any more.
pub(crate) async fn write(
    session: &mut ServerSession,
    refusal: &Refusal,
    id: RequestId,
    is_head: bool,
) -> Result<()> {
    let (header, body) = reply(refusal, id)?;
    session.write_response_header(Box::new(header)).await?;
    let body = if is_head { Bytes::new() } else { body };
    session.write_response_body(body, true).await
}

fn reply(refusal: &Refusal, id: RequestId) -> Result<(ResponseHeader, Bytes)> {
    let code = refusal.code();
    let text = refusal.text();
    let mistakes: Vec<&str> = refusal.mistakes().iter().map(String::as_str).collect();
    let only = [&*text];
    let body = serde_json::to_vec(&Reply {
        error: &text,
        errors: match &mistakes[..] {
            [] => &only[..],
            mistakes => mistakes,
        },
        code: code.as_str(),
        request_id: id.as_str(),
        server_time: match refusal {
            Refusal::ClockSkew { server_time } => Some(*server_time),
            _ => None,
        },
    })
    .unwrap_or_default();
    let mut header = ResponseHeader::build(code.status(), Some(8))?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    header.insert_header(REQUEST_ID, id.as_str())?;
    if code.status() == 401 {
        header.insert_header(WWW_AUTHENTICATE, "Countersign")?;
    }
    if let Some(seconds) = refusal.retry_after() {
        header.insert_header(RETRY_AFTER, seconds.to_string())?;
    }
    if let Refusal::MethodNotAllowed { allow } = refusal {
        header.insert_header(ALLOW, &**allow)?;
    }
    Ok((header, body.into()))
}
