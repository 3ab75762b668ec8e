#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::config::{self, Environment, Resolve};
use crate::metrics::Metrics;
use countersign_client::clock::Clock;

const S: Duration = Duration::from_secs(1);

/// The upstreams of a configuration with these lines.
fn upstreams(lines: &str) -> Vec<Upstream> {
    upstreams_in(lines, Environment::of_process(1_800_000_000))
}

/// Where the names of a test lead at the moment.
static NAMES: Mutex<BTreeMap<String, Vec<u16>>> = Mutex::new(BTreeMap::new());

/// From now on a name leads to these ports of this machine; to none, it does not resolve.
fn lead(name: &str, ports: &[u16]) {
    NAMES
        .lock()
        .unwrap()
        .insert(name.to_owned(), ports.to_vec());
}

/// The upstreams of a configuration with these lines, whose names lead where [`lead`] says.
fn named_upstreams(lines: &str) -> Vec<Upstream> {
    let resolve: Resolve = |name| match NAMES.lock().unwrap().get(name) {
        Some(ports) if !ports.is_empty() => Ok(ports
            .iter()
            .map(|port| ([127, 0, 0, 1], *port).into())
            .collect()),
        _ => (name.parse().map(|address| vec![address]))
            .map_err(|_| io::Error::other("no such host")),
    };
    let environment = Environment {
        resolve,
        ..Environment::of_process(1_800_000_000)
    };
    upstreams_in(lines, environment)
}

fn upstreams_in(lines: &str, environment: Environment) -> Vec<Upstream> {
    let text = format!(
        "listeners: [{{ address: 0.0.0.0:8080 }}]\nregistry: {{ file: machines.yaml }}\n\
         upstreams:\n{lines}\nroutes: [{{ path: /, upstream: a }}]\n"
    );
    let loaded = config::read(&text, Path::new("x.yaml"), &environment);
    let config = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    config.config.upstreams
}

fn context() -> PoolContext {
    PoolContext {
        metrics: Arc::new(Metrics::new("", "").unwrap()),
        clock: Clock::manual(0).0,
        runtime: tokio::runtime::Handle::current(),
        revocations: tokio_util::task::TaskTracker::new(),
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
    port(&pool.next_server(&mut Attempts::default(), now).unwrap())
}

fn port(server: &UpstreamServer) -> u16 {
    server.peer()._address.as_inet().unwrap().port()
}

fn fail(pool: &Pool, port: u16, now: Duration) {
    let listed = pool.servers.current();
    for server in listed
        .servers
        .iter()
        .filter(|server| self::port(server) == port)
    {
        (0..3).for_each(|_| server.timed_out(now));
    }
}

#[tokio::test]
async fn a_walk_meets_each_server_once() {
    let pools = Pools::new(&three(), &context(), None);
    let (pool, mut attempts) = (pools.of(0), Attempts::default());
    let mut met = Vec::new();
    while let Some(server) = pool.next_server(&mut attempts, S) {
        met.push(port(&server));
        assert_eq!(pool.has_more(&attempts), met.len() < 3);
    }
    met.sort_unstable();
    assert_eq!(met, [1, 2, 3]);
}

#[tokio::test]
async fn servers_get_requests_by_their_weights() {
    let heavy =
        "  a: { servers: [{ url: 'http://127.0.0.1:1', weight: 3 }, 'http://127.0.0.1:2'] }";
    let pools = Pools::new(&upstreams(heavy), &context(), None);
    let met: Vec<_> = (0..8).map(|_| first(pools.of(0), S)).collect();
    assert_eq!(met, [1, 1, 2, 1, 1, 1, 2, 1]);
}

#[tokio::test]
async fn a_server_that_is_out_is_asked_last() {
    let pools = Pools::new(&three(), &context(), None);
    let pool = pools.of(0);
    fail(pool, 2, S);
    for _ in 0..6 {
        let mut attempts = Attempts::default();
        let met = [(); 3].map(|()| port(&pool.next_server(&mut attempts, S).unwrap()));
        assert_eq!(met[2], 2);
    }
}

#[tokio::test]
async fn where_all_are_out_all_are_tried() {
    let pools = Pools::new(&three(), &context(), None);
    let pool = pools.of(0);
    (1..=3).for_each(|port| fail(pool, port, S));
    let mut met: Vec<_> = (0..3).map(|_| first(pool, S)).collect();
    met.sort_unstable();
    assert_eq!(met, [1, 2, 3]);
}

#[tokio::test]
async fn a_server_whose_hold_is_over_gets_one_request_until_it_has_answered_it() {
    let pools = Pools::new(&three(), &context(), None);
    let pool = pools.of(0);
    fail(pool, 2, S);
    let met: Vec<_> = (0..9).map(|_| first(pool, 3 * S)).collect();
    assert_eq!(met.iter().filter(|&&port| port == 2).count(), 1, "{met:?}");
    pool.servers.current().servers[1].answered();
    let met: Vec<_> = (0..9).map(|_| first(pool, 3 * S)).collect();
    assert_eq!(met.iter().filter(|&&port| port == 2).count(), 3, "{met:?}");
}

#[tokio::test]
async fn what_is_known_of_a_server_survives_a_reload_that_keeps_it() {
    let site = context();
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
    let site = context();
    let old = Pools::new(&three(), &site, None);
    fail(old.of(0), 1, S);
    let two = "  b: { servers: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] }\n  \
               a: { servers: ['http://127.0.0.1:1'] }";
    let new = Pools::new(&upstreams(two), &site, Some(&old));
    assert_eq!(first(new.of(0), S), 1);
}

/// The ports of the servers that there are, in their order.
fn ports(pool: &Pool) -> Vec<u16> {
    pool.servers
        .current()
        .servers
        .iter()
        .map(|it| port(it))
        .collect()
}

/// Time passes by itself where nothing is left to do; but not while a name is being looked up.
async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(S / 10).await;
    }
    panic!("waited in vain until {what}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_resolve_yet_gets_no_requests_and_then_does() {
    let lines = "  a: { servers: ['http://late:1', 'http://127.0.0.1:2'] }";
    let site = context();
    let pools = Pools::new(&named_upstreams(lines), &site, None);
    assert_eq!(ports(pools.of(0)), [2]);
    assert_eq!(
        pools.out_of_service(),
        ["upstream a: late:1 does not resolve"]
    );
    let healthy = |value: u8| {
        let name = "countersign_upstream_healthy";
        let sample = format!("{name}{{server=\"late:1\",upstream=\"a\"}} {value}");
        site.metrics.render().contains(&sample)
    };
    assert!(healthy(0), "{}", site.metrics.render());
    lead("late:1", &[1]);
    wait_until("it is there", || ports(pools.of(0)) == [1, 2]).await;
    assert!(pools.out_of_service().is_empty());
    assert!(healthy(1), "{}", site.metrics.render());
}

