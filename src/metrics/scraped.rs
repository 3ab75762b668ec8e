//! Gauges that are computed for each scrape, because nothing happens when they change.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, IntGauge, IntGaugeVec, Result};

use super::declare::{Declare, gauge_value};
use super::reloads::CertificateUse;

/// The values that a scrape computes.
#[derive(Clone, Debug, Default)]
pub struct Scraped {
    /// The certificates in force.
    pub certificates: Vec<CertificateEnd>,
    /// Machines that will be refused within a day, by their dates or those of their keys.
    pub expiring_in_a_day: usize,
    /// The same within seven days.
    pub expiring_in_a_week: usize,
    /// How long the reload that runs now has been running; zero if none does.
    pub reload_running: Duration,
}

/// A certificate in force, and the end of its validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEnd {
    /// What it is for.
    pub usage: CertificateUse,
    /// The listener's address, or the upstream's name.
    pub owner: String,
    /// The file that it is read from.
    pub file: PathBuf,
    /// The last second in which it is valid, in Unix seconds.
    pub until: u64,
}

pub(super) struct ScrapedMetrics {
    certificates: IntGaugeVec,
    expiring_in_a_day: IntGauge,
    expiring_in_a_week: IntGauge,
    reload_running: Gauge,
    /// Held by a scrape.
    scrape: Mutex<()>,
}

impl ScrapedMetrics {
    pub(super) fn declare(declare: &Declare) -> Result<ScrapedMetrics> {
        let expiring = declare.gauges(
            "machines_expiring",
            "Enabled machines that will be refused within this time, because they expire or the last of their keys does; 7d includes 24h.",
            &["within"],
        )?;
        Ok(ScrapedMetrics {
            certificates: declare.gauges(
                "certificate_not_after_timestamp_seconds",
                "Unix time of the last second in which the certificates of a file in force are valid.",
                &["file"],
            )?,
            expiring_in_a_day: expiring.with_label_values(&["24h"]),
            expiring_in_a_week: expiring.with_label_values(&["7d"]),
            reload_running: declare.real_gauge(
                "reload_running_seconds",
                "How long the longest of the running reloads has been running; 0 if none is.",
            )?,
            scrape: Mutex::default(),
        })
    }

    /// Shows these values. No other scrape replaces them before the result is dropped.
    pub(super) fn show(&self, scraped: &Scraped) -> MutexGuard<'_, ()> {
        let shown = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        // A certificate that the configuration names no more is not shown any longer.
        self.certificates.reset();
        for CertificateEnd { file, until, .. } in &scraped.certificates {
            let file = file.to_string_lossy();
            let gauge = self.certificates.with_label_values(&[&*file]);
            // One file may be used twice, read at two times: the earlier end counts.
            let known = Some(gauge.get()).filter(|known| *known != 0);
            let until = gauge_value(*until);
            gauge.set(known.map_or(until, |known| known.min(until)));
        }
        (self.expiring_in_a_day).set(gauge_value(scraped.expiring_in_a_day));
        (self.expiring_in_a_week).set(gauge_value(scraped.expiring_in_a_week));
        self.reload_running
            .set(scraped.reload_running.as_secs_f64());
        shown
    }
}
