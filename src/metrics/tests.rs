#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use super::buckets::{SKEW_BUCKETS, UPSTREAM_BUCKETS};
use super::*;

/// The published names and types: dashboards and alerts depend on them.
const CONTRACT: [(&str, &str); 37] = [
    ("countersign_audit_records_total", "counter"),
    ("countersign_body_buffer_bytes", "gauge"),
    ("countersign_build_info", "gauge"),
    ("countersign_certificate_expiry_timestamp_seconds", "gauge"),
    (
        "countersign_certificate_not_after_timestamp_seconds",
        "gauge",
    ),
    ("countersign_clock_offset_seconds", "gauge"),
    ("countersign_clock_skew_seconds", "histogram"),
    ("countersign_clock_steps_total", "counter"),
    ("countersign_config_reloads_total", "counter"),
    ("countersign_connections", "gauge"),
    ("countersign_credential_checks_total", "counter"),
    ("countersign_credential_usable", "gauge"),
    ("countersign_enrolments_total", "counter"),
    ("countersign_headers_dropped_total", "counter"),
    ("countersign_machine_last_used_timestamp_seconds", "gauge"),
    ("countersign_machine_skew_seconds", "gauge"),
    ("countersign_machines_expiring", "gauge"),
    ("countersign_nonces", "gauge"),
    ("countersign_observed_total", "counter"),
    ("countersign_queries_stripped_total", "counter"),
    ("countersign_refusals_total", "counter"),
    (
        "countersign_registry_last_reload_timestamp_seconds",
        "gauge",
    ),
    ("countersign_registry_machines", "gauge"),
    ("countersign_registry_reloads_total", "counter"),
    ("countersign_registry_revision", "gauge"),
    ("countersign_registry_stale_seconds", "gauge"),
    ("countersign_reload_running_seconds", "gauge"),
    ("countersign_reloads_slow_total", "counter"),
    ("countersign_replay_store_errors_total", "counter"),
    ("countersign_replay_store_seconds", "histogram"),
    ("countersign_requests_total", "counter"),
    ("countersign_route_open_until_timestamp_seconds", "gauge"),
    ("countersign_source_bans_total", "counter"),
    ("countersign_spoofed_identity_total", "counter"),
    ("countersign_tls_reloads_total", "counter"),
    ("countersign_upstream_seconds", "histogram"),
    ("countersign_verify_seconds", "histogram"),
];

fn metrics() -> Metrics {
    let metrics = Metrics::new("1.2.3", "serial").unwrap();
    for route in ["/", "/v1"] {
        metrics.route(route);
    }
    for upstream in ["secrets", "spare"] {
        metrics.upstream(upstream);
    }
    metrics.credential("upstream:secrets");
    metrics.certificate_expiry(CertificateUse::Listener, "0.0.0.0:8443", 0);
    metrics
}

fn certificate(file: &str, until: u64) -> CertificateEnd {
    CertificateEnd {
        usage: CertificateUse::Listener,
        owner: "0.0.0.0:8443".into(),
        file: file.into(),
        until,
    }
}

fn machine() -> MachineId {
    MachineId::parse("web-1").unwrap()
}

/// A page of metrics that kept every rule of the text format.
struct Page {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    fn of(metrics: &Metrics) -> Page {
        Page::parse(&metrics.render()).unwrap()
    }

    fn value(&self, series: &str) -> f64 {
        *self
            .samples
            .get(&format!("countersign_{series}"))
            .unwrap_or_else(|| unreachable!("no series {series}"))
    }

