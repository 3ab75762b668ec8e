use super::*;

const SETTINGS: ThrottleSettings = ThrottleSettings {
    failures_per_minute: 5,
    ban: Duration::from_secs(60),
};
const S: Duration = Duration::from_secs(1);

fn throttle() -> Throttle {
    Throttle::new(Arc::new(Metrics::new("", "").unwrap()))
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn fail(throttle: &Throttle, source: &str, code: Code, times: usize) {
    for _ in 0..times {
        throttle.refused(address(source), code, S, &SETTINGS);
    }
}

fn passes(throttle: &Throttle, source: &str, machine: &str, now: Duration) -> bool {
    (throttle.check(address(source), Some(machine.as_bytes()), now, &SETTINGS)).is_ok()
}

#[test]
fn a_source_that_fails_too_often_is_turned_away_until_its_ban_is_over() {
    for code in [Code::BadSignature, Code::Replayed, Code::EnrolmentRefused] {
        let throttle = throttle();
        fail(&throttle, "192.0.2.1", code, 5);
        assert!(passes(&throttle, "192.0.2.1", "m", S));
        fail(&throttle, "192.0.2.1", code, 1);
        let refusal = throttle.check(address("192.0.2.1"), None, 2 * S, &SETTINGS);
        assert_eq!(refusal, Err(Refusal::Throttled { retry_after: 59 }));
        assert!(passes(&throttle, "192.0.2.1", "m", 61 * S));
    }
}

#[test]
fn mistakes_do_not_count() {
    let throttle = throttle();
    for code in Code::ALL {
        if !matches!(
            code,
            Code::BadSignature | Code::Replayed | Code::EnrolmentRefused
        ) {
            fail(&throttle, "192.0.2.1", code, 100);
        }
    }
    assert!(passes(&throttle, "192.0.2.1", "m", S));
}

#[test]
fn another_source_is_not_concerned_whatever_machine_was_named() {
    let throttle = throttle();
    fail(&throttle, "192.0.2.1", Code::BadSignature, 100);
    assert!(!passes(&throttle, "192.0.2.1", "m", S));
    assert!(passes(&throttle, "192.0.2.2", "m", S));
}

#[test]
fn an_ipv6_network_of_64_bits_is_one_source_and_a_mapped_address_is_what_it_maps() {
    let throttle = throttle();
    fail(&throttle, "2001:db8::1", Code::BadSignature, 6);
    assert!(!passes(&throttle, "2001:db8::ffff:2", "m", S));
    assert!(passes(&throttle, "2001:db8:0:1::1", "m", S));
    fail(&throttle, "::ffff:192.0.2.1", Code::BadSignature, 6);
    assert!(!passes(&throttle, "192.0.2.1", "m", S));
    assert!(passes(&throttle, "192.0.2.2", "m", S));
}

#[test]
fn a_machine_that_verified_from_a_banned_source_lately_goes_on() {
    let throttle = throttle();
    throttle.verified(address("192.0.2.1"), "honest", Duration::ZERO);
    fail(&throttle, "192.0.2.1", Code::BadSignature, 6);
    assert!(passes(&throttle, "192.0.2.1", "honest", S));
    assert!(!passes(&throttle, "192.0.2.1", "other", S));
    assert!(
        throttle
            .check(address("192.0.2.1"), None, S, &SETTINGS)
            .is_err()
    );
}

#[test]
fn a_machine_that_has_not_verified_for_an_hour_is_not_familiar_any_more() {
    let throttle = throttle();
    let long = ThrottleSettings {
        ban: 7200 * S,
        ..SETTINGS
    };
    let source = address("192.0.2.1");
    throttle.verified(source, "honest", Duration::ZERO);
    throttle.verified(source, "busy", Duration::ZERO);
    throttle.verified(source, "busy", 1800 * S);
    (0..6).for_each(|_| throttle.refused(source, Code::Replayed, S, &long));
    let passes = |machine: &[u8]| {
        let now = 3601 * S;
        throttle.check(source, Some(machine), now, &long).is_ok()
    };
    assert!(!passes(b"honest"));
    assert!(passes(b"busy"));
}

#[test]
fn zero_failures_a_minute_turn_it_off() {
    let off = ThrottleSettings {
        failures_per_minute: 0,
        ..SETTINGS
    };
    let throttle = throttle();
    let source = address("192.0.2.1");
    (0..100).for_each(|_| throttle.refused(source, Code::Replayed, S, &off));
    assert!(throttle.check(source, None, S, &off).is_ok());
    // Turned on by a reload, it begins with nothing against anybody.
    assert!(passes(&throttle, "192.0.2.1", "m", S));
}

#[test]
fn an_unknown_address_is_not_throttled() {
    let throttle = throttle();
    (0..100).for_each(|_| throttle.refused(None, Code::Replayed, S, &SETTINGS));
    assert!(throttle.check(None, None, S, &SETTINGS).is_ok());
}
