//! What is wrong, and how much it matters. The rules are those of the alerts, at this moment.

use super::DAY;
use super::activity::RequestCounts;
use super::data::{
    CertificateStatus, ConfigurationStatus, MachinesStatus, NoticeLevel, RouteStatus, Rows,
    StatusNotice, Verdict,
};
use super::text::{counted, shown, span};
use crate::gateway::{SecretReport, ServerReport};
use crate::metrics::Outcome;
use countersign_core::refusal::Code;

/// Most notices.
const MOST_NOTICES: usize = 20;

/// A certificate should have been renewed when so many days are left.
const RENEWED: i64 = 7;

/// A route that closes within this time, in seconds, while unsigned requests still come: three days.
const CLOSES: u64 = 3 * DAY;

/// A reload that takes longer than this many seconds delays a revocation.
const SLOW_RELOAD: u64 = 5;

/// A median of the clock skews beyond this many seconds: this gateway's clock is off.
const CLOCK_OFF: u64 = 30;

/// So many failed requests may be an accident, whatever their share: the fewest that count.
const SOME: u64 = 5;

/// The gateway's own refusals. The backend's count as failed requests.
const OWN_FAULTS: [Code; 4] = [
    Code::ReplayUnavailable,
    Code::AuditUnavailable,
    Code::Overloaded,
    Code::Internal,
];

/// Collects the notices.
#[derive(Default)]
pub(super) struct Judge(Vec<StatusNotice>);

impl Judge {
    /// Something should be looked at.
    pub(super) fn attention(&mut self, section: &'static str, text: &str) {
        self.notice(NoticeLevel::Attention, section, text);
    }

    fn failing(&mut self, section: &'static str, text: &str) {
        self.notice(NoticeLevel::Failing, section, text);
    }

    fn notice(&mut self, level: NoticeLevel, section: &'static str, text: &str) {
        self.0.push(StatusNotice {
            level,
            text: shown(text),
            section,
        });
    }

    /// The servers of one upstream.
    pub(super) fn upstream(&mut self, upstream: &str, servers: &[&ServerReport]) {
        if servers.iter().all(|server| server.trouble.is_some()) {
            let text = format!("upstream {upstream}: no server is in service");
            return self.failing("servers", &text);
        }
        for server in servers {
            if let Some(why) = &server.trouble {
                let name = &server.server;
                self.attention("servers", &format!("upstream {upstream}: {name}: {why}"));
            }
        }
    }

    pub(super) fn secret(&mut self, secret: &SecretReport) {
        let Some(why) = &secret.trouble else { return };
        let text = match secret.kind {
            crate::gateway::SecretKind::Credential => format!("credential {}: {why}", secret.name),
            crate::gateway::SecretKind::Login => format!("{}: {why}", secret.name),
        };
        match secret.is_unusable {
            true => self.failing("secrets", &text),
            false => self.attention("secrets", &text),
        }
    }

    pub(super) fn certificate(&mut self, certificate: &CertificateStatus) {
        let CertificateStatus {
            file, days_left, ..
        } = certificate;
        if *days_left < 0 {
            let end = certificate.not_after;
            self.failing(
                "certificates",
                &format!("{file}: the certificate expired on {end}"),
            );
        } else if *days_left < RENEWED {
            let left = match days_left {
                0 => "today".to_owned(),
                days => format!(
                    "in {}",
                    counted(days.unsigned_abs() as usize, "day", "days")
                ),
            };
            self.attention(
                "certificates",
                &format!("{file}: the certificate expires {left}"),
            );
        }
    }

    pub(super) fn route(&mut self, route: &RouteStatus, now: u64) {
        let Some(until) = route.until else { return };
        let left = until.0.saturating_sub(now);
        if left < CLOSES && route.unsigned > 0 {
            let text = format!(
                "route {} enforces in {}, and is still asked without signatures",
                route.path,
                span(left)
            );
            self.attention("routes", &text);
        }
    }

    pub(super) fn reload(&mut self, running: u64) {
        if running > SLOW_RELOAD {
            let text = format!(
                "a reload has been running for {}: does the file system answer?",
                span(running)
            );
            self.attention("files", &text);
        }
    }