    /// Strict: HELP, then TYPE, once a family; then only its samples, no series twice.
    fn parse(text: &str) -> Result<Page, String> {
        if !text.ends_with('\n') {
            return Err("the last line is not ended".into());
        }
        let mut types = BTreeMap::new();
        let mut samples = BTreeMap::new();
        let mut helped = None::<String>;
        let mut family = None::<(String, String)>;
        for line in text.lines() {
            let fail = |why: &str| Err(format!("{why}: {line}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else {
                    return fail("no help text");
                };
                if help.trim().is_empty() || types.contains_key(name) {
                    return fail("empty or repeated HELP");
                }
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else {
                    return fail("no type");
                };
                if helped.take().as_deref() != Some(name) {
                    return fail("TYPE without its HELP");
                }
                types.insert(name.to_owned(), kind.to_owned());
                family = Some((name.to_owned(), kind.to_owned()));
            } else {
                let Some((series, value)) = line.rsplit_once(' ') else {
                    return fail("no value");
                };
                let Some((family, kind)) = &family else {
                    return fail("a sample before any family");
                };
                let name = series.split('{').next().unwrap_or_default();
                let suffix = name.strip_prefix(family.as_str());
                let belongs = match kind.as_str() {
                    "histogram" => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                    "counter" | "gauge" => suffix == Some(""),
                    _ => false,
                };
                if !belongs {
                    return fail("a sample outside its family");
                }
                let Ok(value) = value.parse() else {
                    return fail("not a number");
                };
                if samples.insert(series.to_owned(), value).is_some() {
                    return fail("a series twice");
                }
            }
        }
        Ok(Page { types, samples })
    }
}

#[test]
fn the_page_keeps_the_rules_of_the_format() {
    Page::parse(&metrics().render()).unwrap();
}

#[test]
fn the_checker_refuses_what_breaks_the_rules() {
    let good = "# HELP a b\n# TYPE a counter\na 1\n";
    Page::parse(good).unwrap();
    for bad in [
        "a 1\n",
        "# TYPE a counter\na 1\n",
        "# HELP a \n# TYPE a counter\na 1\n",
        "# HELP a b\n# TYPE a counter\nb 1\n",
        "# HELP a b\n# TYPE a counter\na 1\na 1\n",
        "# HELP a b\n# TYPE a counter\na x\n",
        "# HELP a b\n# TYPE a counter\na 1\n# HELP a b\n# TYPE a counter\n",
        "# HELP a b\n# TYPE a counter\na 1",
    ] {
        assert!(Page::parse(bad).is_err(), "{bad:?} passed");
    }
}

#[test]
fn the_names_and_types_are_those_of_the_contract() {
    let metrics = metrics();
    // The series of machines come with their first accepted requests.
    metrics.observe_fresh_skew(&machine(), 1_800_000_000, 60);
    // And those of open routes with the configuration that opens them.
    metrics.open_until([("/v1", "observe", 1_800_000_000)].into_iter());
    // And those of certificates with a listener that has one.
    let scraped = Scraped {
        certificates: vec![certificate("cert.pem", 1_800_000_000)],
        ..Scraped::default()
    };
    let page = Page::parse(&metrics.scrape(&scraped, Exposition::Text)).unwrap();
    let types: Vec<_> = page.types.iter().map(|(n, t)| (&n[..], &t[..])).collect();
    assert_eq!(types, CONTRACT);
}

#[test]
fn every_series_exists_at_zero_before_anything_happened() {
    for (series, value) in Page::of(&metrics()).samples {
        let expected = f64::from(series.starts_with("countersign_build_info"));
        assert!(value == expected, "{series} is {value}");
    }
}

#[test]
fn every_combination_of_route_outcome_and_auth_is_there() {
    let page = Page::of(&metrics());
    let requests = page.samples.keys().filter(|s| s.contains("requests_total"));
    assert_eq!(requests.count(), 3 * 5 * 3);
}

#[test]
fn every_refusal_code_has_its_series() {
    let metrics = metrics();
    for code in Code::ALL {
        metrics.refused(code);
        let series = format!("refusals_total{{code=\"{}\"}}", code.as_str());
        assert_eq!(Page::of(&metrics).value(&series), 1.0, "{series}");
    }
}

#[test]
fn label_words_are_distinct() {
    let words = |all: Vec<&str>| all.len() == BTreeSet::from_iter(all).len();
    assert!(words(Outcome::ALL.map(Outcome::as_str).to_vec()));
    assert!(words(
        CredentialCheck::ALL.map(CredentialCheck::as_str).to_vec()
    ));
    assert!(words(Auth::ALL.map(Auth::as_str).to_vec()));
    assert!(words(AuditResult::ALL.map(AuditResult::as_str).to_vec()));
}

