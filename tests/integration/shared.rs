//! Nothing passes twice at several gateways that share one store, whatever happens to it.

use std::sync::Barrier;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::{Client, Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, wait_for};
use crate::support::process::{clock, free_address, unix_seconds};
use crate::support::redis::{DURABLE, Redis};

/// A gateway that is told to use a store, ready or not. Two seconds a window and one of margin, so
/// that a test can wait for their end; a deadline that a busy machine keeps.
fn gateway(backend: &Backend, redis: &Redis) -> Gateway {
    gateway_with(backend, redis, "timeout: 1s")
}

fn gateway_with(backend: &Backend, redis: &Redis, more: &str) -> Gateway {
    let url = format!("redis://{}", redis.address);
    gateway_at(backend, &format!("url: '{url}', {more}"))
}

fn gateway_at(backend: &Backend, settings: &str) -> Gateway {
    let more = format!(
        "replay:\n  window: 30s\n  future: 2s\n  store: redis\n  instances: 2\n  \
         redis: {{ clock_margin: 1s, {settings} }}\n"
    );
    let options = Options {
        more,
        // The store lives in real time, so the gateway does. (A test gateway's clock stands
        // still; the tests move it on where it matters.)
        start: unix_seconds() - 1,
        token: Some("s3cret-of-the-store".into()),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

/// Brings the gateway's clock, which stands still, to the real time.
fn synchronise(gateway: &Gateway) {
    gateway.hands.set(unix_seconds() * 1000);
}

fn ready(gateway: &Gateway) {
    wait_for("readiness", || {
        synchronise(gateway);
        (gateway.admin_get("/readyz").0 == 200).then_some(())
    });
}

fn not_ready(gateway: &Gateway) {
    wait_for("unreadiness", || {
        (gateway.admin_get("/readyz").0 == 503).then_some(())
    });
}

/// It has had the time for a few tries, and took none of them for a success.
fn stays_unusable(gateway: &Gateway) {
    std::thread::sleep(Duration::from_millis(1500));
    let answer = send(gateway, &request(gateway));
    assert_eq!(answer.code(), "replay_unavailable");
    let (status, why) = gateway.admin_get("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("shared nonce store"), "{why}");
}

/// A signed request, to be sent as often as one likes.
fn request(gateway: &Gateway) -> Vec<u8> {
    synchronise(gateway);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    raw("GET", "/a", &lines, b"")
}

/// Signed as far ahead as the window allows.
fn request_ahead(gateway: &Gateway) -> Vec<u8> {
    synchronise(gateway);
    let lines = (machine().sign("GET", "/a", gateway.now() + 2, b"")).lines();
    raw("GET", "/a", &lines, b"")
}

fn send(gateway: &Gateway, bytes: &[u8]) -> Response {
    exchange(gateway.address, bytes)
}

/// Waits for an honest request to pass, each try signed anew.
fn passes_again(gateway: &Gateway) {
    wait_for("an honest request to pass", || {
        (send(gateway, &request(gateway)).status == 200).then_some(())
    });
}

#[test]
fn what_one_gateway_accepted_is_a_replay_at_the_other() {
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let (one, other) = (gateway(&backend, &redis), gateway(&backend, &redis));
    ready(&one);
    ready(&other);
    passes_again(&one);
    passes_again(&other);
    let bytes = request(&one);
    synchronise(&other);
    assert_eq!(send(&one, &bytes).status, 200);
    for _ in 0..3 {
        assert_eq!(send(&other, &bytes).code(), "replayed");
        assert_eq!(send(&one, &bytes).code(), "replayed");
    }
    assert_eq!(backend.seen().len(), 3);
}

#[test]
fn of_64_copies_over_two_gateways_exactly_one_passes() {
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let gateways = [gateway(&backend, &redis), gateway(&backend, &redis)];
    for gateway in &gateways {
        ready(gateway);
        passes_again(gateway);
    }
    let bytes = request(&gateways[0]);
    synchronise(&gateways[1]);
    let before = backend.seen().len();
    let start = Barrier::new(64);
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let copies: Vec<_> = (0..64)
            .map(|copy| {
                let (address, bytes, start) = (gateways[copy % 2].address, &bytes, &start);
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    start.wait();
                    client.exchange(bytes)
                })
            })
            .collect();
        (copies.into_iter())
            .map(|copy| copy.join().unwrap())
            .collect()
    });
    let count = |code| answers.iter().filter(|a| a.code() == code).count();
    assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 1);
    assert_eq!(count("replayed"), 63);
    assert_eq!(backend.seen().len(), before + 1);
}

