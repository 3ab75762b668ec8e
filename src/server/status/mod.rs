//! The status of the gateway, for the status page and `/status.json`.

mod activity;
mod data;
mod expiry;
mod judge;
mod machines;
mod page;
mod rows;
mod text;

use std::sync::Arc;

pub(crate) use self::activity::Activity;
pub(crate) use self::data::{GatewayStatus, ListenerStatus};
pub(crate) use self::expiry::ExpiryCache;
pub(crate) use self::page::{Refresh, content_security_policy, html};
pub(crate) use self::text::shown;

use self::data::{ConfigurationStatus, Rows};
use self::judge::Judge;
use self::text::Moment;
use super::listen::tls::Tls;
use super::reload::Reloader;
use super::replay_cache::ReplayCache;
use crate::gateway::Gateway;
use crate::metrics::{CertificateEnd, Metrics, Scraped};
use crate::registry::RegistryStore;
use countersign_client::clock::{Clock, Now};

/// Seconds in a day.
const DAY: u64 = 86_400;

/// Where the status comes from.
pub(crate) struct StatusBoard {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) registry: Arc<RegistryStore>,
    pub(crate) replay: Arc<ReplayCache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) clock: Clock,
    pub(crate) started: Now,
    /// The listeners as they are bound.
    pub(crate) listeners: Vec<ListenerStatus>,
    /// The TLS of those that have it.
    pub(crate) tls: Vec<Arc<Tls>>,
    pub(crate) expiry: ExpiryCache,
}

impl StatusBoard {
    /// The status now. It may block for some milliseconds.
    pub(crate) fn status(&self) -> GatewayStatus {
        let now = self.clock.now();
        let at = now.unix_seconds();
        let uptime_seconds = now.mono.saturating_sub(self.started.mono).as_secs();
        let plan = self.gateway.plan();
        let (traffic, lately) = self.activity.of_last_hour(uptime_seconds);
        let reasons: Vec<_> = self.gateway.readiness().reasons().collect();
        let reasons: Vec<_> = reasons.iter().map(|reason| shown(reason)).collect();
        let mut judge = Judge::default();

        let servers = rows::servers(&plan.servers(), &mut judge);
        let secrets = rows::secrets(&plan.secrets(), &mut judge);
        let certificates = rows::certificates(&self.certificates(), at, &mut judge);
        let routes = rows::routes(&plan, at, &mut judge);
        let reloads = rows::reloads(&self.reloader.last(), &mut judge);
        let machines = machines::machines(self, at, &mut judge);
        for fault in plan.tls_faults() {
            judge.attention("files", &fault);
        }
        for files in self.reloader.stuck() {
            judge.attention(
                "files",
                &format!("the file system of {files} does not answer"),
            );
        }
        let reload_running_seconds = self.reloader.running().as_secs();
        judge.reload(reload_running_seconds);
        judge.requests(&lately);
        let configuration = ConfigurationStatus {
            file: shown(&plan.config.file.display().to_string()),
            state_dir: (plan.config.replay.state_dir.as_ref())
                .map(|directory| shown(&directory.display().to_string())),
            nonces: self.replay.live(),
            nonce_quota: plan.config.replay.quota,
            clock_offset_seconds: self.metrics.clock_offset(),
        };
        judge.configuration(&configuration);
        let (verdict, notices) = judge.conclude(reasons.is_empty());
        GatewayStatus {
            version: env!("CARGO_PKG_VERSION"),
            now: Moment(at),
            started: Moment(at.saturating_sub(uptime_seconds)),
            uptime_seconds,
            verdict,
            ready: reasons.is_empty(),
            reasons,
            notices,
            traffic,
            machines,
            servers,
            secrets,
            routes,
            listeners: Rows::first(self.listeners.clone(), rows::MOST_ROWS),
            certificates,
            reloads,
            reload_running_seconds,
            configuration,
        }
    }

    /// What a scrape computes. It may block for some milliseconds.
    pub(crate) fn scraped(&self) -> Scraped {
        let expiry = self.expiry.of(&self.registry.current());
        let now = self.clock.now().unix_seconds();
        Scraped {
            certificates: self.certificates(),
            expiring_in_a_day: expiry.within(now, DAY),
            expiring_in_a_week: expiry.within(now, 7 * DAY),
            reload_running: self.reloader.running(),
        }
    }

    /// The certificates in force: of the listeners and of the upstreams.
    fn certificates(&self) -> Vec<CertificateEnd> {
        let listeners = self.tls.iter().flat_map(|tls| tls.certificates());
        let upstreams = self.gateway.plan().certificates();
        listeners.chain(upstreams).collect()
    }
}
