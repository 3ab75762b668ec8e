//! The independent test signer, written from the protocol (DESIGN.md section 1) and not from `src/auth`, so that a
//! bug cannot hide in both. `tests/vectors/` pins it to a second signer, in another language.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest, Sha256};

/// A machine with its private key.
pub(crate) struct Signer {
    machine_id: String,
    key: SigningKey,
}

/// The four headers of one signed request, as text.
#[derive(Clone, Debug)]
pub(crate) struct SignedHeaders {
    pub(crate) machine_id: String,
    pub(crate) timestamp: String,
    pub(crate) nonce: String,
    pub(crate) signature: String,
}

impl Signer {
    /// A machine whose id is the seed, and whose key is the one that the vectors derive from the same text.
    pub(crate) fn new(seed: &str) -> Self {
        let secret = Sha256::digest(format!("countersign test key {seed}"));
        Self {
            machine_id: seed.to_owned(),
            key: SigningKey::from_bytes(&secret.into()),
        }
    }

    /// The same key under another id: that of the registry, or a stolen one.
    pub(crate) fn with_machine_id(mut self, machine_id: &str) -> Self {
        self.machine_id = machine_id.to_owned();
        self
    }

    /// What the registry holds: standard base64 of the 32 bytes, 44 characters.
    pub(crate) fn public_key_base64(&self) -> String {
        STANDARD.encode(self.key.verifying_key().as_bytes())
    }

    /// Signs `{method}:{path}:{timestamp}:{nonce}:{bodyHash}`; `timestamp` in Unix seconds. Checks nothing: a test
    /// may sign nonsense.
    pub(crate) fn sign(
        &self,
        method: &str,
        path: &str,
        timestamp: u64,
        nonce: &str,
        body: &[u8],
    ) -> SignedHeaders {
        let body_hash: String = Sha256::digest(body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let message = format!("{method}:{path}:{timestamp}:{nonce}:{body_hash}");
        SignedHeaders {
            machine_id: self.machine_id.clone(),
            timestamp: timestamp.to_string(),
            nonce: nonce.to_owned(),
            signature: STANDARD.encode(self.key.sign(message.as_bytes()).to_bytes()),
        }
    }
}

impl SignedHeaders {
    /// Name and value of each, ready for `raw_request` or a client.
    pub(crate) fn as_pairs(&self) -> [(&'static str, &str); 4] {
        [
            ("X-Machine-Id", &self.machine_id),
            ("X-Timestamp", &self.timestamp),
            ("X-Nonce", &self.nonce),
            ("X-Signature", &self.signature),
        ]
    }
}

/// A nonce that was never used: 16 bytes in base64, a number for the process (seeded by the operating system) and a
/// number for the call.
pub(crate) fn fresh_nonce() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let process = *PROCESS.get_or_init(|| RandomState::new().hash_one("nonce"));
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    STANDARD.encode([process.to_be_bytes(), call.to_be_bytes()].concat())
}

/// HTTP/1.1 bytes for a raw socket, each header exactly as given and in that order. A body gets its `Content-Length`,
/// unless the headers frame it themselves: then `body` is sent as it is.
pub(crate) fn raw_request(
    method: &str,
    target: &str,
    host: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed = headers.iter().any(|(name, _)| {
        name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
    });
    if !body.is_empty() && !framed {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Request and signature of a vector that `tests/vectors/generate.py` made with the key "alice".
    fn vector(case: &str) -> (Vec<u8>, String) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
        let request = std::fs::read(format!("{folder}/{case}/request.http")).unwrap();
        let signature = std::fs::read_to_string(format!("{folder}/{case}/signature.txt")).unwrap();
        (request, signature)
    }

    fn alice() -> Signer {
        Signer::new("alice").with_machine_id("5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b")
    }

    #[test]
    fn signs_a_request_without_a_body_as_the_vectors_do() {
        let nonce = "00112233445566778899aabbccddeeff";
        let signed = alice().sign("GET", "/v1/secret/db-password", 1_752_000_000, nonce, b"");
        let request = raw_request(
            "GET",
            "/v1/secret/db-password",
            "gateway.example",
            &signed.as_pairs(),
            b"",
        );
        assert_eq!((request, signed.signature), vector("accepted-nonce-hex-32"));
    }

    #[test]
    fn signs_a_request_with_a_body_as_the_vectors_do() {
        let (path, body) = ("/v1/secrets/list", br#"{"projectId":"proj_1"}"#);
        let (request, signature) = vector("accepted-post");
        let nonce = String::from_utf8_lossy(&request)
            .split("X-Nonce: ")
            .nth(1)
            .unwrap()[..24]
            .to_owned();
        let signed = alice().sign("POST", path, 1_752_000_000, &nonce, body);
        assert_eq!(
            raw_request("POST", path, "gateway.example", &signed.as_pairs(), body),
            request
        );
        assert_eq!(signed.signature, signature);
    }

    #[test]
    fn never_gives_a_nonce_twice() {
        let nonces: std::collections::HashSet<String> =
            (0..10_000).map(|_| fresh_nonce()).collect();
        assert_eq!(nonces.len(), 10_000);
    }

    #[test]
    fn leaves_the_framing_to_headers_that_frame() {
        let request = raw_request(
            "POST",
            "/",
            "h",
            &[("transfer-encoding", "chunked")],
            b"0\r\n\r\n",
        );
        assert_eq!(
            request,
            b"POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        );
    }
}