#[test]
fn a_replay_at_the_same_gateway_does_not_ask_the_store() {
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let gateway = gateway(&backend, &redis);
    ready(&gateway);
    passes_again(&gateway);
    let bytes = request(&gateway);
    assert_eq!(send(&gateway, &bytes).status, 200);
    let asked = gateway.metric("countersign_replay_store_seconds_count");
    for _ in 0..5 {
        assert_eq!(send(&gateway, &bytes).code(), "replayed");
    }
    assert_eq!(
        gateway.metric("countersign_replay_store_seconds_count"),
        asked
    );
    assert_eq!(gateway.metric("countersign_replay_store_errors_total"), 0.0);
}

#[test]
fn a_stopped_store_is_503_within_the_deadline_and_service_comes_back_with_it() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let gateway = gateway_with(&backend, &redis, "timeout: 300ms");
    ready(&gateway);
    passes_again(&gateway);
    let spent = request(&gateway);
    assert_eq!(send(&gateway, &spent).status, 200);
    let before = backend.seen().len();

    redis.signal("STOP");
    let began = clock();
    let doubtful = request(&gateway);
    let refusal = send(&gateway, &doubtful);
    let took = began.elapsed();
    assert_eq!(refusal.code(), "replay_unavailable");
    assert!(refusal.header("retry-after").is_some());
    // While it is stopped, an answer comes by the deadline alone. The rest is the machine's.
    assert!(took < 10 * DEADLINE, "{took:?}");
    not_ready(&gateway);
    let began = clock();
    assert_eq!(
        send(&gateway, &request(&gateway)).code(),
        "replay_unavailable"
    );
    assert!(began.elapsed() < 10 * DEADLINE);
    assert!(gateway.metric("countersign_replay_store_errors_total") >= 2.0);

    redis.signal("CONT");
    passes_again(&gateway);
    ready(&gateway);
    // The request whose claim got no answer was refused, and stays so.
    assert_eq!(send(&gateway, &doubtful).code(), "replayed");
    assert_eq!(send(&gateway, &spent).code(), "replayed");
    assert_eq!(backend.seen().len(), before + 1);
}

#[test]
fn a_store_that_was_killed_and_is_back_with_its_data_has_forgotten_nothing() {
    let (backend, mut redis) = (Backend::start(), Redis::start(DURABLE));
    let (one, other) = (gateway(&backend, &redis), gateway(&backend, &redis));
    ready(&one);
    ready(&other);
    passes_again(&one);
    passes_again(&other);
    for _ in 0..3 {
        let bytes = request_ahead(&one);
        assert_eq!(send(&one, &bytes).status, 200);
        let before = backend.seen().len();
        redis.kill();
        not_ready(&other);
        synchronise(&other);
        assert_eq!(send(&other, &bytes).code(), "replay_unavailable");
        redis.spawn();
        passes_again(&other);
        let third = gateway(&backend, &redis);
        ready(&third);
        assert_eq!(send(&other, &bytes).code(), "replayed");
        assert_eq!(send(&one, &bytes).code(), "replayed");
        assert_ne!(send(&third, &bytes).status, 200);
        assert_eq!(backend.seen().len(), before + 1);
        passes_again(&one);
    }
}

