#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::path::Path;

use super::*;
use crate::config::Environment;

const S: Duration = Duration::from_secs(1);

/// The upstreams of a configuration with these lines.
fn upstreams(lines: &str) -> Vec<Upstream> {
    let text = format!(
        "listeners: [{{ address: 0.0.0.0:8080 }}]\nregistry: {{ file: machines.yaml }}\n\
         upstreams:\n{lines}\nroutes: [{{ path: /, upstream: a }}]\n"
    );
    let loaded = config::read(
        &text,
        Path::new("x.yaml"),
        &Environment::of_process(1_800_000_000),
    );
    let config = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    config.config.upstreams
}

fn site() -> Site {
    Site {
        metrics: Arc::new(Metrics::new("", "").unwrap()),
        clock: Clock::manual(0).0,
        runtime: Handle::current(),
    }
}

/// Three servers of one weight.
fn three() -> Vec<Upstream> {
    upstreams(
        "  a: { servers: ['http://127.0.0.1:1', 'http://127.0.0.1:2', 'http://127.0.0.1:3'] }",
    )
}

/// The port of the server that a request is sent to first.
fn first(pool: &Pool, now: Duration) -> u16 {
    port(pool.step(&mut Walk::default(), now).unwrap())
}

fn port(server: &Server) -> u16 {
    server.peer()._address.as_inet().unwrap().port()
}

fn fail(pool: &Pool, port: u16, now: Duration) {
    for server in pool
        .servers
        .iter()
        .filter(|server| self::port(server) == port)
    {
        (0..3).for_each(|_| server.timed_out(now));
    }
}

#[tokio::test]
async fn a_walk_meets_each_server_once() {
    let pools = Pools::new(&three(), &site(), None);
    let (pool, mut walk) = (pools.of(0), Walk::default());
    let mut met = Vec::new();
    while let Some(server) = pool.step(&mut walk, S) {
        met.push(port(server));
        assert_eq!(pool.has_more(&walk), met.len() < 3);
    }
    met.sort_unstable();
    assert_eq!(met, [1, 2, 3]);
}

#[tokio::test]
async fn servers_get_requests_by_their_weights() {
    let heavy =
        "  a: { servers: [{ url: 'http://127.0.0.1:1', weight: 3 }, 'http://127.0.0.1:2'] }";
    let pools = Pools::new(&upstreams(heavy), &site(), None);
    let met: Vec<_> = (0..8).map(|_| first(pools.of(0), S)).collect();
    assert_eq!(met, [1, 1, 2, 1, 1, 1, 2, 1]);
}

#[tokio::test]
async fn a_server_that_is_out_is_asked_last() {
    let pools = Pools::new(&three(), &site(), None);
    let pool = pools.of(0);
    fail(pool, 2, S);
    for _ in 0..6 {
        let mut walk = Walk::default();
        let met = [(); 3].map(|()| port(pool.step(&mut walk, S).unwrap()));
        assert_eq!(met[2], 2);
    }
}

#[tokio::test]
async fn where_all_are_out_all_are_tried() {
    let pools = Pools::new(&three(), &site(), None);
    let pool = pools.of(0);
    (1..=3).for_each(|port| fail(pool, port, S));
    let mut met: Vec<_> = (0..3).map(|_| first(pool, S)).collect();
    met.sort_unstable();
    assert_eq!(met, [1, 2, 3]);
}

#[tokio::test]
async fn a_server_whose_hold_is_over_gets_one_request_until_it_has_answered_it() {
    let pools = Pools::new(&three(), &site(), None);
    let pool = pools.of(0);
    fail(pool, 2, S);
    let met: Vec<_> = (0..9).map(|_| first(pool, 3 * S)).collect();
    assert_eq!(met.iter().filter(|&&port| port == 2).count(), 1, "{met:?}");
    pool.servers[1].answered();
    let met: Vec<_> = (0..9).map(|_| first(pool, 3 * S)).collect();
    assert_eq!(met.iter().filter(|&&port| port == 2).count(), 3, "{met:?}");
}

#[tokio::test]
async fn what_is_known_of_a_server_survives_a_reload_that_keeps_it() {
    let site = site();
    let old = Pools::new(&three(), &site, None);
    fail(old.of(0), 2, S);
    let kept =
        "  a: { servers: ['http://127.0.0.1:2', 'http://127.0.0.1:4'], connect_timeout: 1s }";
    let new = Pools::new(&upstreams(kept), &site, Some(&old));
    drop(old);
    assert_eq!([first(new.of(0), S), first(new.of(0), S)], [4, 4]);
    let healthy = |port: u16| {
        let name = "countersign_upstream_healthy";
        format!("{name}{{server=\"127.0.0.1:{port}\",upstream=\"a\"}} ")
    };
    let page = site.metrics.render();
    assert!(
        page.contains(&(healthy(2) + "0")) && page.contains(&(healthy(4) + "1")),
        "{page}"
    );
    assert!(!page.contains(&healthy(1)), "{page}");
}

#[tokio::test]
async fn the_same_address_in_another_upstream_is_another_server() {
    let site = site();
    let old = Pools::new(&three(), &site, None);
    fail(old.of(0), 1, S);
    let two = "  b: { servers: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] }\n  \
               a: { servers: ['http://127.0.0.1:1'] }";
    let new = Pools::new(&upstreams(two), &site, Some(&old));
    assert_eq!(first(new.of(0), S), 1);
}

#[tokio::test]
async fn health_checks_end_with_the_pool() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines =
        format!("  a: {{ servers: ['http://{address}'], health: {{ path: /, interval: 100ms }} }}");
    let pools = Pools::new(&upstreams(&lines), &site(), None);
    drop(listener.accept().await.unwrap());
    drop(listener.accept().await.unwrap());
    drop(pools);
    // At most one that was under way, or accepted by the kernel already.
    let _ = tokio::time::timeout(S / 2, listener.accept()).await;
    let more = tokio::time::timeout(S / 2, listener.accept()).await;
    assert!(more.is_err(), "a check after the pool was dropped");
}

#[test]
fn the_reason_of_a_tls_failure_is_in_the_words_of_rustls() {
    let context = "TLS connect() failed:  TLSHandshakeFailure context: tls connect error \
                   cause: invalid peer certificate: UnknownIssuer, SNI: vault.internal";
    let error = Error::explain(ErrorType::TLSHandshakeFailure, context);
    assert_eq!(
        reason(&error),
        "TLSHandshakeFailure: invalid peer certificate: UnknownIssuer"
    );
}

#[test]
fn a_reason_has_no_controls_and_a_bound_and_no_other_context_is_told() {
    let context = "not valid for \n\u{1b}[31m".repeat(99);
    let text = reason(&Error::explain(ErrorType::TLSHandshakeFailure, context));
    assert!(
        text.starts_with("TLSHandshakeFailure: not valid for [31mnot"),
        "{text}"
    );
    assert!(text.chars().count() < LONGEST_REASON + 50);
    let other = Error::explain(ErrorType::ReadError, "what the peer said");
    assert_eq!(reason(&other), "ReadError");
}
#[test]
fn the_names_of_common_mix_ups_come_with_what_to_do() {
    for (name, hint) in [
        (
            "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
            "CA:FALSE",
        ),
        (
            "received corrupt message of type InvalidContentType",
            "write http://",
        ),
    ] {
        let text = reason(&Error::explain(ErrorType::TLSHandshakeFailure, name));
        assert!(text.contains(hint), "{text}");
    }
}

