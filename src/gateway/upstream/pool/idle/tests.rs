#![allow(clippy::unwrap_used, reason = "a test may panic")]

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::coop::unconstrained;

use super::*;

const SETTINGS: u64 = 1;
const TIMEOUT: Duration = Duration::from_secs(60);
const ALICE: ConnectionOwner = ConnectionOwner::Machine([1; 32]);
const BOB: ConnectionOwner = ConnectionOwner::Machine([2; 32]);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Connections to a server that has shown that it keeps quiet.
fn trusted() -> Idle {
    let idle = Idle::new(TIMEOUT, ([127, 0, 0, 1], 1).into());
    idle.quiet.store(TRUSTED_AFTER, Ordering::Relaxed);
    idle
}

fn keep_as(idle: &Idle, owner: ConnectionOwner, since: Duration, reuse: Reuse) -> DuplexStream {
    let (ours, theirs) = duplex(64);
    let stream = UpstreamStream::new(Box::new(ours));
    idle.keep(stream, owner, SETTINGS, since, reuse);
    theirs
}

/// Keeps a connection of Alice's, and gives its server's end.
fn keep(idle: &Idle, seconds: u64) -> DuplexStream {
    keep_as(idle, ALICE, at(seconds), Reuse::AtOnce)
}

fn count(idle: &Idle) -> usize {
    let queues = idle.queues();
    let counted: usize = queues.of.values().map(VecDeque::len).sum();
    assert_eq!(queues.count, counted);
    counted
}

/// Whether a connection of Alice's is to be had, and leads to this server's end.
async fn leads_to(idle: &Idle, server: &mut DuplexStream) -> bool {
    let Some(stream) = idle.take(ALICE, SETTINGS, at(10)) else {
        return false;
    };
    stream.queue_body(&bytes::Bytes::from_static(b"x"));
    let mut byte = [0];
    let _ = unconstrained(stream.keep_sending()).now_or_never();
    unconstrained(server.read(&mut byte))
        .now_or_never()
        .is_some()
}

#[tokio::test]
async fn the_one_that_has_waited_least_comes_first_and_each_once() {
    let idle = trusted();
    let (mut first, mut second) = (keep(&idle, 1), keep(&idle, 2));
    assert!(leads_to(&idle, &mut second).await);
    assert!(leads_to(&idle, &mut first).await);
    assert!(idle.take(ALICE, SETTINGS, at(10)).is_none());
}

#[tokio::test]
async fn a_connection_serves_its_owner_and_nobody_else() {
    let idle = trusted();
    let owners = [
        ALICE,
        BOB,
        ConnectionOwner::Open,
        ConnectionOwner::Everybody,
    ];
    for owner in owners {
        let _server = keep_as(&idle, owner, at(1), Reuse::AtOnce);
        for other in owners {
            if other != owner {
                assert!(
                    idle.take(other, SETTINGS, at(2)).is_none(),
                    "{owner:?} {other:?}"
                );
            }
        }
        assert!(idle.take(owner, SETTINGS, at(2)).is_some(), "{owner:?}");
    }
}

#[tokio::test]
async fn one_that_the_server_has_closed_is_not_used() {
    let idle = trusted();
    let mut open = keep(&idle, 1);
    drop(keep(&idle, 2));
    assert!(leads_to(&idle, &mut open).await);
}

#[tokio::test]
async fn one_on_which_the_server_spoke_unasked_is_not_used() {
    let idle = trusted();
    let mut server = keep(&idle, 1);
    server.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    assert!(idle.take(ALICE, SETTINGS, at(2)).is_none());
}

#[tokio::test]
async fn one_on_which_more_than_the_answer_was_there_at_once_is_not_kept() {
    let idle = trusted();
    let (ours, mut server) = duplex(64);
    server.write_all(b"more").await.unwrap();
    let stream = UpstreamStream::new(Box::new(ours));
    idle.keep(stream, ALICE, SETTINGS, at(1), Reuse::AtOnce);
    assert_eq!(count(&idle), 0);
}

#[tokio::test]
async fn one_that_was_closed_while_it_was_in_use_is_not_kept() {
    let idle = trusted();
    let (ours, theirs) = duplex(64);
    drop(theirs);
    let stream = UpstreamStream::new(Box::new(ours));
    idle.keep(stream, ALICE, SETTINGS, at(1), Reuse::AtOnce);
    assert_eq!(count(&idle), 0);
}

