//! Renews the machine before its end: a new key beside the old one, proved and signed for, and then
//! put in the old one's place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::Request;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{error, info};

use super::connect::Connector;
use super::key::AgentKeys;
use super::refused;
use crate::clock::Clock;
use crate::file;
use crate::http_client::{self, ExchangeLimits};
use crate::signing::{key_file, new_key};
use countersign_core::enrolment::KeyProof;
use countersign_core::refusal::Code;

/// The call by which a machine gives itself a new key.
const PATH: &str = "/countersign/v1/self/keys";

/// Bounds of the call: the gateway decides within 15 s.
const LIMITS: ExchangeLimits = ExchangeLimits {
    time: Duration::from_secs(30),
    answer: 64 * 1024,
};

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Longest sleep between two looks at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// How long the old key still signs after the new one is registered: other gateways hear of it
/// within 2 s.
const SPREADING: Duration = Duration::from_secs(5);

/// When the next renewal is due, for an end that is not known, in seconds.
const UNKNOWN_END: u64 = 3600;

/// Largest file of a plan, in bytes.
const MAX_PLAN: usize = 4096;

/// The renewal of one machine.
pub(super) struct AgentRenewal {
    keys: Arc<AgentKeys>,
    connector: Connector,
    clock: Clock,
}

/// When the machine ends and when it renews itself, in Unix seconds. It lies beside the key, so that
/// a restart makes no new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RenewalPlan {
    expires: u64,
    renew_at: u64,
}

#[derive(Deserialize)]
struct RenewedAnswer {
    expires: String,
}

impl RenewalPlan {
    /// Renews after two thirds of the life, so that a gateway may be away for the last third.
    fn after(now: u64, expires: u64) -> RenewalPlan {
        let life = expires.saturating_sub(now);
        RenewalPlan {
            expires,
            renew_at: now.saturating_add(life / 3 * 2),
        }
    }
}

impl AgentRenewal {
    pub(super) fn new(keys: Arc<AgentKeys>, connector: Connector, clock: Clock) -> AgentRenewal {
        AgentRenewal {
            keys,
            connector,
            clock,
        }
    }