#[test]
fn each_label_enum_lists_its_values_in_index_order() {
    assert!((0..).zip(Outcome::ALL).all(|(i, o)| o as usize == i));
    assert!(
        (0..)
            .zip(CredentialCheck::ALL)
            .all(|(i, c)| c as usize == i)
    );
    assert!((0..).zip(Auth::ALL).all(|(i, a)| a as usize == i));
    assert!((0..).zip(AuditResult::ALL).all(|(i, r)| r as usize == i));
    assert!((0..).zip(Code::ALL).all(|(i, c)| c as usize == i));
}

#[test]
fn a_request_counts_under_its_route() {
    let metrics = metrics();
    let route = metrics.route("/v1");
    route.request(Outcome::Forwarded, Auth::Signature);
    let page = Page::of(&metrics);
    let counted = page.samples.values().sum::<f64>();
    let series = r#"requests_total{auth="signature",outcome="forwarded",route="/v1"}"#;
    assert_eq!(page.value(series), 1.0);
    assert_eq!(counted, 2.0, "nothing else moved but build_info");
}

#[test]
fn a_request_without_a_route_counts_under_none() {
    let metrics = metrics();
    metrics.no_route().request(Outcome::Refused, Auth::None);
    let series = r#"requests_total{auth="none",outcome="refused",route="none"}"#;
    assert_eq!(Page::of(&metrics).value(series), 1.0);
}

#[test]
fn a_route_that_comes_with_a_reload_has_its_series_and_one_that_goes_keeps_its_count() {
    let metrics = metrics();
    let (old, new) = (metrics.route("/v1"), metrics.route("/v2"));
    old.request(Outcome::Forwarded, Auth::Signature);
    new.request(Outcome::Forwarded, Auth::Signature);
    metrics
        .route("/v1")
        .request(Outcome::Forwarded, Auth::Signature);
    let page = Page::of(&metrics);
    let count = |route| {
        let labels = r#"{auth="signature",outcome="forwarded",route="#;
        page.value(&format!("requests_total{labels}\"{route}\"}}"))
    };
    assert_eq!((count("/v1"), count("/v2")), (2.0, 1.0));
}

#[test]
fn route_names_are_escaped() {
    let metrics = Metrics::new("1", "serial").unwrap();
    let route = metrics.route("/a\"b\\c\n");
    route.request(Outcome::Failed, Auth::None);
    let series = r#"requests_total{auth="none",outcome="failed",route="/a\"b\\c\n"}"#;
    assert_eq!(Page::of(&metrics).value(series), 1.0);
}

