//! Nonces that several gateways share, in one Redis or Valkey primary.
//!
//! - `rules`: which answers of the store count;
//! - `store_server`: which servers can be used at all;
//! - `link`: one connection, over which both are asked;
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

/// A [`NonceStore`] that several gateways share. It asks this gateway's own memory first, so that
/// a replay here never troubles the store, and then the store.
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

/// Seconds a client is told to wait while the store cannot be used: it is tried four times a second.
const RETRY_WHEN_UNUSABLE: u32 = 1;

impl SharedNonces {
    /// Whether the settings can be used; nobody is asked.
    ///
    /// # Errors
    ///
    /// What is wrong with the file of certificates.
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

    /// A store that begins to connect now, and goes on until it is dropped. Until it has, it
    /// refuses.
    ///
    /// # Errors
    ///
    /// What is wrong with the file of certificates, or why no thread can be started.
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

    /// How many nonces this gateway remembers itself.
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
            // The link is sound: it is this claim that came too late, or this gateway's clock.
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

/// The refusal of a timestamp at or below `floor`: one that is stamped later lies above it.
fn below(floor: u64, now: u64) -> ClaimError {
    let seconds = floor.saturating_sub(now).saturating_add(1);
    ClaimError::Unavailable {
        retry_after: u32::try_from(seconds).unwrap_or(u32::MAX),
    }
}

#[async_trait::async_trait]
impl NonceStore for SharedNonces {
    async fn claim(&self, claim: Claim) -> Result<(), ClaimError> {
        // Looked for before the nonce is spent here: nobody was asked yet, so the same request
        // may pass at another gateway, or here when the store is back.
        let Some(link) = self.slot.link() else {
            self.metrics.replay_store_error();
            return Err(UNUSABLE);
        };
        if claim.timestamp.unix_seconds() <= link.floor {
            return Err(below(link.floor, self.clock.now().unix_seconds()));
        }
        self.local.claim(claim).await?;
        self.ask(&link, claim).await
    }

    fn ready(&self) -> Result<(), String> {
        match self.slot.link() {
            None => Err("the shared nonce store cannot be used".into()),
            Some(link) if link.floor >= self.clock.now().unix_seconds() => {
                Err("the shared nonce store is new, or may have forgotten nonces".into())
            }
            Some(_) => self.local.ready(),
        }
    }
}
