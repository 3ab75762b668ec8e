//! The lists of the status, each bounded, with what is wrong first.

use std::collections::BTreeMap;

use super::DAY;
use super::data::{CertificateStatus, ReloadStatus, RouteStatus, Rows, SecretStatus, ServerStatus};
use super::judge::Judge;
use super::text::{Moment, shown};
use crate::config::{Gate, Mode, Route};
use crate::gateway::{Plan, SecretKind, SecretReport, ServerReport};
use crate::metrics::{CertificateEnd, Files};
use crate::server::reload::LastReload;

/// Most rows of a list.
pub(super) const MOST_ROWS: usize = 100;

pub(super) fn servers(reports: &[ServerReport], judge: &mut Judge) -> Rows<ServerStatus> {
    let mut upstreams = BTreeMap::<&str, Vec<&ServerReport>>::new();
    for report in reports {
        upstreams.entry(&report.upstream).or_default().push(report);
    }
    for (upstream, reports) in upstreams {
        judge.upstream(upstream, &reports);
    }
    let mut all: Vec<_> = (reports.iter())
        .map(|report| ServerStatus {
            upstream: shown(&report.upstream),
            server: shown(&report.server),
            address: report.address.map(|address| address.to_string()),
            in_service: report.trouble.is_none(),
            trouble: report.trouble.as_deref().map(shown),
        })
        .collect();
    all.sort_by(|a, b| (a.in_service, &a.upstream).cmp(&(b.in_service, &b.upstream)));
    Rows::first(all, MOST_ROWS)
}

pub(super) fn secrets(reports: &[SecretReport], judge: &mut Judge) -> Rows<SecretStatus> {
    let mut all: Vec<_> = (reports.iter())
        .map(|report| {
            judge.secret(report);
            SecretStatus {
                name: shown(&report.name),
                kind: match report.kind {
                    SecretKind::Credential => "credential",
                    SecretKind::Login => "login",
                },
                source: shown(&report.source),
                usable: !report.is_unusable,
                trouble: report.trouble.as_deref().map(shown),
            }
        })
        .collect();
    all.sort_by_key(|secret| (secret.usable, secret.trouble.is_none()));
    Rows::first(all, MOST_ROWS)
}

pub(super) fn certificates(
    ends: &[CertificateEnd],
    now: u64,
    judge: &mut Judge,
) -> Rows<CertificateStatus> {
    let mut all: Vec<_> = (ends.iter())
        .map(|end| {
            let left = i64::try_from(end.until).unwrap_or(i64::MAX);
            let left = left.saturating_sub_unsigned(now);
            let certificate = CertificateStatus {
                file: shown(&end.file.display().to_string()),
                usage: end.usage.as_str(),
                owner: shown(&end.owner),
                not_after: Moment(end.until),
                days_left: left.div_euclid(DAY as i64),
            };
            judge.certificate(&certificate);
            certificate
        })
        .collect();
    all.sort_by_key(|certificate| certificate.not_after);
    Rows::first(all, MOST_ROWS)
}

pub(super) fn routes(plan: &Plan, now: u64, judge: &mut Judge) -> Rows<RouteStatus> {
    let row = |route: &Route| {
        let row = RouteStatus {
            path: shown(&route.path),
            upstream: (route.upstream()).map(|at| shown(&plan.config.upstreams[at].name)),
            mode: match route.mode.at(now) {
                Gate::Signature => "enforce",
                Gate::SignatureOrBearer => "bearer",
                Gate::Observed => "observe",
                Gate::Nothing => "open",
            },
            until: (route.mode.open_until())
                .map(|(until, _)| Moment(until))
                .filter(|until| now < until.0),
            unsigned: match route.mode {
                Mode::ENFORCE => 0,
                _ => plan.unsigned(&route.path),
            },
        };
        judge.route(&row, now);
        row
    };
    let mut all: Vec<_> = plan.config.routes.iter().map(row).collect();
    // Those that let unsigned requests pass are what one looks for.
    all.sort_by_key(|route| (route.mode == "enforce", route.until.is_none()));
    Rows::first(all, MOST_ROWS)
}

pub(super) fn reloads(last: &[LastReload], judge: &mut Judge) -> Vec<ReloadStatus> {
    let row = |reload: &LastReload| {
        let files = match reload.files {
            Files::Registry => "registry",
            Files::Operators => "operators",
            Files::Configuration => "configuration",
            Files::Credentials => "credentials",
            Files::Tls => "certificates",
        };
        if !reload.is_good {
            let consequence = match reload.files {
                // Its requests are refused; a start goes on without it.
                Files::Credentials => "what was written is not in force",
                _ => "what was written is not in force, and the next start would fail",
            };
            judge.attention("files", &format!("{files}: {consequence}"));
        }
        let lines: Vec<_> = reload.lines.iter().map(|line| shown(line)).collect();
        ReloadStatus {
            files,
            at: Moment(reload.at),
            trigger: reload.trigger,
            in_force: reload.is_good,
            lines: Rows {
                total: lines.len() + reload.more,
                rows: lines,
            },
        }
    };
    last.iter().map(row).collect()
}