#[test]
fn a_verification_of_25_microseconds_is_told_from_one_of_35() {
    let metrics = metrics();
    metrics.observe_verify(Duration::from_micros(25));
    metrics.observe_verify(Duration::from_micros(35));
    let page = Page::of(&metrics);
    assert_eq!(page.value(r#"verify_seconds_bucket{le="0.00003"}"#), 1.0);
    assert_eq!(page.value(r#"verify_seconds_bucket{le="0.00004"}"#), 2.0);
}

#[test]
fn upstream_time_counts_under_its_upstream() {
    let metrics = metrics();
    let spare = metrics.upstream("spare");
    spare.observe(Duration::from_millis(20));
    let page = Page::of(&metrics);
    let count = |name: &str| page.value(&format!("upstream_seconds_count{{upstream=\"{name}\"}}"));
    assert_eq!((count("secrets"), count("spare")), (0.0, 1.0));
}

#[test]
fn a_credential_shows_whether_it_is_usable_and_what_look_ups_came_to() {
    let metrics = metrics();
    let credential = metrics.credential("upstream:secrets");
    credential.usable(true);
    credential.checks().checked(CredentialCheck::Refused);
    let page = Page::of(&metrics);
    let name = r#"credential="upstream:secrets""#;
    assert_eq!(page.value(&format!("credential_usable{{{name}}}")), 1.0);
    let checks = |result| {
        page.value(&format!(
            "credential_checks_total{{{name},result=\"{result}\"}}"
        ))
    };
    assert_eq!((checks("accepted"), checks("refused")), (0.0, 1.0));
}

#[test]
fn a_machine_ahead_of_the_gateway_shows_as_negative_skew() {
    let metrics = metrics();
    metrics.observe_skew(-4);
    metrics.observe_skew(0);
    let page = Page::of(&metrics);
    assert_eq!(page.value(r#"clock_skew_seconds_bucket{le="-5"}"#), 0.0);
    assert_eq!(page.value(r#"clock_skew_seconds_bucket{le="-2"}"#), 1.0);
    assert_eq!(page.value(r#"clock_skew_seconds_bucket{le="0"}"#), 2.0);
}

#[test]
fn buckets_rise() {
    assert!(VERIFY_BUCKETS.is_sorted_by(|a, b| a < b));
    assert!(UPSTREAM_BUCKETS.is_sorted_by(|a, b| a < b));
    assert!(SKEW_BUCKETS.is_sorted_by(|a, b| a < b));
}

#[test]
fn gauges_follow_what_they_measure() {
    let metrics = metrics();
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    metrics.body_buffered(1000);
    metrics.body_released(400);
    metrics.nonces(7);
    let page = Page::of(&metrics);
    assert_eq!(page.value("connections"), 1.0);
    assert_eq!(page.value("body_buffer_bytes"), 600.0);
    assert_eq!(page.value("nonces"), 7.0);
}

#[test]
fn a_loaded_registry_sets_its_size_and_time() {
    let metrics = metrics();
    metrics.registry_loaded(3, 1_750_000_000);
    let page = Page::of(&metrics);
    assert_eq!(page.value("registry_machines"), 3.0);
    let time = page.value("registry_last_reload_timestamp_seconds");
    assert_eq!(time, 1_750_000_000.0);
    assert_eq!(
        page.value(r#"registry_reloads_total{result="loaded"}"#),
        1.0
    );
}

#[test]
fn a_rejected_registry_leaves_size_and_time_alone() {
    let metrics = metrics();
    metrics.registry_loaded(3, 1_750_000_000);
    metrics.registry_not_loaded(Reload::Rejected);
    let page = Page::of(&metrics);
    assert_eq!(page.value("registry_machines"), 3.0);
    assert_eq!(
        page.value(r#"registry_reloads_total{result="rejected"}"#),
        1.0
    );
}

#[test]
fn a_slow_reload_counts_under_its_file() {
    let metrics = metrics();
    metrics.reload_slow(Files::Registry);
    let page = Page::of(&metrics);
    assert_eq!(page.value(r#"reloads_slow_total{file="registry"}"#), 1.0);
    assert_eq!(page.value(r#"reloads_slow_total{file="tls"}"#), 0.0);
}

#[test]
fn spoofs_queries_and_audit_results_are_counted() {
    let metrics = metrics();
    metrics.spoofed_identity();
    metrics.query_stripped();
    metrics.audit_record(AuditResult::ResponseLost);
    let page = Page::of(&metrics);
    assert_eq!(page.value("spoofed_identity_total"), 1.0);
    assert_eq!(page.value("queries_stripped_total"), 1.0);
    let lost = r#"audit_records_total{result="response_lost"}"#;
    assert_eq!(page.value(lost), 1.0);
}

#[test]
fn headers_that_do_not_cross_are_counted_by_name_and_all_others_as_one() {
    let metrics = metrics();
    for name in ["cookie", "X_Vault_Token", "x-anything", "x-else"] {
        metrics.header_dropped(LostHeader::of(name), 1);
    }
    let page = Page::of(&metrics);
    for (name, count) in [
        ("cookie", 1.0),
        ("x-vault-token", 1.0),
        ("other", 2.0),
        ("range", 0.0),
    ] {
        let series = format!(r#"headers_dropped_total{{name="{name}"}}"#);
        assert_eq!(page.value(&series), count, "{name}");
    }
}

#[test]
fn build_info_names_version_and_backend() {
    let series = r#"build_info{curve25519_backend="serial",version="1.2.3"}"#;
    assert_eq!(Page::of(&metrics()).value(series), 1.0);
}

#[test]
fn two_gateways_in_one_process_count_apart() {
    let (one, other) = (metrics(), metrics());
    one.query_stripped();
    assert_eq!(Page::of(&other).value("queries_stripped_total"), 0.0);
}

#[test]
fn a_gauge_beyond_its_range_saturates() {
    assert_eq!(gauge_value(u64::MAX), i64::MAX);
}

#[test]
fn the_clock_offset_is_the_median_of_fresh_skews_and_no_others() {
    let metrics = metrics();
    assert_eq!(Page::of(&metrics).value("clock_offset_seconds"), 0.0);
    for skew in [2, 3, 250] {
        metrics.observe_fresh_skew(&machine(), 1_800_000_000, skew);
    }
    metrics.observe_skew(-100);
    assert_eq!(Page::of(&metrics).value("clock_offset_seconds"), 3.0);
}

#[test]
fn steps_of_the_clock_are_counted() {
    let metrics = metrics();
    metrics.clock_stepped();
    assert_eq!(Page::of(&metrics).value("clock_steps_total"), 1.0);
}

#[test]
fn every_code_has_a_series_of_requests_that_passed_all_the_same() {
    let metrics = metrics();
    for code in Code::ALL {
        metrics.observed(code);
        let page = Page::of(&metrics);
        let series = |family: &str| format!("{family}{{code=\"{}\"}}", code.as_str());
        assert_eq!(page.value(&series("observed_total")), 1.0);
        assert_eq!(page.value(&series("refusals_total")), 0.0);
    }
}

#[test]
fn a_route_that_is_open_until_a_date_shows_it_and_one_that_is_no_more_does_not() {
    let metrics = metrics();
    let series = r#"route_open_until_timestamp_seconds{mode="bearer",route="/v1"}"#;
    metrics.open_until([("/", "observe", 1), ("/v1", "bearer", 1_800_000_000)].into_iter());
    assert_eq!(Page::of(&metrics).value(series), 1_800_000_000.0);
    metrics.open_until(std::iter::empty());
    let shown = metrics
        .render()
        .contains("route_open_until_timestamp_seconds{");
    assert!(!shown, "the route enforces now");
}

#[test]
fn what_passed_without_a_signature_is_counted_apart() {
    let route = metrics().route("/v1");
    for (outcome, auth) in [
        (Outcome::Forwarded, Auth::Bearer),
        (Outcome::Failed, Auth::Bearer),
        (Outcome::Observed, Auth::None),
        (Outcome::Observed, Auth::Bearer),
    ] {
        route.request(outcome, auth);
    }
    assert_eq!(route.unsigned(), 4);
    route.request(Outcome::Forwarded, Auth::Signature);
    route.request(Outcome::Refused, Auth::None);
    assert_eq!(route.unsigned(), 4);
}

#[test]
fn a_scrape_shows_the_certificates_in_force_and_no_others() {
    let metrics = metrics();
    let scraped = |certificates| Scraped {
        certificates,
        expiring_in_a_day: 2,
        expiring_in_a_week: 5,
        reload_running: Duration::from_millis(1500),
    };
    let page = |scraped: &Scraped| {
        let text = metrics.scrape(scraped, Exposition::Text);
        Page::parse(&text).unwrap()
    };
    // A file that two listeners read, one of them before it was renewed.
    let first = page(&scraped(vec![
        certificate("a.pem", 900),
        certificate("b.pem", 800),
        certificate("a.pem", 700),
    ]));
    let series = |file| format!("certificate_not_after_timestamp_seconds{{file=\"{file}\"}}");
    assert_eq!(first.value(&series("a.pem")), 700.0);
    assert_eq!(first.value(r#"machines_expiring{within="24h"}"#), 2.0);
    assert_eq!(first.value(r#"machines_expiring{within="7d"}"#), 5.0);
    assert_eq!(first.value("reload_running_seconds"), 1.5);
    let second = page(&scraped(vec![certificate("a.pem", 900)]));
    assert_eq!(second.value(&series("a.pem")), 900.0);
    let gone = format!("countersign_{}", series("b.pem"));
    assert!(!second.samples.contains_key(&gone));
}