    pub(super) fn machines(&mut self, machines: &MachinesStatus, far_off: usize) {
        if machines.registered == 0 {
            let text = "the registry has no machine: every signed request is refused";
            self.attention("machines", text);
        }
        if machines.expiring_24h > 0 {
            let expiring = counted(machines.expiring_24h, "machine expires", "machines expire");
            self.attention("expiring", &format!("{expiring} within 24 hours"));
        }
        if far_off > 0 {
            let off = counted(far_off, "machine has", "machines have");
            let text = format!("{off} a clock that is more than two minutes off");
            self.attention("skewed", &text);
        }
    }

    /// The requests of the last minutes.
    pub(super) fn requests(&mut self, lately: &RequestCounts) {
        for code in OWN_FAULTS {
            let count = lately.refusals[code as usize];
            if count > 0 {
                let text = format!(
                    "{} of the last five minutes got {} {}",
                    counted(count as usize, "request", "requests"),
                    code.status(),
                    code.as_str()
                );
                self.failing("traffic", &text);
            }
        }
        let failed = lately.of(Outcome::Failed);
        let forwarded = failed + lately.of(Outcome::Forwarded) + lately.of(Outcome::Observed);
        if failed >= SOME && failed * 20 > forwarded {
            let text = format!(
                "{failed} of {} failed at the backend in the last five minutes",
                counted(
                    forwarded as usize,
                    "forwarded request",
                    "forwarded requests"
                )
            );
            self.failing("traffic", &text);
        }
    }

    pub(super) fn configuration(&mut self, of: &ConfigurationStatus) {
        let offset = of.clock_offset_seconds;
        if offset.unsigned_abs() > CLOCK_OFF {
            let text =
                format!("the clock of this gateway is {offset} s from that of most machines");
            self.attention("gateway", &text);
        }
        if let Some(nonces) = of.nonces
            && nonces.saturating_mul(5) > of.nonce_quota.saturating_mul(4)
        {
            let text = format!("{nonces} of {} nonces are remembered", of.nonce_quota);
            self.attention("gateway", &text);
        }
    }

