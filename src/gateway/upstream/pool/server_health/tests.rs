use super::*;

const S: Duration = Duration::from_secs(1);
/// The longest that a request can take.
const LONGEST: Duration = Duration::from_secs(32);

fn health(healthy: u32, unhealthy: u32) -> Health {
    Health {
        path: "/health".into(),
        expect: vec![200],
        interval: S,
        timeout: S,
        healthy,
        unhealthy,
    }
}

/// Out since `now`, by failed requests.
fn ejected(now: Duration) -> ServerHealth {
    let mut server = ServerHealth::default();
    for _ in 1..FAILURES {
        assert_eq!(server.failed(now), None);
    }
    assert_eq!(server.failed(now), Some(HealthChange::Out));
    server
}

#[test]
fn a_server_nobody_has_heard_of_is_fit() {
    assert_eq!(ServerHealth::default().fitness(S), Fitness::Fit);
}

#[test]
fn failures_in_a_row_put_a_server_out_and_others_do_not() {
    let mut server = ServerHealth::default();
    for _ in 0..10 {
        assert_eq!(server.failed(S), None);
        assert_eq!(server.failed(S), None);
        assert_eq!(server.answered(), None);
    }
    assert_eq!(ejected(S).fitness(S), Fitness::Ejected);
}

#[test]
fn after_its_hold_it_is_tried_by_one_request_alone() {
    let mut server = ejected(10 * S);
    let end = 10 * S + FIRST_HOLD;
    let before = end - Duration::from_millis(1);
    assert_eq!(server.fitness(before), Fitness::Ejected);
    assert_eq!(server.fitness(end), Fitness::Fit);
    server.chosen(end, LONGEST);
    assert_eq!(server.fitness(end), Fitness::Ejected);
    assert_eq!(server.answered(), Some(HealthChange::Back));
    assert_eq!(server.fitness(end), Fitness::Fit);
}

#[test]
fn each_trial_that_fails_doubles_the_hold_up_to_the_longest() {
    let mut server = ejected(Duration::ZERO);
    let mut now = FIRST_HOLD;
    for hold in [2, 4, 8, 16, 30, 30] {
        server.chosen(now, LONGEST);
        assert_eq!(server.failed(now), None);
        assert_eq!(server.fitness(now + hold * S - S / 10), Fitness::Ejected);
        now += hold * S;
        assert_eq!(server.fitness(now), Fitness::Fit, "{hold}");
    }
}

#[test]
fn a_trial_whose_end_nobody_reports_makes_room_for_another() {
    let mut server = ejected(Duration::ZERO);
    server.chosen(FIRST_HOLD, LONGEST);
    let lost = FIRST_HOLD + LONGEST;
    assert_eq!(server.fitness(lost - S), Fitness::Ejected);
    assert_eq!(server.fitness(lost), Fitness::Fit);
}

#[test]
fn requests_that_fail_without_being_the_trial_do_not_lengthen_the_hold() {
    let mut server = ejected(Duration::ZERO);
    for _ in 0..100 {
        server.chosen(S / 2, LONGEST);
        assert_eq!(server.failed(S / 2), None);
    }
    assert_eq!(server.fitness(FIRST_HOLD), Fitness::Fit);
}

#[test]
fn an_answer_during_the_hold_ends_it() {
    let mut server = ejected(Duration::ZERO);
    assert_eq!(server.answered(), Some(HealthChange::Back));
    assert_eq!(server.fitness(Duration::ZERO), Fitness::Fit);
    // And the hold is the first one again.
    for _ in 0..FAILURES {
        server.failed(Duration::ZERO);
    }
    assert_eq!(server.fitness(FIRST_HOLD), Fitness::Fit);
}

#[test]
fn the_first_check_counts_at_once() {
    let mut server = ServerHealth::default();
    assert_eq!(
        server.checked(false, S, &health(5, 5)),
        Some(HealthChange::Out)
    );
    assert_eq!(server.fitness(S), Fitness::Unwell);
}

#[test]
fn later_checks_count_when_there_are_enough_in_a_row() {
    let health = health(2, 3);
    let mut server = ServerHealth::default();
    assert_eq!(server.checked(true, S, &health), None);
    for well in [false, false, true, false, false] {
        assert_eq!(server.checked(well, S, &health), None);
    }
    assert_eq!(server.checked(false, S, &health), Some(HealthChange::Out));
    for well in [true, false, true] {
        assert_eq!(server.checked(well, S, &health), None);
    }
    assert_eq!(server.checked(true, S, &health), Some(HealthChange::Back));
}

#[test]
fn an_answer_to_a_request_does_not_outvote_the_checks() {
    let mut server = ServerHealth::default();
    server.checked(false, S, &health(1, 1));
    assert_eq!(server.answered(), None);
    assert_eq!(server.fitness(S), Fitness::Unwell);
}

#[test]
fn a_good_check_makes_the_next_trial_due_and_no_more() {
    let mut server = ejected(Duration::ZERO);
    assert_eq!(server.checked(true, S / 10, &health(1, 2)), None);
    assert_eq!(server.fitness(S / 10), Fitness::Fit);
    server.chosen(S / 10, LONGEST);
    assert_eq!(server.fitness(S / 10), Fitness::Ejected);
    // A second one does not start a second trial.
    server.checked(true, S / 10, &health(1, 2));
    assert_eq!(server.fitness(S / 10), Fitness::Ejected);
}

#[test]
fn without_checks_what_they_said_is_forgotten_and_failures_are_not() {
    let mut server = ejected(Duration::ZERO);
    server.checked(false, Duration::ZERO, &health(1, 1));
    assert_eq!(server.unchecked(), None);
    assert_eq!(server.fitness(Duration::ZERO), Fitness::Ejected);
    assert_eq!(server.answered(), Some(HealthChange::Back));
}

#[test]
fn the_fit_come_before_the_ejected_and_those_before_the_unwell() {
    assert!(Fitness::Fit < Fitness::Ejected && Fitness::Ejected < Fitness::Unwell);
}
