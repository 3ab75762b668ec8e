//! A machine, written from the protocol's description and not from the gateway's code, so that a
//! mistake both would share cannot hide.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest, Sha256};

/// A machine with an id and a key.
#[derive(Clone)]
pub struct Machine {
    pub id: String,
    key: SigningKey,
}

/// The four headers.
#[derive(Clone, Debug)]
pub struct Signed {
    pub machine_id: String,
    pub timestamp: String,
    pub nonce: String,
    pub signature: String,
}

impl Machine {
    pub fn new(id: &str, seed: u8) -> Machine {
        Machine {
            id: id.to_owned(),
            key: SigningKey::from_bytes(&[seed; 32]),
        }
    }

    /// Standard base64 of the raw 32 bytes.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.key.verifying_key().as_bytes())
    }

    /// The public key in PEM, as OpenBao takes it.
    pub fn public_pem(&self) -> String {
        const HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
        let der = STANDARD.encode([HEAD, self.key.verifying_key().as_bytes()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    /// The private key in PKCS#8 PEM, as `countersign keygen` writes it.
    pub fn pem(&self) -> String {
        const HEAD: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
        let der = STANDARD.encode([HEAD, &self.key.to_bytes()].concat());
        format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
    }

    /// Signs with a fresh nonce.
    pub fn sign(&self, method: &str, path: &str, now: u64, body: &[u8]) -> Signed {
        self.sign_with_nonce(method, path, now, &fresh_nonce(), body)
    }

    pub fn sign_with_nonce(
        &self,
        method: &str,
        path: &str,
        now: u64,
        nonce: &str,
        body: &[u8],
    ) -> Signed {
        let hash: String = Sha256::digest(body)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let message = format!("{method}:{path}:{now}:{nonce}:{hash}");
        Signed {
            machine_id: self.id.clone(),
            timestamp: now.to_string(),
            nonce: nonce.to_owned(),
            signature: STANDARD.encode(self.key.sign(message.as_bytes()).to_bytes()),
        }
    }
}

impl Signed {
    pub fn pairs(&self) -> [(&'static str, &str); 4] {
        [
            ("X-Machine-Id", &self.machine_id),
            ("X-Timestamp", &self.timestamp),
            ("X-Nonce", &self.nonce),
            ("X-Signature", &self.signature),
        ]
    }

    /// Header lines, each with its line end.
    pub fn lines(&self) -> String {
        self.pairs()
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect()
    }
}

/// Unique in this process, and of the length clients use (24 characters).
pub fn fresh_nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes[8..12].copy_from_slice(&std::process::id().to_be_bytes());
    STANDARD.encode(bytes)
}
