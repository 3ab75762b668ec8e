//! The store supervisor: checks the link every second, and replaces it when it fails.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::link::{Link, StoreTarget};
use super::store_server::{ServerRun, UnusableStore};
use countersign_client::clock::Clock;

/// The link of the moment, if there is one, and a way to say that it failed.
#[derive(Default)]
pub(super) struct LinkSlot {
    link: ArcSwapOption<Link>,
    failed: Notify,
}

impl LinkSlot {
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// Takes a link away that gave an answer which does not count: nothing more is asked over it.
    pub(super) fn discard(&self, link: &Arc<Link>) {
        let current = self.link.load_full();
        if current.is_some_and(|current| Arc::ptr_eq(&current, link)) {
            self.link.store(None);
            self.failed.notify_one();
        }
    }
}

/// The task that fills the slot. It ends when it is dropped.
pub(super) struct StoreSupervisor {
    pub(super) target: StoreTarget,
    pub(super) slot: Arc<LinkSlot>,
    pub(super) clock: Clock,
    /// Longest wait for one answer.
    pub(super) timeout: Duration,
    /// How far the store's clock may be from this gateway's, in seconds.
    pub(super) margin: u64,
}

/// What was learned from earlier links.
#[derive(Default)]
struct LinkHistory {
    life: Option<ServerRun>,
    floor: u64,
    complaint: Option<UnusableStore>,
    remark: Option<&'static str>,
    started: bool,
}

/// Longest time to connect and to look at everything: some eight round trips, TLS included.
const CONNECT: Duration = Duration::from_secs(1);

/// Pause after a failure. With [`CONNECT`] it keeps the way back below two seconds.
const RETRY: Duration = Duration::from_millis(250);

/// How often the link is tried, so that a store that is gone is noticed without a request.
const PULSE: Duration = Duration::from_secs(1);

/// After so many pulses everything is looked at anew, over a new connection: settings can change.
const PULSES: u32 = 60;

impl StoreSupervisor {
    pub(super) async fn run(self) {
        let mut history = LinkHistory::default();
        loop {
            match self.target.connect(history.life.as_ref(), CONNECT).await {
                Ok(link) => {
                    let link = Arc::new(self.welcome(link, &mut history));
                    self.slot.link.store(Some(Arc::clone(&link)));
                    if self.healthy(&link).await {
                        continue;
                    }
                    warn!("a claim or a pulse of the shared nonce store failed; connecting anew");
                }
                Err(unusable) => {
                    self.slot.link.store(None);
                    complain(unusable, &mut history);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Raises the link's floor to that of the links before it, and says what has changed.
    fn welcome(&self, mut link: Link, history: &mut LinkHistory) -> Link {
        link.floor = link.floor.max(history.floor);
        let now = self.clock.now().unix_seconds();
        if !history.started || history.complaint.is_some() {
            info!("the shared nonce store is usable");
        }
        if link.floor > history.floor && link.floor > now {
            let seconds = link.floor - now;
            warn!(
                seconds,
                "the shared nonce store may have forgotten nonces: what may have passed before is \
                 refused, honest requests too, for so many seconds"
            );
        }
        if link.remark != history.remark
            && let Some(remark) = link.remark
        {
            warn!("the shared nonce store: {remark}");
        }
        let apart = now.abs_diff(link.time);
        if apart > self.margin {
            warn!(
                seconds = apart,
                "this gateway's clock and the shared nonce store's are further apart than \
                 replay.redis.clock_margin; requests near the ends of the window are refused"
            );
        }
        *history = LinkHistory {
            life: Some(link.life.clone()),
            floor: link.floor,
            complaint: None,
            remark: link.remark,
            started: true,
        };
        link
    }

    /// Waits until it is time for a new look (`true`), or the link has failed.
    async fn healthy(&self, link: &Arc<Link>) -> bool {
        for _ in 0..PULSES {
            tokio::select! {
                () = self.slot.failed.notified() => return false,
                () = tokio::time::sleep(PULSE) => {}
            }
            match tokio::time::timeout(self.timeout, link.pulse()).await {
                Ok(Ok(Some(_))) => {}
                _ => {
                    self.slot.link.store(None);
                    return false;
                }
            }
        }
        true
    }
}

/// Once for each reason, and not for each try.
fn complain(unusable: UnusableStore, history: &mut LinkHistory) {
    if history.complaint.as_ref() != Some(&unusable) {
        warn!("the shared nonce store cannot be used, and requests are refused: {unusable}");
        history.complaint = Some(unusable);
    }
}
