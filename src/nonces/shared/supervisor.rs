//! The store supervisor: checks the link every second, and replaces it when it fails.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::link::{Link, StoreTarget};
use super::store_server::{ServerRun, UnusableStore};
use countersign_client::clock::Clock;

/// The current link, if there is one, and the signal that it failed.
#[derive(Default)]
pub(super) struct LinkSlot {
    link: ArcSwapOption<Link>,
    failed: Notify,
}

impl LinkSlot {
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// Discards a link that failed or gave an unusable answer, and has the supervisor replace it.
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
    /// The longest wait for one answer.
    pub(super) timeout: Duration,
    /// The allowed difference between the store's clock and this gateway's, in seconds.
    pub(super) margin: u64,
}

/// The facts that earlier links established.
#[derive(Default)]
struct LinkHistory {
    life: Option<ServerRun>,
    floor: u64,
    complaint: Option<UnusableStore>,
    remark: Option<&'static str>,
    started: bool,
}

/// Longest time to connect and to check the server: about eight round trips, TLS included.
const CONNECT: Duration = Duration::from_secs(1);

/// Pause after a failure. With [`CONNECT`] it keeps a reconnection below two seconds.
const RETRY: Duration = Duration::from_millis(250);

/// The interval between checks of the link, so that a lost store shows without a request.
const PULSE: Duration = Duration::from_secs(1);

/// Checks of a link before the server is checked anew over a new connection: its settings can
/// change.
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
                    warn!("a claim or a check of the shared nonce store failed; connecting again");
                }
                Err(unusable) => {
                    self.slot.link.store(None);
                    complain(unusable, &mut history);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Raises the link's floor to that of earlier links, and logs the changes.
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
                "the shared nonce store may have forgotten nonces: to prevent replays, requests up \
                 to the last timestamp that may have been accepted are refused for so many \
                 seconds"
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
                "the clocks of this gateway and of the shared nonce store differ by more than \
                 replay.redis.clock_margin: requests near the ends of the window are refused. \
                 Synchronise both clocks (NTP)"
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

    /// Waits until the next check of the server is due (`true`), or the link has failed.
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

/// Logs a failure once for each reason, not for each attempt.
fn complain(unusable: UnusableStore, history: &mut LinkHistory) {
    if history.complaint.as_ref() != Some(&unusable) {
        warn!("cannot use the shared nonce store, so requests are refused: {unusable}");
        history.complaint = Some(unusable);
    }
}
