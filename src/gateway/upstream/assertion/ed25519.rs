//! The Ed25519 of this program, as `jsonwebtoken` asks for it. The crate's own choices would bring a
//! second implementation, and RSA and ECDSA with it.

use std::sync::Once;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::jwk::{EllipticCurve, ThumbprintHash};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use sha2::{Digest, Sha256};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(JwtEd25519Signer::new(*algorithm, key)?)),
    verifier_factory: |algorithm, key| Ok(Box::new(JwtEd25519Verifier::new(*algorithm, key)?)),
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: ed25519_public,
        compute_digest: digest,
    },
};

/// Lets `jsonwebtoken` use it, in this whole process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // It fails only where a provider is installed already, and nothing else installs one.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// The key as [`JwtEd25519Signer`] takes it. It is wiped when it is dropped.
pub(super) fn encoding_key(key: &SigningKey) -> EncodingKey {
    EncodingKey::from_ed_der(key.as_bytes())
}

struct JwtEd25519Signer(SigningKey);

impl JwtEd25519Signer {
    /// The bytes of the key are the seed (RFC 8032), and no DER.
    fn new(algorithm: Algorithm, key: &EncodingKey) -> Result<JwtEd25519Signer> {
        let seed = key.as_bytes().try_into();
        match (algorithm, key.family(), seed) {
            (Algorithm::EdDSA, AlgorithmFamily::Ed, Ok(seed)) => {
                Ok(JwtEd25519Signer(SigningKey::from_bytes(seed)))
            }
            _ => Err(unsupported()),
        }
    }
}

impl Signer<Vec<u8>> for JwtEd25519Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(self.0.try_sign(message)?.to_bytes().to_vec())
    }
}

impl JwtSigner for JwtEd25519Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct JwtEd25519Verifier(VerifyingKey);

impl JwtEd25519Verifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<JwtEd25519Verifier> {
        let public = key
            .try_get_as_bytes()
            .ok()
            .and_then(|it| it.try_into().ok());
        let public = public.and_then(|public| VerifyingKey::from_bytes(public).ok());
        match (algorithm, key.family(), public) {
            (Algorithm::EdDSA, AlgorithmFamily::Ed, Some(public)) => Ok(JwtEd25519Verifier(public)),
            _ => Err(unsupported()),
        }
    }
}

impl Verifier<Vec<u8>> for JwtEd25519Verifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        let signature = Signature::from_slice(signature)?;
        self.0.verify_strict(message, &signature)
    }
}

impl JwtVerifier for JwtEd25519Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

fn ed25519_public(seed: &[u8], _: &EllipticCurve) -> Result<Vec<u8>> {
    let seed = seed.try_into().map_err(|_| unsupported())?;
    Ok(SigningKey::from_bytes(seed)
        .verifying_key()
        .to_bytes()
        .to_vec())
}

fn digest(data: &[u8], function: ThumbprintHash) -> Result<Vec<u8>> {
    match function {
        ThumbprintHash::SHA256 => Ok(Sha256::digest(data).to_vec()),
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Error {
    ErrorKind::InvalidAlgorithm.into()
}
