#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::audit::reader::MAX_LINE;
use countersign_core::identity::MachineId;
use countersign_core::refusal::Code;

const START: u64 = 1_800_000_000; // 2027-01-15T08:00:00Z

/// A decision of second `at` after the start, on `/v1`.
fn record(at: u64, id: &str, decision: &str, auth: &str, more: Value) -> String {
    let mut record = json!({
        "ts": crate::config::instant::to_text(START + at),
        "request_id": id,
        "decision": decision,
        "auth": auth,
        "client_ip": "192.0.2.7",
        "method": "GET",
        "path": "/v1/secret/data/app",
        "route": "/v1",
    });
    for (name, value) in more.as_object().unwrap() {
        record[name] = value.clone();
    }
    record.to_string()
}

fn signed(at: u64, machine: &str) -> String {
    record(
        at,
        "s",
        "accepted",
        "signature",
        json!({"machine": {"id": machine}}),
    )
}

fn token(n: u32) -> String {
    format!("{n:032x}")
}

fn bearer(at: u64, id: &str, n: u32) -> String {
    record(
        at,
        id,
        "accepted",
        "bearer",
        json!({"token_hash": token(n)}),
    )
}

fn observed(at: u64, id: &str, code: &str) -> String {
    record(at, id, "observed", "none", json!({"code": code}))
}

fn answer(id: &str, status: u16) -> String {
    json!({"ts": "2027-01-15T08:00:00.000Z", "request_id": id, "decision": "response", "status": status, "bytes": 0}).to_string()
}

fn tally(tally: &mut Tally, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    tally.read("audit.jsonl", &mut text.as_bytes()).unwrap();
}

fn report(lines: &[String]) -> MigrationReport {
    report_since(None, lines)
}

fn report_since(since: Option<u64>, lines: &[String]) -> MigrationReport {
    let mut its = Tally::new(since, 3);
    tally(&mut its, lines);
    its.finish()
}

/// The one route.
fn route(report: &MigrationReport) -> &RouteUse {
    assert_eq!(report.routes.len(), 1);
    &report.routes[0].1
}

#[test]
fn nothing_comes_to_nothing() {
    let report = report(&[]);
    assert_eq!(
        (report.lines, report.unread, report.seen),
        (0, 0, Occurrences::default())
    );
    assert!(report.routes.is_empty() && report.tokens.rows.is_empty());
}

#[test]
fn a_signed_request_counts_for_its_route_and_its_machine() {
    let report = report(&[signed(1, "web-1"), signed(5, "web-1"), signed(3, "web-2")]);
    assert_eq!(report.routes[0].0, "/v1");
    let seen = route(&report).signed;
    assert_eq!(
        (seen.requests, seen.span),
        (3, Some((START + 1, START + 5)))
    );
    let machines: Vec<_> = (report.machines.rows.iter())
        .map(|machine| (&*machine.id, machine.signed.requests, machine.registered))
        .collect();
    assert_eq!(machines, [("web-1", 2, None), ("web-2", 1, None)]);
}