    /// Renews the machine whenever that is due, until it is dropped.
    pub(super) async fn run(self) {
        let mut plan = self.stored_plan();
        loop {
            let now = self.clock.now().unix_seconds();
            let left = plan.map_or(0, |plan| plan.renew_at.saturating_sub(now));
            if left > 0 {
                tokio::time::sleep(LOOK.min(Duration::from_secs(left))).await;
                continue;
            }
            match self.renew(now).await {
                Ok(new) => {
                    info!(expires = new.expires, "the machine is renewed");
                    plan = Some(new);
                }
                Err(why) => {
                    error!("the machine is not renewed: {why}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn renew(&self, now: u64) -> Result<RenewalPlan, String> {
        let key_path = self.keys.key_file();
        let next_path = beside(&key_path, "next");
        let next = next_key(&next_path)?;
        let plan = self.register(&next, now).await?;
        tokio::time::sleep(SPREADING).await;
        let failed = |error: io::Error| format!("{}: {error}", key_path.display());
        // The agent reads the key again when its file changes.
        fs::rename(&next_path, &key_path).map_err(failed)?;
        self.store(plan);
        Ok(plan)
    }

    /// Registers the key, by a request that the old one signs.
    async fn register(&self, next: &SigningKey, now: u64) -> Result<RenewalPlan, String> {
        let signer = self.keys.current();
        let public = next.verifying_key().to_bytes();
        let proof = KeyProof::of_renewal(signer.id(), &public, now).sign(next);
        let body = json!({
            "public_key": STANDARD.encode(public), "timestamp": now, "proof": proof,
        });
        let body = body.to_string();
        let headers = signer.sign_text("POST", PATH, body.as_bytes(), now);
        let headers = headers.map_err(|why| why.to_string())?;
        let gateway = &self.connector.gateway;
        let mut request = Request::post(format!("{}{PATH}", gateway.prefix))
            .header(CONTENT_TYPE, "application/json");
        for (header, value) in &headers {
            request = request.header(header.name(), value);
        }
        let request = request.body(Bytes::from(body));
        let request = request.map_err(|error| format!("the request cannot be built: {error}"))?;
        let answer = http_client::exchange(&self.connector, request, LIMITS).await;
        let answer = answer
            .map_err(|error| format!("cannot reach the gateway at {gateway}: {}", error.cause()))?;
        if answer.status().is_success() {
            let parsed: Option<RenewedAnswer> = serde_json::from_slice(answer.body()).ok();
            let expires = parsed.and_then(|answer| unix_seconds(&answer.expires));
            let expires =
                expires.ok_or_else(|| format!("the answer of {gateway} is no renewal"))?;
            return Ok(RenewalPlan::after(now, expires));
        }
        let refusal = refused::parse(answer.headers(), answer.body());
        match refusal.as_ref().and_then(|refusal| refusal.code.known()) {
            // A run before this one registered the key, and ended before it could use it.
            Some(Code::Exists) => Ok(RenewalPlan {
                expires: now.saturating_add(UNKNOWN_END),
                renew_at: now.saturating_add(UNKNOWN_END),
            }),
            _ => Err(format!(
                "the gateway at {gateway} answered {}{}",
                answer.status().as_u16(),
                errors(answer.body())
            )),
        }
    }

    fn plan_path(&self) -> PathBuf {
        beside(&self.keys.key_file(), "renewal")
    }

    /// Without a plan the machine is renewed at once.
    fn stored_plan(&self) -> Option<RenewalPlan> {
        let bytes = file::read(&self.plan_path(), MAX_PLAN).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn store(&self, plan: RenewalPlan) {
        let path = self.plan_path();
        let stored = serde_json::to_vec(&plan)
            .map_err(io::Error::from)
            .and_then(|text| {
                let new = beside(&path, "new");
                let _ = fs::remove_file(&new);
                new_key::write_new(&new, &text)?;
                fs::rename(new, &path)
            });
        if let Err(error) = stored {
            error!(
                "{}: {error}; a restart renews the machine again",
                path.display()
            );
        }
    }
}

/// The file beside another one, with this added to its name.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// The key of a renewal that was begun, or a new one.
fn next_key(path: &Path) -> Result<SigningKey, String> {
    match key_file::read_private(path) {
        Ok(key) => return Ok(key),
        Err(key_file::KeyFault::Missing) => {}
        // Half a key, or one that others may read, is registered nowhere that matters.
        Err(_) => {
            let removed = fs::remove_file(path);
            removed.map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let key = new_key::generate().map_err(|error| error.to_string())?;
    new_key::write(path, &key).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(key)
}

fn unix_seconds(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp()).ok()
}

/// The texts of a refusal, which hold no secret.
fn errors(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = body.get("errors").and_then(serde_json::Value::as_array);
    let texts: Vec<&str> = (errors.into_iter().flatten())
        .filter_map(serde_json::Value::as_str)
        .collect();
    match texts[..] {
        [] => String::new(),
        _ => format!(": {}", texts.join(" ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_machine_renews_after_two_thirds_of_its_life() {
        let plan = RenewalPlan::after(1000, 1000 + 3 * 3600);
        assert_eq!(plan.renew_at, 1000 + 2 * 3600);
        assert_eq!(RenewalPlan::after(1000, 900).renew_at, 1000);
    }

    #[test]
    fn a_renewal_that_was_begun_goes_on_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("private.pem"), "next");
        let first = next_key(&path).unwrap();
        assert_eq!(next_key(&path).unwrap().to_bytes(), first.to_bytes());
        fs::write(&path, "half").unwrap();
        assert_ne!(next_key(&path).unwrap().to_bytes(), first.to_bytes());
    }
}
