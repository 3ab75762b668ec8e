//! Modes, and the dates at which they end. It is 2027-01-15, 08:00 UTC.

use super::*;

#[track_caller]
fn mode_and_warning(more: &str) -> (Mode, String) {
    let loaded = read_text(&with_route(more)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let warnings: Vec<String> = (loaded.warnings.iter())
        .map(|warning| format!("{}: {}", warning.key, warning.text))
        .collect();
    (loaded.config.routes[0].mode, warnings.join("\n"))
}

fn observe(until: u64) -> Mode {
    Mode::Observe { until }
}

#[test]
fn observing_needs_an_end() {
    let text = only(&with_route("mode: observe"));
    assert!(
        text.contains("routes[0].observe_until: is missing"),
        "{text}"
    );
}

#[test]
fn observing_ends_in_the_first_second_of_a_date_or_at_an_instant() {
    let (mode, warning) = mode_and_warning("mode: observe, observe_until: 2027-02-01");
    assert_eq!((mode, &*warning), (observe(1_801_440_000), ""));
    let (mode, _) = mode_and_warning("mode: observe, observe_until: '2027-01-15T09:00:00+01:00'");
    assert_eq!(mode, observe(NOW));
}

#[test]
fn observing_ends_at_most_30_days_ahead() {
    let (mode, _) = mode_and_warning("mode: observe, observe_until: '2027-02-14T08:00:00Z'");
    assert_eq!(mode, observe(NOW + 30 * 86_400));
    for late in ["'2027-02-14T08:00:01Z'", "9999-12-31"] {
        let text = only(&with_route(&format!(
            "mode: observe, observe_until: {late}"
        )));
        assert!(text.contains("more than 30 days ahead"), "{text}");
    }
}

#[test]
fn an_end_of_observing_that_is_past_enforces_and_is_a_warning() {
    let (mode, warning) = mode_and_warning("mode: observe, observe_until: 2027-01-15");
    assert_eq!(mode.at(NOW), Gate::Signature);
    assert!(
        warning.contains("routes[0].observe_until: is past"),
        "{warning}"
    );
}

#[test]
fn bearer_credentials_pass_until_any_date_that_is_named() {
    for more in [
        "bearer_until: 2028-01-01",
        "mode: enforce, bearer_until: 2028-01-01",
    ] {
        let (mode, warning) = mode_and_warning(more);
        assert_eq!(mode.at(NOW), Gate::SignatureOrBearer);
        assert_eq!(warning, "");
    }
}

#[test]
fn a_bearer_date_that_is_past_is_a_warning_and_no_mistake() {
    let (mode, warning) = mode_and_warning("bearer_until: 2027-01-15");
    assert_eq!(mode.at(NOW), Gate::Signature);
    assert!(
        warning.contains("routes[0].bearer_until: is past"),
        "{warning}"
    );
}

#[test]
fn what_is_no_date_is_a_mistake_at_its_key() {
    for (key, more) in [
        ("observe_until", "mode: observe, observe_until: soon"),
        ("observe_until", "mode: observe, observe_until: 1800000000"),
        ("bearer_until", "bearer_until: 2027-13-01"),
        ("bearer_until", "bearer_until: ''"),
    ] {
        let text = only(&with_route(more));
        assert!(text.contains(&format!("routes[0].{key}")), "{text}");
    }
}

#[test]
fn a_date_beside_another_mode_is_a_mistake() {
    for (key, more) in [
        ("observe_until", "observe_until: 2027-02-01"),
        ("observe_until", "mode: open, observe_until: 2027-02-01"),
        ("bearer_until", "mode: open, bearer_until: 2027-02-01"),
        (
            "bearer_until",
            "mode: observe, observe_until: 2027-02-01, bearer_until: 2027-02-01",
        ),
    ] {
        let text = only(&with_route(more));
        assert!(text.contains(&format!("routes[0].{key}")), "{text}");
    }
}

#[test]
fn where_the_upstream_sets_headers_there_is_a_warning_that_others_lose_them() {
    let text = with_route("bearer_until: 2028-01-01").replace(
        "servers: [",
        "set_headers: { X-Vault-Namespace: team-a }, servers: [",
    );
    let loaded = read_text(&text).unwrap();
    assert!(loaded.warnings[0].text.contains("x-vault-namespace"));
}
