//! Reading the metrics: as a page for a scraper, and as numbers for the status page.

use prometheus::TextEncoder;

use super::machines::{LastUse, ListedUses};
use super::scraped::Scraped;
use super::{Metrics, openmetrics};
use countersign_core::refusal::Code;

/// The form in which the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Exposition::Text => prometheus::TEXT_FORMAT,
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// The refusals so far, in the order of [`Code::ALL`].
    pub fn refusals(&self) -> [u64; Code::ALL.len()] {
        self.codes.refusals()
    }

    /// The last uses of up to 1000 machines, in no order, and whether those are all.
    pub fn machine_uses(&self) -> (Vec<LastUse>, ListedUses) {
        self.machines.uses()
    }

    /// The median of the recent clock skews, in seconds; 0 before the first.
    pub fn clock_offset(&self) -> i64 {
        self.clock.offset()
    }

    /// When the registry in force was loaded, in Unix seconds.
    pub fn registry_loaded_at(&self) -> u64 {
        self.reloads.registry_last()
    }

    /// All metrics in the text format; nothing is computed for it.
    pub fn render(&self) -> String {
        self.scrape(&Scraped::default(), Exposition::Text)
    }

    /// All metrics, with those that were computed for this scrape.
    pub fn scrape(&self, scraped: &Scraped, exposition: Exposition) -> String {
        self.clock.show_offset();
        // Held to the end: the series of another scrape must not be half replaced.
        let _shown = self.scraped.show(scraped);
        let families = self.registry.gather();
        let mut text = String::new();
        let written = match exposition {
            Exposition::Text => TextEncoder::new().encode_utf8(&families, &mut text),
            Exposition::OpenMetrics => {
                openmetrics::encode(&families, &mut text);
                Ok(())
            }
        };
        if let Err(error) = written {
            // Half a page would look like counters that were reset.
            tracing::error!(%error, "the metrics could not be rendered");
            text.clear();
        }
        text
    }
}
