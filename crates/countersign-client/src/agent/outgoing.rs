//! Builds the request to the gateway: the client's method, target and body, and a short list of its
//! headers. The list is an allow list, so that an unknown credential is removed too.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;

use super::answer::AgentFault;
use crate::gateway_headers::ALLOWED;
use crate::signing::Headers;
use countersign_core::lost_header::LostHeader;

/// Headers of Vault's clients. The gateway decides: it forwards them if its route lists them, and
/// otherwise refuses the two that change a request's meaning.
const OF_VAULT_CLIENTS: [HeaderName; 3] = [
    HeaderName::from_static("x-vault-request"),
    HeaderName::from_static("x-vault-namespace"),
    HeaderName::from_static("x-vault-wrap-ttl"),
];

/// The forwarded headers.
pub(super) struct ForwardedHeaderNames(HashSet<HeaderName>);

impl ForwardedHeaderNames {
    pub(super) fn new(more: &[HeaderName]) -> ForwardedHeaderNames {
        let usual = ALLOWED.into_iter().chain(OF_VAULT_CLIENTS);
        ForwardedHeaderNames(usual.chain(more.iter().cloned()).collect())
    }

    /// The client's headers to forward. No list holds reserved names or signing headers, so that a
    /// client cannot choose the machine.
    ///
    /// # Errors
    ///
    /// [`AgentFault::HeaderNotForwarded`] for a header that is not forwarded, and without which the
    /// request would change its meaning.
    pub(super) fn of(&self, sent: &HeaderMap) -> Result<HeaderMap, AgentFault> {
        let mut forwarded = HeaderMap::new();
        for (name, value) in sent {
            if self.0.contains(name) {
                forwarded.append(name, value.clone());
                continue;
            }
            let lost = LostHeader::of(name.as_str());
            if lost.refuses() {
                return Err(AgentFault::HeaderNotForwarded(lost));
            }
        }
        Ok(forwarded)
    }
}

/// The request of one attempt: forwarded headers, signing headers and new framing.
///
/// # Errors
///
/// If a part is not valid HTTP, which the grammars rule out.
pub(super) fn request(
    method: &http::Method,
    target: &str,
    authority: &str,
    forwarded: &HeaderMap,
    signed: &Headers,
    body: Bytes,
) -> Result<http::Request<Full<Bytes>>, http::Error> {
    let mut request = http::Request::builder()
        .method(method.clone())
        .uri(target)
        .header(HOST, authority);
    if !body.is_empty() || matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
        request = request.header(CONTENT_LENGTH, body.len());
    }
    for (header, value) in signed {
        request = request.header(header.name(), HeaderValue::from_str(value)?);
    }
    let mut request = request.body(Full::new(body))?;
    for (name, value) in forwarded {
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::signing::Signer;
    use ed25519_dalek::SigningKey;

    fn forwarded(sent: &[&str], more: &[HeaderName]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in sent {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_static("x"));
        }
        let crossed = ForwardedHeaderNames::new(more).of(&headers).unwrap();
        crossed.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn no_credential_crosses_whatever_it_is_called() {
        let credentials = [
            "X-Vault-Token",
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "X-Api-Key",
            "X_Vault_Token",
            "X-Consul-Token",
            "X-Invented-Tomorrow",
        ];
        assert!(forwarded(&credentials, &[]).is_empty());
    }

    #[test]
    fn nothing_crosses_that_only_signer_and_gateway_may_say() {
        let reserved = [
            "X-Machine-Id",
            "X-Timestamp",
            "X-Nonce",
            "X-Signature",
            "X-Machine-Identity",
            "X-Forwarded-For",
            "Forwarded",
            "X-Request-Id",
            "Connection",
            "Upgrade",
            "Expect",
            "Transfer-Encoding",
            "Content-Length",
            "Host",
            "Keep-Alive",
        ];
        assert!(forwarded(&reserved, &[]).is_empty());
    }

    #[test]
    fn content_type_and_what_vault_clients_add_cross_and_what_the_operator_lists() {
        let sent = [
            "Content-Type",
            "X-Vault-Request",
            "X-Vault-Namespace",
            "X-Vault-Wrap-TTL",
            "X-Team",
        ];
        assert_eq!(forwarded(&sent, &[]).len(), 4);
        assert_eq!(
            forwarded(&sent, &[HeaderName::from_static("x-team")]).len(),
            5
        );
    }

    #[test]
    fn a_header_that_must_not_be_lost_refuses_the_request_unless_it_is_listed() {
        for name in [
            "depth",
            "content-encoding",
            "content.encoding",
            "x-http-method",
        ] {
            let name = HeaderName::from_static(name);
            let sent = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("a"))]);
            let lost = LostHeader::of(name.as_str());
            let refused = ForwardedHeaderNames::new(&[]).of(&sent);
            assert_eq!(refused, Err(AgentFault::HeaderNotForwarded(lost)), "{name}");
            assert_eq!(ForwardedHeaderNames::new(&[name]).of(&sent), Ok(sent));
        }
    }

    #[test]
    fn a_try_has_the_four_headers_once_and_a_length_of_its_own() {
        let signer = Signer::new("web-1", SigningKey::from_bytes(&[7; 32])).unwrap();
        let signed = signer
            .sign_text("POST", "/a", b"xy", 1_700_000_000)
            .unwrap();
        let body = Bytes::from_static(b"xy");
        let request = request(
            &http::Method::POST,
            "/a",
            "gw:1",
            &HeaderMap::new(),
            &signed,
            body,
        )
        .unwrap();
        for name in [
            "host",
            "x-machine-id",
            "x-timestamp",
            "x-nonce",
            "x-signature",
        ] {
            assert_eq!(request.headers().get_all(name).iter().count(), 1, "{name}");
        }
        assert_eq!(request.headers()["content-length"], "2");
    }
}
