//! An issuer of tokens for unit tests, with a key of each kind.

use std::process::Command;
use std::sync::{LazyLock, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use serde_json::{Value, json};

pub(crate) enum TestKey {
    Ed25519(SigningKey),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

pub(crate) fn ed25519() -> &'static TestKey {
    static KEY: LazyLock<TestKey> =
        LazyLock::new(|| TestKey::Ed25519(SigningKey::from_bytes(&[11; 32])));
    &KEY
}

pub(crate) fn p256() -> &'static TestKey {
    static KEY: LazyLock<TestKey> = LazyLock::new(|| {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        TestKey::P256(EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap())
    });
    &KEY
}

/// `ring` makes no RSA keys.
pub(crate) fn rsa() -> &'static TestKey {
    static KEY: OnceLock<TestKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let arguments = ["genpkey", "-algorithm", "RSA", "-outform", "DER"];
        let made = Command::new("openssl").args(arguments).output().unwrap();
        // Versions of OpenSSL differ in the form that they write.
        let der = &made.stdout;
        let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        TestKey::Rsa(Box::new(pair.unwrap()))
    })
}

impl TestKey {
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            TestKey::Ed25519(_) => "EdDSA",
            TestKey::P256(_) => "ES256",
            TestKey::Rsa(_) => "RS256",
        }
    }

    pub(crate) fn jwk(&self, id: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            TestKey::Ed25519(key) => json!({
                "kid": id, "kty": "OKP", "crv": "Ed25519",
                "x": encode(key.verifying_key().as_bytes()),
            }),
            TestKey::P256(key) => {
                let point = key.public_key().as_ref();
                json!({
                    "kid": id, "kty": "EC", "crv": "P-256", "use": "sig",
                    "x": encode(&point[1..33]), "y": encode(&point[33..]),
                })
            }
            TestKey::Rsa(key) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({
                    "kid": id, "kty": "RSA", "alg": "RS256",
                    "n": encode(&public.n), "e": encode(&public.e),
                })
            }
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            TestKey::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            TestKey::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            TestKey::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding = &RSA_PKCS1_SHA256;
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token of this key, with the header that it should have.
    pub(crate) fn token(&self, id: &str, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm(), "kid": id, "typ": "JWT" });
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// A token of this key over any header and any payload.
    pub(crate) fn token_of(&self, header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