#[test]
fn a_bearer_request_counts_for_its_route_token_address_and_path() {
    let report = report(&[bearer(1, "r1", 7), bearer(2, "r2", 7)]);
    assert_eq!(route(&report).bearer.seen.requests, 2);
    let used = &report.tokens.rows[0];
    assert_eq!((&used.hash, used.usage.seen.requests), (&token(7), 2));
    assert_eq!(
        used.addresses.values,
        ["192.0.2.7".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(used.paths.values, ["/v1/secret/data/*"]);
    assert_eq!(used.routes.values, ["/v1"]);
    assert_eq!(report.addresses.rows[0].tokens.values, [token(7)]);
    assert_eq!(report.paths.rows[0].prefix, "/v1/secret/data/*");
}

#[test]
fn the_first_and_last_of_each_token_are_known() {
    let report = report(&[bearer(9, "r1", 1), bearer(4, "r2", 1), bearer(6, "r3", 2)]);
    let spans: Vec<_> = report
        .tokens
        .rows
        .iter()
        .map(|used| used.usage.seen.span)
        .collect();
    assert_eq!(
        spans,
        [Some((START + 4, START + 9)), Some((START + 6, START + 6))]
    );
}

#[test]
fn a_token_with_more_requests_stands_before_one_with_fewer() {
    let report = report(&[bearer(1, "a", 1), bearer(2, "b", 2), bearer(3, "c", 2)]);
    let hashes: Vec<_> = report
        .tokens
        .rows
        .iter()
        .map(|used| used.hash.clone())
        .collect();
    assert_eq!(hashes, [token(2), token(1)]);
}

#[test]
fn an_observed_request_counts_with_the_reason_and_whom_it_names() {
    let skewed = record(
        1,
        "r1",
        "observed",
        "bearer",
        json!({"code": "clock_skew", "claimed_machine": "web-1", "token_hash": token(1)}),
    );
    let report = report(&[skewed, observed(2, "r2", "missing_header")]);
    let route = route(&report);
    assert_eq!(route.observed.seen.requests, 2);
    assert_eq!(route.observed_with_token, 1);
    assert_eq!(
        route.observed_codes.list(),
        [(Code::MissingHeader, 1), (Code::ClockSkew, 1)]
    );
    let who: Vec<_> = (report.would_refuse.rows.iter())
        .map(|row| (row.code, row.who.clone()))
        .collect();
    assert_eq!(
        who,
        [
            (
                Code::MissingHeader,
                UnsignedClient::Address("192.0.2.7".parse().unwrap())
            ),
            (Code::ClockSkew, UnsignedClient::Claimed("web-1".into())),
        ]
    );
    assert_eq!(
        report.tokens.rows.len(),
        1,
        "its token is listed among the others"
    );
}

#[test]
fn a_claimed_machine_is_not_one_that_signs() {
    let claims = json!({"code": "bad_signature", "claimed_machine": "web-1"});
    let report = report(&[
        record(1, "r1", "observed", "none", claims.clone()),
        record(1, "r2", "refused", "none", claims),
    ]);
    assert!(report.machines.rows.is_empty());
}

#[test]
fn a_refused_request_counts_by_code_and_passes_for_no_unsigned_one() {
    let refused = record(
        1,
        "r1",
        "refused",
        "none",
        json!({"code": "missing_header"}),
    );
    let report = report(&[refused, signed(2, "web-1")]);
    let route = route(&report);
    assert_eq!(route.refused.requests, 1);
    assert_eq!(route.refused_codes.list(), [(Code::MissingHeader, 1)]);
    assert_eq!(route.verdict(), MigrationStatus::Clear);
    assert!(report.addresses.rows.is_empty());
}

#[test]
fn a_refusal_after_the_signature_counts_for_its_machine() {
    let refused = record(
        1,
        "r1",
        "refused",
        "signature",
        json!({"code": "replayed", "machine": {"id": "web-1"}}),
    );
    let report = report(&[signed(1, "web-1"), refused]);
    assert_eq!(report.machines.rows[0].refused.requests, 1);
}

#[test]
fn a_refused_request_without_a_route_counts_apart() {
    let refused = record(
        1,
        "r1",
        "refused",
        "none",
        json!({"code": "no_route", "route": null}),
    );
    let report = report(&[refused]);
    assert_eq!(report.no_route.requests, 1);
    assert!(report.routes.is_empty());
}

#[test]
fn an_open_request_is_neither_signed_nor_one_to_move() {
    let report = report(&[record(1, "r1", "accepted", "none", json!({}))]);
    assert_eq!(route(&report).open.requests, 1);
    assert_eq!(route(&report).verdict(), MigrationStatus::Open);
    assert!(report.addresses.rows.is_empty());
}

#[test]
fn an_answer_tells_whether_the_backend_takes_the_token() {
    let report = report(&[
        bearer(1, "r1", 1),
        bearer(2, "r2", 2),
        answer("r2", 403),
        answer("r1", 204),
    ]);
    let served = |n| {
        let mut rows = report.tokens.rows.iter();
        rows.find(|used| used.hash == token(n)).unwrap().usage
    };
    assert_eq!((served(1).answered, served(1).served), (1, 1));
    assert_eq!((served(2).answered, served(2).served), (1, 0));
    let usage = route(&report).bearer;
    assert_eq!((usage.answered, usage.served), (2, 1));
    assert_eq!(report.addresses.rows[0].usage.served, 1);
    assert_eq!(report.paths.rows[0].usage.served, 1);
}

#[test]
fn tokens_that_the_backend_refuses_do_not_hold_the_route_up() {
    let lines = [signed(1, "web-1"), bearer(2, "r1", 1), answer("r1", 403)];
    assert_eq!(route(&report(&lines)).verdict(), MigrationStatus::Failing);
    let unanswered = &lines[..2];
    assert_eq!(
        route(&report(unanswered)).verdict(),
        MigrationStatus::NotYet
    );
}

#[test]
fn a_client_that_was_gone_before_the_answer_was_not_served() {
    let gone =
        r#"{"ts":"2027-01-15T08:00:00.000Z","request_id":"r1","decision":"response","bytes":0}"#;
    let report = report(&[bearer(1, "r1", 1), gone.to_owned()]);
    let usage = route(&report).bearer;
    assert_eq!((usage.answered, usage.served), (1, 0));
}

#[test]
fn a_second_answer_and_one_to_nothing_count_nowhere() {
    let report = report(&[
        bearer(1, "r1", 1),
        answer("r1", 403),
        answer("r1", 200),
        answer("r9", 200),
    ]);
    let usage = route(&report).bearer;
    assert_eq!((usage.answered, usage.served), (1, 0));
}

#[test]
fn an_answer_to_an_observed_request_counts_for_the_observed_ones() {
    let report = report(&[
        observed(1, "r1", "missing_header"),
        bearer(2, "r2", 1),
        answer("r1", 200),
    ]);
    assert_eq!(route(&report).observed.served, 1);
    assert_eq!(route(&report).bearer.served, 0);
}

#[test]
fn what_came_before_the_period_counts_nowhere_but_as_earlier() {
    let lines = [bearer(9, "r1", 1), answer("r1", 200), signed(10, "web-1")];
    let report = report_since(Some(START + 10), &lines);
    assert_eq!((report.earlier, report.seen.requests), (1, 1));
    assert!(report.tokens.rows.is_empty());
    assert_eq!(route(&report).verdict(), MigrationStatus::Clear);
}

#[test]
fn the_first_second_of_the_period_belongs_to_it() {
    let report = report_since(Some(START + 9), &[bearer(9, "r1", 1)]);
    assert_eq!((report.earlier, report.seen.requests), (0, 1));
}

#[test]
fn the_span_is_right_in_whatever_order_files_come() {
    let (early, late) = ([bearer(1, "r1", 1)], [bearer(9, "r2", 1)]);
    let mut its = Tally::new(None, 3);
    tally(&mut its, &late);
    tally(&mut its, &early);
    let report = its.finish();
    assert_eq!(report.seen.span, Some((START + 1, START + 9)));
}

#[test]
fn a_line_that_cannot_be_read_is_counted_and_the_first_one_is_named() {
    let report = report(&[
        signed(1, "a"),
        "nonsense".into(),
        String::new(),
        "{}".into(),
        signed(2, "a"),
    ]);
    assert_eq!((report.lines, report.unread), (4, 2));
    assert_eq!(report.first_unread, Some(("audit.jsonl".into(), 2)));
    assert_eq!(report.seen.requests, 2);
}

#[test]
fn a_last_line_that_is_being_written_counts_once_it_is_whole() {
    let read = |text: &str| {
        let mut tally = Tally::new(None, 3);
        tally.read("a", &mut text.as_bytes()).unwrap();
        tally.finish()
    };
    let line = signed(1, "web-1");
    assert_eq!((read(&line).seen.requests, read(&line).unread), (1, 0));
    let half = read(&line[..line.len() - 1]);
    assert_eq!((half.seen.requests, half.unread), (0, 1));
}

#[test]
fn an_overlong_line_is_one_unread_line_even_if_its_end_looks_like_a_record() {
    let most = usize::try_from(MAX_LINE).unwrap();
    for padding in [most, most + 1, 2 * most, 2 * most + 7] {
        let text = format!(
            "{}{}\n{}\n",
            "x".repeat(padding),
            signed(1, "evil"),
            signed(2, "web-1")
        );
        let mut tally = Tally::new(None, 3);
        tally.read("a", &mut text.as_bytes()).unwrap();
        let report = tally.finish();
        assert_eq!((report.lines, report.unread), (2, 1), "{padding}");
        assert_eq!(report.first_unread, Some(("a".into(), 1)));
        assert_eq!(report.machines.rows.len(), 1);
        assert_eq!(report.machines.rows[0].id, "web-1");
    }
}

#[test]
fn refusals_that_were_left_out_before_the_beginning_do_not_count() {
    let summary = |at, count: u64| {
        let ts = crate::config::instant::to_text(START + at);
        json!({"decision": "summary", "ts": ts, "left_out": {"bad_signature": count}}).to_string()
    };
    let report = report_since(Some(START + 10), &[summary(9, 40), summary(10, 2)]);
    assert_eq!(report.refusals_left_out, 2);
}

#[test]
fn what_the_log_says_of_itself_is_read_and_counts_as_no_request() {
    let lines = [
        json!({"decision": "registry", "ts": "x", "machines": 1}),
        json!({"decision": "log", "event": "begin"}),
        json!({"decision": "checkpoint", "head": "1:ab"}),
        json!({"decision": "summary", "left_out": {"bad_signature": 40, "no_route": 2}}),
    ]
    .map(|line| line.to_string());
    let report = report(&lines);
    assert_eq!((report.unread, report.seen.requests), (0, 0));
    assert_eq!(report.refusals_left_out, 42);
}

#[test]
fn of_more_tokens_than_are_kept_the_rest_is_counted_and_the_route_is_exact() {
    let count = 50_003;
    let mut its = Tally::new(None, 3);
    for n in 0..count {
        tally(&mut its, &[bearer(1, "r", n)]);
    }
    let report = its.finish();
    assert_eq!(report.tokens.rows.len(), 50_000);
    assert_eq!(report.tokens.left_out, 3);
    assert_eq!(route(&report).bearer.seen.requests, u64::from(count));
}

#[test]
fn of_more_addresses_and_paths_than_are_kept_the_rest_is_counted() {
    let mut its = Tally::new(None, 3);
    for n in 0..50_001u32 {
        let more = json!({
            "code": "missing_header",
            "client_ip": std::net::Ipv4Addr::from(n).to_string(),
            "path": format!("/{n}"),
        });
        tally(&mut its, &[record(1, "r", "observed", "none", more)]);
    }
    let report = its.finish();
    assert_eq!(
        (report.addresses.rows.len(), report.addresses.left_out),
        (50_000, 1)
    );
    assert_eq!(
        (report.paths.rows.len(), report.paths.left_out),
        (10_000, 40_001)
    );
    let would_refuse = &report.would_refuse;
    assert_eq!(
        (would_refuse.rows.len(), would_refuse.left_out),
        (50_000, 1)
    );
    assert_eq!(route(&report).observed.seen.requests, 50_001);
}

#[test]
fn of_more_routes_than_are_kept_the_rest_is_counted() {
    let mut its = Tally::new(None, 3);
    for n in 0..1_002 {
        let more = json!({"machine": {"id": "web-1"}, "route": format!("/{n}")});
        tally(&mut its, &[record(1, "r", "accepted", "signature", more)]);
    }
    let report = its.finish();
    assert_eq!((report.routes.len(), report.routes_left_out), (1_000, 2));
    assert_eq!(report.seen.requests, 1_002);
}

#[test]
fn long_texts_are_cut() {
    let long = "x".repeat(10_000);
    let more = json!({"code": "bad_signature", "claimed_machine": long, "path": format!("/{long}"), "route": format!("/{long}")});
    let report = report(&[record(1, &long, "observed", "none", more)]);
    assert!(report.routes[0].0.len() < 300);
    assert!(report.paths.rows[0].prefix.len() < 300);
    let UnsignedClient::Claimed(id) = &report.would_refuse.rows[0].who else {
        unreachable!("it claimed an id");
    };
    assert!(id.len() < 140 && id.ends_with('\u{2026}'), "{id}");
}

#[test]
fn machines_of_the_registry_that_did_not_sign_are_named_in_order() {
    let ids = ["web-3", "web-1", "web-2"].map(|id| MachineId::parse(id).unwrap());
    let mut its = Tally::new(None, 3);
    its.expect_machines(&ids);
    tally(&mut its, &[signed(1, "web-2"), signed(1, "stranger")]);
    let report = its.finish();
    assert_eq!(report.never_signed, ["web-1", "web-3"]);
    let registered: Vec<_> = (report.machines.rows.iter())
        .map(|machine| (&*machine.id, machine.registered))
        .collect();
    assert_eq!(
        registered,
        [("web-2", Some(true)), ("stranger", Some(false))]
    );
}

#[test]
fn a_machine_that_signed_before_the_period_alone_has_not_signed_in_it() {
    let mut its = Tally::new(Some(START + 5), 3);
    its.expect_machines(&[MachineId::parse("web-1").unwrap()]);
    tally(&mut its, &[signed(4, "web-1")]);
    assert_eq!(its.finish().never_signed, ["web-1"]);
}

#[test]
fn a_machine_whose_requests_were_all_refused_has_not_signed() {
    let mut its = Tally::new(None, 3);
    its.expect_machines(&[MachineId::parse("web-1").unwrap()]);
    let more = json!({"code": "machine_expired", "machine": {"id": "web-1"}});
    tally(&mut its, &[record(1, "r", "refused", "signature", more)]);
    assert_eq!(its.finish().never_signed, ["web-1"]);
}

#[test]
fn made_up_machines_do_not_crowd_out_those_of_the_registry() {
    let mut its = Tally::new(None, 3);
    its.expect_machines(&[MachineId::parse("web-1").unwrap()]);
    for n in 0..50_002 {
        tally(&mut its, &[signed(1, &format!("m{n}"))]);
    }
    tally(&mut its, &[signed(2, "web-1")]);
    let report = its.finish();
    assert!(report.never_signed.is_empty());
    assert_eq!(
        (report.machines.rows.len(), report.machines.left_out),
        (50_001, 2)
    );
}

#[test]
fn a_route_that_is_expected_is_listed_though_nobody_asked() {
    let mut its = Tally::new(None, 3);
    its.expect_route("/v2");
    tally(&mut its, &[signed(1, "web-1")]);
    let report = its.finish();
    let verdicts: Vec<_> = (report.routes.iter())
        .map(|(path, route)| (&**path, route.verdict()))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("/v1", MigrationStatus::Clear),
            ("/v2", MigrationStatus::Silent)
        ]
    );
}

#[test]
fn paths_are_told_apart_by_their_first_segments() {
    for (segments, path, expected) in [
        (3, "/v1/secret/data/app/db", "/v1/secret/data/*"),
        (3, "/v1/secret/data", "/v1/secret/data"),
        (3, "/v1/secret/data/", "/v1/secret/data/*"),
        (1, "/v1/secret", "/v1/*"),
        (1, "/", "/"),
        (1, "", ""),
    ] {
        let mut its = Tally::new(None, segments);
        let more = json!({"token_hash": token(1), "path": path});
        tally(&mut its, &[record(1, "r", "accepted", "bearer", more)]);
        assert_eq!(its.finish().paths.rows[0].prefix, expected, "{path}");
    }
}