    /// The verdict, and the notices, the worst first.
    pub(super) fn conclude(mut self, is_ready: bool) -> (Verdict, Rows<StatusNotice>) {
        self.0.sort_by_key(|notice| notice.level);
        let verdict = match self.0.first().map(|notice| notice.level) {
            _ if !is_ready => Verdict::NotReady,
            None => Verdict::Well,
            Some(NoticeLevel::Attention) => Verdict::Attention,
            Some(NoticeLevel::Failing) => Verdict::Failing,
        };
        (verdict, Rows::first(self.0, MOST_NOTICES))
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Moment;
    use super::*;

    fn told(of: impl FnOnce(&mut Judge)) -> (Verdict, Vec<String>) {
        let mut judge = Judge::default();
        of(&mut judge);
        let (verdict, notices) = judge.conclude(true);
        (
            verdict,
            notices.rows.into_iter().map(|notice| notice.text).collect(),
        )
    }

    fn server(trouble: Option<&str>) -> ServerReport {
        ServerReport {
            upstream: "secrets".into(),
            server: "vault:8200".into(),
            address: None,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn nothing_wrong_is_well() {
        assert_eq!(told(|_| {}).0, Verdict::Well);
        let (well, out) = (server(None), server(None));
        assert_eq!(
            told(|judge| judge.upstream("secrets", &[&well, &out])).0,
            Verdict::Well
        );
    }

    #[test]
    fn one_server_out_of_two_wants_attention_and_all_of_them_fail() {
        let (well, out) = (server(None), server(Some("it takes no connections")));
        let (verdict, texts) = told(|judge| judge.upstream("secrets", &[&well, &out]));
        assert_eq!(verdict, Verdict::Attention);
        assert_eq!(
            texts,
            ["upstream secrets: vault:8200: it takes no connections"]
        );
        let (verdict, texts) = told(|judge| judge.upstream("secrets", &[&out, &out]));
        assert_eq!(verdict, Verdict::Failing);
        assert_eq!(texts, ["upstream secrets: no server is in service"]);
    }

    #[test]
    fn the_worst_comes_first_and_not_ready_is_above_all() {
        let mut judge = Judge::default();
        judge.attention("files", "a");
        judge.failing("secrets", "b");
        let (verdict, notices) = judge.conclude(false);
        assert_eq!((verdict, &*notices.rows[0].text), (Verdict::NotReady, "b"));
    }

    #[test]
    fn there_are_twenty_notices_and_a_number() {
        let mut judge = Judge::default();
        (0..50).for_each(|n| judge.attention("files", &n.to_string()));
        let (_, notices) = judge.conclude(true);
        assert_eq!((notices.rows.len(), notices.more()), (20, 30));
    }

    #[test]
    fn a_certificate_is_told_of_a_week_before_its_end_and_fails_after_it() {
        let certificate = |days_left| CertificateStatus {
            file: "cert.pem".into(),
            usage: "listener",
            owner: "a:1".into(),
            not_after: Moment(1_800_000_000),
            days_left,
        };
        for (days_left, verdict) in [
            (7, Verdict::Well),
            (6, Verdict::Attention),
            (0, Verdict::Attention),
            (-1, Verdict::Failing),
        ] {
            let told = told(|judge| judge.certificate(&certificate(days_left)));
            assert_eq!(told.0, verdict, "{days_left}");
        }
    }

    #[test]
    fn a_route_that_closes_is_told_of_only_while_it_is_asked_without_signatures() {
        let route = |unsigned| RouteStatus {
            path: "/v1".into(),
            upstream: Some("secrets".into()),
            mode: "bearer",
            until: Some(Moment(1_000 + CLOSES - 1)),
            unsigned,
        };
        assert_eq!(told(|judge| judge.route(&route(0), 1_000)).0, Verdict::Well);
        assert_eq!(told(|judge| judge.route(&route(1), 999)).0, Verdict::Well);
        let (verdict, texts) = told(|judge| judge.route(&route(1), 1_000));
        assert_eq!(verdict, Verdict::Attention);
        assert!(
            texts[0].starts_with("route /v1 enforces in 2 d 23 h"),
            "{texts:?}"
        );
    }

    #[test]
    fn more_than_one_request_in_twenty_must_fail() {
        let counts = |forwarded, failed| {
            let mut counts = RequestCounts {
                outcomes: [0; Outcome::ALL.len()],
                refusals: [0; Code::ALL.len()],
            };
            counts.outcomes[Outcome::Forwarded as usize] = forwarded;
            counts.outcomes[Outcome::Failed as usize] = failed;
            counts
        };
        assert_eq!(told(|judge| judge.requests(&counts(0, 0))).0, Verdict::Well);
        assert_eq!(
            told(|judge| judge.requests(&counts(95, 5))).0,
            Verdict::Well
        );
        assert_eq!(told(|judge| judge.requests(&counts(3, 4))).0, Verdict::Well);
        assert_eq!(
            told(|judge| judge.requests(&counts(94, 5))).0,
            Verdict::Failing
        );
        let mut overloaded = counts(100, 0);
        overloaded.refusals[Code::Overloaded as usize] = 2;
        let (verdict, texts) = told(|judge| judge.requests(&overloaded));
        assert_eq!(verdict, Verdict::Failing);
        assert_eq!(
            texts,
            ["2 requests of the last five minutes got 503 overloaded"]
        );
        let mut replayed = counts(100, 0);
        replayed.refusals[Code::Replayed as usize] = 1_000;
        assert_eq!(told(|judge| judge.requests(&replayed)).0, Verdict::Well);
    }

    #[test]
    fn a_full_nonce_store_and_a_wrong_clock_want_attention() {
        let of = |nonces, offset| ConfigurationStatus {
            file: "c.yaml".into(),
            state_dir: None,
            nonces: Some(nonces),
            nonce_quota: 1000,
            clock_offset_seconds: offset,
        };
        for (nonces, offset, verdict) in [
            (800, 30, Verdict::Well),
            (801, 0, Verdict::Attention),
            (0, -31, Verdict::Attention),
        ] {
            let told = told(|judge| judge.configuration(&of(nonces, offset)));
            assert_eq!(told.0, verdict);
        }
    }
}