#[tokio::test(start_paused = true)]
async fn where_no_name_resolves_there_is_no_server_and_a_request_has_them_looked_up() {
    let lines = "  a: { servers: ['http://nobody:1'] }";
    let pools = Pools::new(&named_upstreams(lines), &context(), None);
    let pool = pools.of(0);
    let mut attempts = Attempts::default();
    assert!(pool.next_server(&mut attempts, S).is_none());
    assert!(!pool.has_more(&attempts));
    lead("nobody:1", &[7]);
    wait_until("it is there", || first_port(pool) == Some(7)).await;
}

fn first_port(pool: &Pool) -> Option<u16> {
    pool.next_server(&mut Attempts::default(), S)
        .map(|server| port(&server))
}

#[tokio::test(start_paused = true)]
async fn a_name_that_moves_is_followed_within_30_s_by_itself() {
    lead("moves:1", &[1, 2]);
    let lines = "  a: { servers: ['http://moves:1'] }";
    let pools = Pools::new(&named_upstreams(lines), &context(), None);
    let before = pools.of(0).servers.current();
    lead("moves:1", &[2, 3]);
    tokio::time::sleep(25 * S).await;
    wait_until("it has moved", || ports(pools.of(0)) == [2, 3]).await;
    let after = pools.of(0).servers.current();
    assert!(
        Arc::ptr_eq(&before.servers[1], &after.servers[0]),
        "the address that stayed keeps its connections"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_has_the_name_looked_up_at_once() {
    lead("dies:1", &[1]);
    let lines = "  a: { servers: ['http://dies:1'] }";
    let pools = Pools::new(&named_upstreams(lines), &context(), None);
    tokio::time::sleep(S / 10).await;
    lead("dies:1", &[2]);
    let server = pools
        .of(0)
        .next_server(&mut Attempts::default(), S)
        .unwrap();
    server.refused_connection(S);
    // By itself it would be looked up after 20 s.
    for _ in 0..20 {
        tokio::time::sleep(S / 10).await;
    }
    assert_eq!(ports(pools.of(0)), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_resolve_any_more_keeps_its_addresses() {
    lead("flaps:1", &[1]);
    let lines = "  a: { servers: ['http://flaps:1'] }";
    let pools = Pools::new(&named_upstreams(lines), &context(), None);
    lead("flaps:1", &[]);
    for _ in 0..60 {
        tokio::time::sleep(S).await;
    }
    assert_eq!(ports(pools.of(0)), [1]);
    // Neither does a reload take them away.
    let again = Pools::new(&named_upstreams(lines), &context(), Some(&pools));
    assert_eq!(ports(again.of(0)), [1]);
}

#[tokio::test]
async fn an_address_that_a_name_has_twice_is_one_server() {
    lead("twice:1", &[1, 2, 1]);
    let lines = "  a: { servers: ['http://twice:1'] }";
    let pools = Pools::new(&named_upstreams(lines), &context(), None);
    assert_eq!(ports(pools.of(0)), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn lookups_end_with_the_pool() {
    let lines = "  a: { servers: ['http://ends:1'] }";
    let pools = Pools::new(&named_upstreams(lines), &context(), None);
    let servers = Arc::downgrade(&pools.of(0).servers);
    tokio::time::sleep(3 * S).await;
    drop(pools);
    wait_until("it is gone", || servers.upgrade().is_none()).await;
}

#[tokio::test]
async fn health_checks_end_with_the_pool() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines =
        format!("  a: {{ servers: ['http://{address}'], health: {{ path: /, interval: 100ms }} }}");
    let pools = Pools::new(&upstreams(&lines), &context(), None);
    drop(listener.accept().await.unwrap());
    drop(listener.accept().await.unwrap());
    drop(pools);
    // At most one that was under way, or accepted by the kernel already.
    let _ = tokio::time::timeout(S / 2, listener.accept()).await;
    let more = tokio::time::timeout(S / 2, listener.accept()).await;
    assert!(more.is_err(), "a check after the pool was dropped");
}
