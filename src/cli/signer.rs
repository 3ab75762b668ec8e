//! A machine's side: its key, and the four headers it sends.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::Failure;
use crate::auth::headers::{Nonce, SigningHeader, Timestamp};
use crate::auth::identity::MachineId;
use crate::auth::message::{BodyHash, Unhashed};
use crate::auth::method::{Method, may_be_added};
use crate::auth::target::{QueryPolicy, Target};

/// Signs requests as one machine.
pub(crate) struct Signer {
    id: MachineId,
    key: SigningKey,
}

/// The four headers, names and values.
pub(crate) type Headers = [(SigningHeader, String); 4];

/// The largest key file that is read: a PEM key is some hundred bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

impl Signer {
    /// Reads a PKCS#8 PEM key, as `countersign keygen` and `openssl genpkey` write it.
    ///
    /// # Errors
    ///
    /// What is wrong with the file or with the id; nothing of the file's content.
    pub(crate) fn load(id: &str, key: &Path) -> Result<Signer, Failure> {
        let fail = |what: &str| Failure::Operation(format!("{}: {what}", key.display()));
        let size = std::fs::metadata(key)
            .map_err(|e| fail(&e.to_string()))?
            .len();
        if size > MAX_KEY_FILE {
            return Err(fail("too large for a key"));
        }
        let text = std::fs::read_to_string(key).map_err(|e| fail(&e.to_string()))?;
        let text = Zeroizing::new(text);
        let key = SigningKey::from_pkcs8_pem(&text)
            .map_err(|_| fail("not an Ed25519 private key in PKCS#8 PEM"))?;
        Signer::new(id, key)
    }

    /// A signer for a key at hand.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for something that is no machine id.
    pub(crate) fn new(id: &str, key: SigningKey) -> Result<Signer, Failure> {
        let id = MachineId::parse(id).ok_or_else(|| {
            Failure::Usage(format!(
                "'{}' is not a machine id: 1 to 128 letters, digits, '.', '_' or '-'",
                id.escape_debug()
            ))
        })?;
        Ok(Signer { id, key })
    }

    /// Signs a request for a target as it will stand in the request line, in the second `now`
    /// (Unix), with a fresh nonce.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for a method or a target that no gateway would take.
    pub(crate) fn sign(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        now: u64,
    ) -> Result<Headers, Failure> {
        // Which tokens a route adds, only the gateway knows; what no route may add is a mistake.
        let added = [method.to_owned()];
        let added = if may_be_added(method) {
            &added[..]
        } else {
            &[]
        };
        let method = Method::accept(method, added).ok_or_else(|| {
            Failure::Usage(format!("'{}' is not a method", method.escape_debug()))
        })?;
        let target = Target::parse(target.as_bytes())
            .map_err(|why| Failure::Usage(format!("the path cannot be signed: {why}")))?
            .under(QueryPolicy::Signed)
            .map_err(|refusal| Failure::Usage(refusal.text().into_owned()))?;
        let nonce = fresh_nonce()?;
        let (Some(timestamp), Some(parsed)) = (
            Timestamp::parse(now.to_string().as_bytes()),
            Nonce::parse(nonce.as_bytes()),
        ) else {
            return Err(Failure::Operation("this machine's clock is not set".into()));
        };
        let message =
            Unhashed::new(method, target, timestamp, parsed).with_body(BodyHash::of(body));
        let signature = self.key.sign(message.as_bytes());
        Ok([
            (SigningHeader::MachineId, self.id.as_str().to_owned()),
            (SigningHeader::Timestamp, now.to_string()),
            (SigningHeader::Nonce, nonce),
            (
                SigningHeader::Signature,
                STANDARD.encode(signature.to_bytes()),
            ),
        ])
    }
}

/// Sixteen bytes from the operating system, in base64.
fn fresh_nonce() -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::Operation(format!("no random bytes from the system: {e}")))?;
    Ok(STANDARD.encode(bytes))
}

/// Reads a request body: `-` is standard input.
///
/// # Errors
///
/// What cannot be read.
pub(crate) fn read_body(source: Option<&Path>) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    /// The largest body that any route takes.
    const MAX_BODY: u64 = 32 * 1024 * 1024;

    let mut body = Vec::new();
    let (name, read) = match source {
        None => return Ok(body),
        Some(path) if path == Path::new("-") => (
            "standard input".to_owned(),
            std::io::stdin().take(MAX_BODY + 1).read_to_end(&mut body),
        ),
        Some(path) => (
            path.display().to_string(),
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_BODY + 1).read_to_end(&mut body)),
        ),
    };
    read.map_err(|e| Failure::Operation(format!("{name}: {e}")))?;
    if body.len() as u64 > MAX_BODY {
        return Err(Failure::Operation(format!(
            "{name}: larger than 32 MiB, which no route takes"
        )));
    }
    Ok(body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::auth::signature::Signature;

    fn signer() -> Signer {
        Signer::new("machine-1", SigningKey::from_bytes(&[7; 32])).unwrap()
    }

    #[test]
    fn what_it_signs_parses_under_the_gateways_grammar() {
        let headers = signer()
            .sign("GET", "/v1/secret/a?b=c", b"", 1_700_000_000)
            .unwrap();
        let value = |i: usize| headers[i].1.as_bytes();
        assert_eq!(value(0), b"machine-1");
        assert!(Timestamp::parse(value(1)).is_some());
        assert!(Nonce::parse(value(2)).is_some());
        assert!(Signature::parse(value(3)).is_some());
    }

    #[test]
    fn no_two_requests_share_a_nonce() {
        let nonce = || {
            signer().sign("GET", "/", b"", 1_700_000_000).unwrap()[2]
                .1
                .clone()
        };
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn what_no_gateway_would_take_is_refused_here() {
        for (method, target) in [("get", "/"), ("TRACE", "/"), ("GET", "a"), ("GET", "/a//b")] {
            let verdict = signer().sign(method, target, b"", 1_700_000_000);
            assert!(
                matches!(verdict, Err(Failure::Usage(_))),
                "{method} {target}"
            );
        }
        assert!(signer().sign("SCAN", "/", b"", 1_700_000_000).is_ok());
    }
}
