//! The status page: HTML from the status, without a script. Askama escapes every value.

use std::fmt::Display;
use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::data::{GatewayStatus, MachineStatus, NoticeLevel, Verdict};
use super::text::{Moment, counted, grouped, span};

/// The style sheet, inside the page: a page that is saved keeps its look.
const STYLE: &str = include_str!("../../../templates/status.css");

/// Allows that style sheet and the icon inside the page, and nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
});

/// Whether the page asks the browser to load it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    Never,
    /// Every half minute, for a page that stays open.
    Regularly,
}

impl Refresh {
    /// The query that asks for it.
    const QUERY: &str = "refresh";

    /// Reads the query of the request.
    pub(crate) fn of(query: Option<&str>) -> Refresh {
        match query {
            Some(Refresh::QUERY) => Refresh::Regularly,
            _ => Refresh::Never,
        }
    }
}

/// The page. Its methods are the words that the template needs.
#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    s: &'a GatewayStatus,
    style: &'static str,
    refreshes: bool,
}

/// The `Content-Security-Policy` of the page.
pub(crate) fn content_security_policy() -> &'static str {
    &POLICY
}

/// The page.
///
/// # Errors
///
/// That a value cannot be written; none fails.
pub(crate) fn html(status: &GatewayStatus, refresh: Refresh) -> Result<String, askama::Error> {
    StatusPage {
        s: status,
        style: STYLE,
        refreshes: refresh == Refresh::Regularly,
    }
    .render()
}

/// One bar of the chart, in its units.
struct Bar {
    x: usize,
    passed_y: u64,
    passed_height: u64,
    refused_y: u64,
    refused_height: u64,
}

impl StatusPage<'_> {
    /// Height of the chart.
    const HEIGHT: u64 = 48;

    fn headline(&self) -> String {
        match self.s.verdict {
            Verdict::Well => "All is well".to_owned(),
            Verdict::Attention => counted(
                self.s.notices.total,
                "thing needs attention",
                "things need attention",
            ),
            Verdict::Failing => "Requests fail".to_owned(),
            Verdict::NotReady => "Not ready".to_owned(),
        }
    }

    /// The class of the verdict, which decides its colour.
    fn class(&self) -> &'static str {
        match self.s.verdict {
            Verdict::Well => "good",
            Verdict::Attention => "warn",
            Verdict::Failing | Verdict::NotReady => "bad",
        }
    }

    /// The icon of the page: a disc in the colour of the verdict, as a data URL.
    fn icon(&self) -> &'static str {
        match self.class() {
            "good" => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='%232e7d4f'/%3E%3C/svg%3E"
            }
            "warn" => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='%23c98a00'/%3E%3C/svg%3E"
            }
            _ => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='%23c0362c'/%3E%3C/svg%3E"
            }
        }
    }

    /// How long ago, or in how long.
    fn when(&self, at: &Moment) -> String {
        let now = self.s.now.0;
        match at.0 > now {
            true => format!("in {}", span(at.0 - now)),
            false if now - at.0 < 2 => "just now".to_owned(),
            false => format!("{} ago", span(now - at.0)),
        }
    }

    /// An instant for people: without the letters of RFC 3339.
    fn utc(&self, at: &Moment) -> String {
        at.to_string()
            .replacen('T', " ", 1)
            .replacen('Z', " UTC", 1)
    }

    fn span(&self, seconds: &u64) -> String {
        span(*seconds)
    }

    fn number(&self, number: impl Display) -> String {
        grouped(number)
    }

    fn machines(&self) -> String {
        counted(self.s.machines.registered, "machine", "machines")
    }

    fn requests(&self) -> String {
        let traffic = &self.s.traffic;
        let all = traffic.forwarded + traffic.failed + traffic.observed + traffic.refused;
        counted(all as usize, "request", "requests")
    }

    /// What is known of a machine besides its id.
    fn about(&self, machine: &MachineStatus) -> String {
        let known = [&machine.name, &machine.owner, &machine.vault];
        let known: Vec<&str> = known.into_iter().flatten().map(|text| &**text).collect();
        known.join(" · ")
    }

    /// How far a clock is off: positive skew is a machine that is behind.
    fn skew(&self, machine: &MachineStatus) -> String {
        let off = span(machine.skew_seconds.unsigned_abs());
        match machine.skew_seconds > 0 {
            true => format!("{off} behind"),
            false => format!("{off} ahead"),
        }
    }

    fn usage(&self, usage: &&'static str) -> &'static str {
        match *usage {
            "listener" => "listener",
            "listener_client_ca" => "clients' authorities, listener",
            "upstream" => "the gateway's own, upstream",
            "upstream_ca" => "authorities, upstream",
            "admin" => "admin listener",
            "admin_client_ca" => "clients' authorities, admin listener",
            other => other,
        }
    }

    fn days(&self, days: &i64) -> String {
        match days {
            ..0 => "expired".to_owned(),
            0 => "today".to_owned(),
            days => counted(days.unsigned_abs() as usize, "day", "days"),
        }
    }

    fn days_class(&self, days: &i64) -> &'static str {
        match days {
            ..0 => "bad",
            0..7 => "warn",
            _ => "good",
        }
    }

    /// The most requests of a minute.
    fn peak(&self) -> u64 {
        let minutes = self.s.traffic.minutes.iter();
        let all = minutes.map(|minute| minute.passed + minute.not_passed);
        all.max().unwrap_or(0)
    }

    /// The bars, the latest at the right end of sixty places. A minute with a request has one unit
    /// at least.
    fn bars(&self) -> Vec<Bar> {
        let minutes = &self.s.traffic.minutes;
        let peak = self.peak().max(1);
        let height = |count: u64| match count {
            0 => 0,
            count => (count * StatusPage::HEIGHT).div_ceil(peak),
        };
        let first = 60_usize.saturating_sub(minutes.len());
        let bars = minutes.iter().enumerate().map(|(at, minute)| {
            let refused_height = height(minute.not_passed);
            let passed_height = height(minute.passed).min(StatusPage::HEIGHT - refused_height);
            Bar {
                x: (first + at) * 5,
                passed_y: StatusPage::HEIGHT - passed_height,
                passed_height,
                refused_y: StatusPage::HEIGHT - passed_height - refused_height,
                refused_height,
            }
        });
        bars.filter(|bar| bar.passed_height + bar.refused_height > 0)
            .collect()
    }
}