#[test]
fn a_store_that_comes_back_empty_lets_nothing_pass_twice_and_honest_requests_after_the_window() {
    let (backend, mut redis) = (Backend::start(), Redis::start(DURABLE));
    let (one, other) = (gateway(&backend, &redis), gateway(&backend, &redis));
    ready(&one);
    ready(&other);
    passes_again(&one);
    passes_again(&other);
    let accepted: Vec<Vec<u8>> = (0..5).map(|_| request_ahead(&one)).collect();
    for bytes in &accepted {
        assert_eq!(send(&one, bytes).status, 200);
    }
    let before = backend.seen().len();
    redis.kill();
    not_ready(&other);
    redis.forget();
    redis.spawn();
    let emptied = clock();
    // A gateway that starts now remembers nothing of the time before.
    let third = gateway(&backend, &redis);
    let mut honest = 0;
    while emptied.elapsed() < Duration::from_secs(5) {
        for gateway in [&other, &third, &one] {
            synchronise(gateway);
            for bytes in &accepted {
                assert_ne!(send(gateway, bytes).status, 200);
            }
        }
        honest += usize::from(send(&other, &request(&other)).status == 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Two seconds ahead, one of margin, and one to be above: honest requests pass.
    assert!(honest > 0);
    assert_eq!(backend.seen().len(), before + honest);
    assert_eq!(send(&third, &request(&third)).status, 200);
}

#[test]
fn a_store_that_keeps_its_epoch_and_loses_its_last_nonces_lets_nothing_pass_twice() {
    let lax = "appendonly yes\nappendfsync everysec\n";
    let (backend, mut redis) = (Backend::start(), Redis::start(lax));
    let (one, other) = (gateway(&backend, &redis), gateway(&backend, &redis));
    ready(&one);
    ready(&other);
    let earlier = redis.data();
    let bytes = request_ahead(&one);
    assert_eq!(send(&one, &bytes).status, 200);
    let before = backend.seen().len();
    redis.kill();
    not_ready(&other);
    redis.restore(&earlier);
    redis.spawn();
    let third = gateway(&backend, &redis);
    let back = clock();
    while back.elapsed() < Duration::from_secs(4) {
        for gateway in [&other, &third] {
            synchronise(gateway);
            assert_ne!(send(gateway, &bytes).status, 200);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(backend.seen().len(), before);
    passes_again(&other);
    passes_again(&third);
}

#[test]
fn a_store_that_is_emptied_while_it_runs_is_noticed_by_the_next_claim() {
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let (one, other) = (gateway(&backend, &redis), gateway(&backend, &redis));
    ready(&one);
    ready(&other);
    passes_again(&one);
    passes_again(&other);
    let bytes = request_ahead(&one);
    assert_eq!(send(&one, &bytes).status, 200);
    let before = backend.seen().len();
    synchronise(&other);
    assert_eq!(redis.command(&["FLUSHALL"]), "OK");
    assert_eq!(send(&other, &bytes).code(), "replay_unavailable");
    assert_eq!(backend.seen().len(), before);
    passes_again(&other);
    assert_ne!(send(&other, &bytes).status, 200);
}

#[test]
fn a_lost_key_alone_is_not_taken_for_a_fresh_nonce_when_the_time_is_over() {
    // What a paused gateway would do: its clock is behind by more than the window and the margin.
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let gateway = gateway(&backend, &redis);
    ready(&gateway);
    passes_again(&gateway);
    let before = backend.seen().len();
    gateway.hands.set((unix_seconds() + 60) * 1000);
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let answer = send(&gateway, &raw("GET", "/a", &lines, b""));
    assert_eq!(answer.code(), "replay_unavailable");
    assert_eq!(backend.seen().len(), before);
}

#[test]
fn a_store_that_may_evict_is_refused_until_it_may_not() {
    let backend = Backend::start();
    let redis = Redis::start("maxmemory-policy allkeys-lru\n");
    let gateway = gateway(&backend, &redis);
    stays_unusable(&gateway);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    ready(&gateway);
    passes_again(&gateway);
}

#[test]
fn a_full_store_refuses_and_serves_again_when_it_has_room() {
    let (backend, redis) = (Backend::start(), Redis::start(""));
    let gateway = gateway(&backend, &redis);
    ready(&gateway);
    passes_again(&gateway);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    not_ready(&gateway);
    assert_eq!(
        send(&gateway, &request(&gateway)).code(),
        "replay_unavailable"
    );
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    ready(&gateway);
    passes_again(&gateway);
}

#[test]
fn a_replica_is_refused() {
    let (backend, primary) = (Backend::start(), Redis::start(""));
    let follow = format!("replicaof 127.0.0.1 {}\n", primary.address.port());
    let replica = Redis::start(&follow);
    let gateway = gateway(&backend, &replica);
    stays_unusable(&gateway);
}

#[test]
fn gateways_with_another_window_are_refused_by_the_store_of_the_first() {
    let (backend, redis) = (Backend::start(), Redis::start(DURABLE));
    let one = gateway(&backend, &redis);
    ready(&one);
    let url = format!("redis://{}", redis.address);
    let more = format!(
        "replay: {{ window: 60s, store: redis, redis: {{ url: '{url}', clock_margin: 1s }} }}\n"
    );
    let different = Gateway::with(
        &backend,
        Options {
            more,
            start: unix_seconds() - 1,
            ..Options::default()
        },
    );
    stays_unusable(&different);
}

const SECRET: &str = "s3cret-of-the-store";

#[test]
fn a_password_is_required_where_the_store_has_one() {
    let backend = Backend::start();
    let redis = Redis::start(&format!("requirepass {SECRET}\n"));
    let with = gateway_with(&backend, &redis, "timeout: 1s, password_file: token");
    ready(&with);
    passes_again(&with);
    let without = gateway(&backend, &redis);
    stays_unusable(&without);
}

#[test]
fn a_user_needs_the_documented_rights_and_no_others() {
    let page = include_str!("../../docs/replay.md");
    let line = page
        .lines()
        .find_map(|line| line.trim().strip_prefix("ACL SETUSER "))
        .unwrap();
    let rights = line.replace("THE-PASSWORD", SECRET);
    let words: Vec<&str> = ["ACL", "SETUSER"]
        .into_iter()
        .chain(rights.split(' '))
        .collect();
    let (backend, redis) = (Backend::start(), Redis::start(""));
    assert_eq!(redis.command(&words), "OK");
    let login = "timeout: 1s, username: countersign, password_file: token";
    let gateway = gateway_with(&backend, &redis, login);
    ready(&gateway);
    passes_again(&gateway);
    redis.command(&["ACL", "SETUSER", "countersign", "-config|get"]);
    let barred = gateway_with(&backend, &redis, login);
    stays_unusable(&barred);
}

#[test]
fn a_store_with_tls_is_used_if_its_certificate_is_the_right_one() {
    let (backend, folder) = (Backend::start(), tempfile::tempdir().unwrap());
    crate::support::tls::write_certificate(folder.path());
    let address = free_address();
    let at = folder.path().display();
    let redis = Redis::start_at(
        address,
        &format!(
            "port 0\ntls-port {}\ntls-cert-file {at}/cert.pem\ntls-key-file {at}/key.pem\n\
             tls-ca-cert-file {at}/cert.pem\ntls-auth-clients no\n",
            address.port()
        ),
    );
    let url = format!(
        "url: 'rediss://localhost:{}', timeout: 1s",
        redis.address.port()
    );
    let trusting = gateway_at(&backend, &format!("{url}, ca: '{at}/cert.pem'"));
    ready(&trusting);
    passes_again(&trusting);
    let doubting = gateway_at(&backend, &url);
    stays_unusable(&doubting);
}

#[test]
fn a_gateway_that_starts_before_its_store_becomes_ready_when_the_store_is_there() {
    let backend = Backend::start();
    let mut redis = Redis::start(DURABLE);
    redis.kill();
    let gateway = gateway(&backend, &redis);
    not_ready(&gateway);
    redis.spawn();
    ready(&gateway);
    passes_again(&gateway);
}