#[tokio::test]
async fn one_that_may_never_be_used_again_is_not_kept() {
    let idle = trusted();
    let _server = keep_as(&idle, ALICE, at(1), Reuse::Never);
    assert_eq!(count(&idle), 0);
}

#[tokio::test]
async fn one_that_has_waited_too_long_is_not_used() {
    let idle = trusted();
    let _server = keep(&idle, 1);
    assert!(idle.take(ALICE, SETTINGS, at(61)).is_none());
}

#[tokio::test]
async fn one_that_was_made_under_other_settings_is_not_used() {
    let idle = trusted();
    let _server = keep(&idle, 1);
    assert!(idle.take(ALICE, SETTINGS + 1, at(2)).is_none());
}

#[tokio::test]
async fn a_rest_keeps_a_connection_from_use_until_it_is_over() {
    let idle = trusted();
    let _server = keep_as(&idle, ALICE, at(1), Reuse::AfterRest);
    assert!(idle.take(ALICE, SETTINGS, at(1) + ms(49)).is_none());
    assert!(idle.take(ALICE, SETTINGS, at(1) + ms(50)).is_some());
}

#[tokio::test]
async fn one_that_rests_does_not_hide_one_that_has_rested() {
    let idle = trusted();
    let _rested = keep(&idle, 1);
    let _resting = keep_as(&idle, ALICE, at(2), Reuse::AfterRest);
    assert!(idle.take(ALICE, SETTINGS, at(2)).is_some());
    assert!(idle.take(ALICE, SETTINGS, at(2)).is_none());
}

#[tokio::test]
async fn the_first_connections_of_a_server_rest_until_it_has_shown_that_it_keeps_quiet() {
    let idle = Idle::new(TIMEOUT, ([127, 0, 0, 1], 1).into());
    let mut servers = Vec::new();
    for _ in 0..TRUSTED_AFTER {
        servers.push(keep(&idle, 1));
        assert!(idle.take(ALICE, SETTINGS, at(1)).is_none());
    }
    idle.sweep(at(2));
    servers.push(keep(&idle, 3));
    assert!(idle.take(ALICE, SETTINGS, at(3)).is_some());
}

#[tokio::test]
async fn a_server_that_sends_bytes_behind_an_answer_is_never_trusted_again() {
    let idle = trusted();
    let mut server = keep(&idle, 1);
    server.write_all(b"late").await.unwrap();
    assert!(idle.take(ALICE, SETTINGS, at(1) + ms(20)).is_none());
    let _next = keep(&idle, 2);
    assert!(idle.take(ALICE, SETTINGS, at(2)).is_none());
    assert!(idle.take(ALICE, SETTINGS, at(2) + ms(50)).is_some());
}

#[tokio::test]
async fn a_server_that_says_much_later_that_it_closes_stays_trusted() {
    let idle = trusted();
    let mut server = keep(&idle, 1);
    server
        .write_all(b"HTTP/1.1 408 Request Timeout\r\n")
        .await
        .unwrap();
    idle.sweep(at(31));
    assert!(idle.is_trusted());
    assert_eq!(count(&idle), 0);
}

#[tokio::test]
async fn bytes_behind_an_answer_to_head_do_not_make_the_others_rest() {
    let idle = trusted();
    let mut server = keep_as(&idle, ALICE, at(1), Reuse::AfterRest);
    server.write_all(b"the body").await.unwrap();
    assert!(idle.take(ALICE, SETTINGS, at(1) + ms(50)).is_none());
    assert!(idle.is_trusted());
}

#[tokio::test]
async fn what_is_not_fit_any_more_is_swept_away() {
    let idle = trusted();
    let _old = keep(&idle, 1);
    drop(keep(&idle, 30));
    let _young = keep(&idle, 31);
    idle.sweep(at(61));
    assert_eq!(count(&idle), 1);
}

#[tokio::test]
async fn of_too_many_the_one_that_has_waited_longest_is_closed_whoever_owns_it() {
    let idle = trusted();
    let mut oldest = keep_as(&idle, BOB, at(0), Reuse::AtOnce);
    let servers: Vec<_> = (0..MOST as u64).map(|_| keep(&idle, 1)).collect();
    assert_eq!(count(&idle), MOST);
    let mut byte = [0];
    let read = oldest.read(&mut byte).await;
    assert!(matches!(read, Ok(0)), "{read:?}");
    drop(servers);
}
