//! The answer to a machine that was enrolled.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use serde::Serialize;

use crate::config::GatewayUrl;
use crate::config::headers::REQUEST_ID;
use crate::enrolment::{Enrolled, EnrolmentSecret};
use crate::gateway::receive::request_id::RequestId;

/// The fields that SikkerKey's clients read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnrolledMachine<'a> {
    machine_id: &'a str,
    vault_id: &'a str,
    machine_name: &'a str,
    api_url: String,
}

/// The fields that SikkerKey's client for agents reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnrolledAgent<'a> {
    agent_id: &'a str,
    name: &'a str,
    vault_id: &'a str,
}

/// Answers with the id of the machine, and where its requests go.
///
/// # Errors
///
/// Only Pingora's, where the client does not wait for the answer. The machine is enrolled then, and
/// does not know its id.
pub(super) async fn write(
    session: &mut ServerSession,
    enrolled: &Enrolled,
    public_url: &GatewayUrl,
    secret: EnrolmentSecret,
    id: RequestId,
) -> Result<()> {
    let (status, body) = match secret {
        EnrolmentSecret::Token | EnrolmentSecret::Jwt => {
            let body = serde_json::to_vec(&EnrolledMachine {
                machine_id: enrolled.id.as_str(),
                vault_id: &enrolled.vault,
                machine_name: &enrolled.name,
                api_url: public_url.to_string(),
            });
            (StatusCode::OK, body)
        }
        EnrolmentSecret::AgentToken => {
            let body = serde_json::to_vec(&EnrolledAgent {
                agent_id: enrolled.id.as_str(),
                name: &enrolled.name,
                vault_id: &enrolled.vault,
            });
            (StatusCode::CREATED, body)
        }
    };
    let body = body.unwrap_or_default();
    let mut header = ResponseHeader::build(status, Some(4))?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    header.insert_header(CACHE_CONTROL, "no-store")?;
    header.insert_header(REQUEST_ID, id.as_str())?;
    session.write_response_header(Box::new(header)).await?;
    session.write_response_body(Bytes::from(body), true).await
}
