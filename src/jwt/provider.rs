//! The cryptography of JSON Web Tokens, as `jsonwebtoken` asks for it: the Ed25519 of this program,
//! and `ring`, which does its TLS, for the other two. The crate's own choices would bring a second
//! implementation of each.

use std::sync::Once;

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::jwk::{EllipticCurve, ThumbprintHash};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(JwtEd25519Signer::new(*algorithm, key)?)),
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: ed25519_public,
        compute_digest: digest,
    },
};

/// Lets `jsonwebtoken` use it, in this whole process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    // It fails only where a provider is installed already, and nothing else installs one.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// The key as [`JwtEd25519Signer`] takes it. It is wiped when it is dropped.
pub(crate) fn encoding_key(key: &SigningKey) -> EncodingKey {
    EncodingKey::from_ed_der(key.as_bytes())
}

/// The verifier of an algorithm. It fails closed: a key of another kind than the algorithm's is an
/// error, so a public key never serves as the secret of an HMAC.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => Ok(Box::new(JwtEd25519Verifier::new(key)?)),
        (Algorithm::ES256, AlgorithmFamily::Ec) => {
            Ok(Box::new(JwtP256Verifier(key.try_get_as_bytes()?.to_vec())))
        }
        (Algorithm::RS256, AlgorithmFamily::Rsa) => match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                Ok(Box::new(JwtRsaVerifier(RsaPublicKeyComponents {
                    n: n.clone(),
                    e: e.clone(),
                })))
            }
            DecodingKeyKind::SecretOrDer(_) => Err(unsupported()),
        },
        _ => Err(unsupported()),
    }
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
    fn new(key: &DecodingKey) -> Result<JwtEd25519Verifier> {
        let public = key.try_get_as_bytes()?.try_into().ok();
        let public = public.and_then(|public| VerifyingKey::from_bytes(public).ok());
        public.map(JwtEd25519Verifier).ok_or_else(unsupported)
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

/// A point of P-256, uncompressed: the byte 4, x and y. `ring` refuses any other point.
struct JwtP256Verifier(Vec<u8>);

impl Verifier<Vec<u8>> for JwtP256Verifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0)
            .verify(message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for JwtP256Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

/// Modulus and exponent. `ring` refuses fewer than 2048 bits, and more than 8192.
struct JwtRsaVerifier(RsaPublicKeyComponents<Vec<u8>>);

impl Verifier<Vec<u8>> for JwtRsaVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), SignatureError> {
        (self.0)
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for JwtRsaVerifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
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
