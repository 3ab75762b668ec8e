//! The nonce store that several gateways share: one Redis or Valkey primary.
//!
//! - `rules`: decides which answers of the store count;
//! - `store_server`: decides which servers can be used;
//! - `link`: one connection to the server;
//! - `supervisor`: replaces the connection when it fails.
//!
//! docs/replay.md says which deployments are sound, and the cost of each failure.

mod link;
mod rules;
mod store_server;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use self::link::{Link, StoreTarget};
use self::rules::{ClaimOutcome, Rules};
use self::supervisor::{LinkSlot, StoreSupervisor};
use super::memory::MemoryNonces;
use super::quota::NonceQuotas;
use crate::config::Redis;
use crate::metrics::Metrics;
use countersign_client::clock::Clock;
use countersign_core::replay::{Claim, ClaimError, NonceStore, Window};

/// A [`NonceStore`] that several gateways share. It asks this gateway's own memory first, and then
/// the store, so that a replay at this gateway costs the store nothing.
///
/// It fails closed: an error, a late or an odd answer is [`ClaimError::Unavailable`], and such a
/// nonce stays spent here. No command is sent twice.
pub struct SharedNonces {
    local: MemoryNonces,
    slot: Arc<LinkSlot>,
    timeout: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
    _supervisor: AbortOnDropHandle<()>,
}

/// `Retry-After` in seconds while the store cannot be used. The gateway connects four times a
/// second.
const RETRY_WHEN_UNUSABLE: u32 = 1;

impl SharedNonces {
    /// Checks the settings, without a connection to the server.
    ///
    /// # Errors
    ///
    /// The mistake in the file of certificates.
    pub fn check(redis: &Redis) -> Result<(), String> {
        let window = Window { past: 0, future: 0 };
        StoreTarget::new(
            redis,
            Rules {
                window,
                margin: redis.clock_margin,
            },
        )
        .map(drop)
    }

    /// Starts to connect, and keeps a connection until the store is dropped. The store refuses
    /// while it has none.
    ///
    /// # Errors
    ///
    /// The mistake in the file of certificates, or the operating system cannot start a thread.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn start(
        redis: &Redis,
        window: Window,
        quotas: NonceQuotas,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<SharedNonces, String> {
        let local = MemoryNonces::new(window, quotas, clock.clone()).map_err(|error| {
            format!("cannot start the thread that maintains the replay cache: {error}")
        })?;
        let margin = redis.clock_margin;
        let slot = Arc::new(LinkSlot::default());
        let supervisor = StoreSupervisor {
            target: StoreTarget::new(redis, Rules { window, margin })?,
            slot: Arc::clone(&slot),
            clock: clock.clone(),
            timeout: redis.timeout,
            margin,
        };
        Ok(SharedNonces {
            local,
            slot,
            timeout: redis.timeout,
            clock,
            metrics,
            _supervisor: AbortOnDropHandle::new(tokio::spawn(supervisor.run())),
        })
    }

    /// The number of live nonces in this gateway's own memory.
    pub fn live(&self) -> u64 {
        self.local.live()
    }

    async fn ask(&self, link: &Arc<Link>, claim: Claim) -> Result<(), ClaimError> {
        let began = self.clock.now().mono;
        let answer =
            tokio::time::timeout(self.timeout, link.claim(claim.nonce, claim.timestamp)).await;
        let took = self.clock.now().mono.saturating_sub(began);
        self.metrics.observe_replay_store(took);
        match answer {
            Ok(Ok(ClaimOutcome::Fresh)) => Ok(()),
            Ok(Ok(ClaimOutcome::Spent)) => Err(ClaimError::Replayed),
            // The link is sound. This claim was late, or this gateway's clock is off.
            Ok(Ok(ClaimOutcome::OutOfTime)) => {
                self.metrics.replay_store_error();
                Err(UNUSABLE)
            }
            Ok(Ok(ClaimOutcome::Forgot) | Err(_)) | Err(_) => {
                self.metrics.replay_store_error();
                self.slot.discard(link);
                Err(UNUSABLE)
            }
        }
    }
}

const UNUSABLE: ClaimError = ClaimError::Unavailable {
    retry_after: RETRY_WHEN_UNUSABLE,
};

/// The refusal of a timestamp at or below `floor`. A fresh request passes once the clock is above
/// it.
fn below(floor: u64, now: u64) -> ClaimError {
    let seconds = floor.saturating_sub(now).saturating_add(1);
    ClaimError::Unavailable {
        retry_after: u32::try_from(seconds).unwrap_or(u32::MAX),
    }
}

#[async_trait::async_trait]
impl NonceStore for SharedNonces {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        // Checked before the nonce is spent in this gateway's memory: the same request may still
        // pass at another gateway, or here once the store is back.
        let Some(link) = self.slot.link() else {
            self.metrics.replay_store_error();
            return Err(UNUSABLE);
        };
        if claim.unix_seconds() <= link.floor {
            return Err(below(link.floor, self.clock.now().unix_seconds()));
        }
        self.local.claim(claim).await?;
        self.ask(&link, claim).await
    }

    fn ready(&self) -> Result<(), String> {
        match self.slot.link() {
            None => Err("the shared nonce store is unavailable; the log gives the reason".into()),
            Some(link) if link.floor >= self.clock.now().unix_seconds() => {
                let text = "the shared nonce store is new or may have lost nonces: quarantine until \
                            the clock has passed the last timestamp that may have been accepted";
                Err(text.into())
            }
            Some(_) => self.local.ready(),
        }
    }
}
