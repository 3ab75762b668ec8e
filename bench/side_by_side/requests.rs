//! Requests, signed before the clock starts, each with a nonce of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256};

use crate::support::{PATH, key, strangers_key};

/// The id of the one machine that all contenders know; its key is `support::key`.
pub(crate) const MACHINE: &str = "bench";

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Accepted,
    /// Signed by somebody else.
    BadSignature,
    /// The same one again and again; the first of them is to be sent beforehand.
    Replay,
    /// A signature that is none.
    Malformed,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [
        Kind::Accepted,
        Kind::BadSignature,
        Kind::Replay,
        Kind::Malformed,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Accepted => "accepted",
            Kind::BadSignature => "bad signature",
            Kind::Replay => "replay",
            Kind::Malformed => "malformed",
        }
    }
}

/// A request with its four headers, not yet in the form of a protocol.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) method: &'static str,
    pub(crate) headers: [(&'static str, String); 4],
    pub(crate) body: Bytes,
}

/// Signs requests that never repeat, whoever they are for.
pub(crate) struct Signer {
    tag: String,
    next: u64,
    body: Bytes,
    body_hash: String,
}

impl Signer {
    /// Of requests with this body; `GET` where it is empty, else `POST`.
    pub(crate) fn new(body: Bytes) -> Signer {
        let digest = Sha256::digest(&body);
        let tag = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Signer {
            tag: format!("{:x}", tag.as_nanos()),
            next: 0,
            body,
            body_hash: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// So many of a kind, stamped now.
    pub(crate) fn sign(&mut self, kind: Kind, count: usize) -> Vec<Signed> {
        match kind {
            Kind::Replay => vec![self.signed(kind); count],
            _ => (0..count).map(|_| self.signed(kind)).collect(),
        }
    }

    fn signed(&mut self, kind: Kind) -> Signed {
        self.next += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (now, nonce) = (now.as_secs(), format!("{}-{:010}", self.tag, self.next));
        let method = if self.body.is_empty() { "GET" } else { "POST" };
        let message = format!("{method}:{PATH}:{now}:{nonce}:{}", self.body_hash);
        let signature = match kind {
            Kind::Accepted | Kind::Replay => {
                STANDARD.encode(key().sign(message.as_bytes()).to_bytes())
            }
            Kind::BadSignature => {
                STANDARD.encode(strangers_key().sign(message.as_bytes()).to_bytes())
            }
            Kind::Malformed => "none".to_owned(),
        };
        Signed {
            method,
            headers: [
                ("x-machine-id", MACHINE.to_owned()),
                ("x-timestamp", now.to_string()),
                ("x-nonce", nonce),
                ("x-signature", signature),
            ],
            body: self.body.clone(),
        }
    }
}

impl Signed {
    /// As HTTP/1.1 sends it, without the body.
    pub(crate) fn http1_head(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {PATH} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n",
            self.method
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// As the `h2` crate wants it, without the body.
    pub(crate) fn http2_head(&self) -> http::Request<()> {
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("https://localhost{PATH}"))
            .header("user-agent", "bench");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if !self.body.is_empty() {
            request = request.header("content-length", self.body.len());
        }
        request.body(()).unwrap()
    }
}
