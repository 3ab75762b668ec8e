//! Servers that fail: how requests go round them, and how they come back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::backend::{self, Backend};
use crate::support::gateway::{Gateway, Options, wait_for};
use crate::support::process::free_address;

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn of(servers: &[SocketAddr], upstream: &str) -> Options {
    Options {
        servers: Some(servers.iter().copied().map(url).collect()),
        upstream: upstream.to_owned(),
        ..Options::default()
    }
}

fn sample(gateway: &Gateway, name: &str, server: SocketAddr) -> f64 {
    let labels = format!("{{server=\"{server}\",upstream=\"secrets\"}}");
    gateway.metric(&format!("countersign_upstream_{name}{labels}"))
}

/// A port at which nobody listens: it takes root to.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

#[test]
fn a_server_that_takes_no_connections_is_passed_over_and_tried_again_after_its_hold() {
    let backend = Backend::start();
    let gateway = Gateway::with(&backend, of(&[nobody(), backend.address], ""));
    for _ in 0..20 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!(sample(&gateway, "connect_errors_total", nobody()), 3.0);
    assert_eq!(sample(&gateway, "ejections_total", nobody()), 1.0);
    assert_eq!(sample(&gateway, "healthy", nobody()), 0.0);
    assert_eq!(sample(&gateway, "healthy", backend.address), 1.0);

    gateway.hands.advance(Duration::from_secs(1));
    for _ in 0..20 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!(sample(&gateway, "connect_errors_total", nobody()), 4.0);
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let address = free_address();
    let other = Backend::start();
    let gateway = Gateway::with(&other, of(&[address, other.address], ""));
    for _ in 0..10 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!(sample(&gateway, "healthy", address), 0.0);
    let back = Backend::at(address);
    gateway.hands.advance(Duration::from_secs(1));
    for _ in 0..10 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!(sample(&gateway, "healthy", address), 1.0);
    assert!(back.seen().len() >= 4, "{}", back.seen().len());
}

#[test]
fn where_all_servers_are_out_they_are_tried_all_the_same() {
    let address = free_address();
    let unused = Backend::start();
    let gateway = Gateway::with(&unused, of(&[address], ""));
    for _ in 0..5 {
        assert_eq!(
            gateway.request("GET", "/a", b"").code(),
            "upstream_unreachable"
        );
    }
    assert_eq!(sample(&gateway, "healthy", address), 0.0);
    // No hold has passed.
    let back = Backend::at(address);
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    assert_eq!(back.seen().len(), 1);
    assert_eq!(gateway.admin_get("/readyz").0, 200);
}

#[test]
fn a_server_that_gives_no_answers_is_passed_over() {
    let silent = Backend::answering(|_| {
        std::thread::sleep(Duration::from_secs(15));
        Vec::new()
    });
    let backend = Backend::start();
    // Long enough for the other server on a machine that has much to do.
    let options = of(&[silent.address, backend.address], "    read_timeout: 2s\n");
    let gateway = Gateway::with(&backend, options);
    let answers: Vec<_> = (0..20)
        .map(|_| gateway.request("GET", "/a", b"").status)
        .collect();
    let late = answers.iter().filter(|&&status| status == 504).count();
    assert_eq!(late, 3, "{answers:?}");
    assert_eq!(sample(&gateway, "healthy", silent.address), 0.0);
}

#[test]
fn requests_go_by_weight() {
    let (heavy, light) = (Backend::start(), Backend::start());
    // A table of url and weight is YAML as much as JSON, so it goes in as a server.
    let upstream = format!(
        "    servers: [{{ url: {:?}, weight: 3 }}, {:?}]\n",
        url(heavy.address),
        url(light.address)
    );
    let gateway = Gateway::with(
        &heavy,
        Options {
            upstream,
            servers: Some(Vec::new()),
            ..Options::default()
        },
    );
    for _ in 0..8 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!((heavy.seen().len(), light.seen().len()), (6, 2));
}

/// Answers its health check with a status that can be changed, and all else with 200.
fn with_health(status: &Arc<AtomicU16>) -> Backend {
    let status = Arc::clone(status);
    Backend::answering(move |seen| match seen.target.as_str() {
        "/v1/sys/health" => {
            let status = status.load(Ordering::Relaxed).to_string();
            backend::response(&format!("{status} Whatever"), "", b"{}")
        }
        _ => backend::ok(b"ok"),
    })
}

fn served(backend: &Backend) -> usize {
    let seen = backend.seen();
    seen.iter().filter(|seen| seen.target == "/a").count()
}

#[test]
fn of_vaults_servers_only_the_active_one_is_asked_and_the_next_one_after_it() {
    let (one, other) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(429)));
    let (active, standby) = (with_health(&one), with_health(&other));
    let checks = "    health: { path: /v1/sys/health, interval: 100ms, unhealthy: 1 }\n";
    let gateway = Gateway::with(&active, of(&[active.address, standby.address], checks));
    let healthy = |backend: &Backend| sample(&gateway, "healthy", backend.address) == 1.0;
    wait_for("the first checks", || (!healthy(&standby)).then_some(()));
    for _ in 0..10 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!((served(&active), served(&standby)), (10, 0));

    one.store(503, Ordering::Relaxed);
    other.store(200, Ordering::Relaxed);
    wait_for("the change", || {
        (healthy(&standby) && !healthy(&active)).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    }
    assert_eq!((served(&active), served(&standby)), (10, 10));

    // Both sealed: better the server's own answer than none.
    other.store(503, Ordering::Relaxed);
    wait_for("the end of health", || (!healthy(&standby)).then_some(()));
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    assert_eq!(gateway.admin_get("/readyz").0, 200);
}

#[test]
fn a_health_check_without_an_answer_in_time_is_a_bad_one() {
    let stuck = Arc::new(AtomicBool::new(false));
    let is_stuck = Arc::clone(&stuck);
    let backend = Backend::answering(move |_| {
        while is_stuck.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        backend::ok(b"ok")
    });
    let checks = "    health: { path: /, interval: 100ms, timeout: 100ms }\n";
    let gateway = Gateway::with(&backend, of(&[backend.address], checks));
    let healthy = || sample(&gateway, "healthy", backend.address);
    wait_for("a check", || (!backend.seen().is_empty()).then_some(()));
    assert_eq!(healthy(), 1.0);
    stuck.store(true, Ordering::Relaxed);
    wait_for("two bad checks", || (healthy() == 0.0).then_some(()));
    stuck.store(false, Ordering::Relaxed);
    wait_for("a good one", || (healthy() == 1.0).then_some(()));
}

/// What a backend does with a connection on which it has answered a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// Closes it at once, without having said so.
    AtOnce,
    /// Closes it when it has been idle for so long.
    After(Duration),
    /// Closes it in the very moment in which the next request arrives, unread.
    OnTheNext,
}

/// Counts the requests that it has read, and the connections that it has closed.
fn closing(ends: Ends) -> (SocketAddr, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let theirs = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&theirs);
            std::thread::spawn(move || {
                let [read, closed] = &*counts;
                serve_until_it_ends(stream, ends, read);
                closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, counts)
}

fn serve_until_it_ends(mut stream: TcpStream, ends: Ends, count: &AtomicUsize) {
    stream.set_nodelay(true).unwrap();
    for nth in 0.. {
        if let Ends::After(idle) = ends {
            stream.set_read_timeout(Some(idle)).unwrap();
        }
        if ends == Ends::OnTheNext && nth > 0 {
            let _ = stream.peek(&mut [0]);
            return;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        count.fetch_add(1, Ordering::SeqCst);
        let _ = stream.write_all(&backend::ok(b"ok"));
        if ends == Ends::AtOnce {
            return;
        }
    }
}

/// Requests, with pauses between them, to a backend that ends connections: how many failed.
fn failures(ends: Ends, idle_timeout: &str, pause: Duration) -> usize {
    let (address, counts) = closing(ends);
    let [read, closed] = &*counts;
    let options = of(&[address], &format!("    idle_timeout: {idle_timeout}\n"));
    let gateway = Gateway::with(&Backend::start(), options);
    const REQUESTS: usize = 20;
    let mut failed = 0;
    for _ in 0..REQUESTS {
        let answer = gateway.request("GET", "/a", b"");
        match answer.status {
            200 => {}
            // Never a second try: who knows what the backend has done with the first.
            _ => {
                assert_eq!(answer.code(), "upstream_error");
                failed += 1;
            }
        }
        std::thread::sleep(pause);
        if ends != Ends::OnTheNext {
            // Each connection is closed after one request, sooner or later on a busy machine.
            let all = read.load(Ordering::SeqCst);
            wait_for("its end", || {
                (closed.load(Ordering::SeqCst) == all).then_some(())
            });
        }
        gateway.hands.advance(pause);
    }
    assert_eq!(
        read.load(Ordering::SeqCst),
        REQUESTS - failed,
        "each at most once"
    );
    failed
}

#[test]
fn a_connection_that_the_backend_has_closed_is_not_used_again() {
    let pause = Duration::from_millis(20);
    assert_eq!(failures(Ends::AtOnce, "4s", pause), 0);
    let idle = Duration::from_millis(10);
    assert_eq!(failures(Ends::After(idle), "4s", 3 * pause), 0);
}

#[test]
fn a_request_that_meets_a_closing_connection_fails_and_is_not_sent_again() {
    let failed = failures(Ends::OnTheNext, "4s", Duration::from_millis(5));
    assert!(failed >= 5, "{failed}");
}

#[test]
fn an_idle_time_below_the_backends_lets_no_request_meet_a_closing_connection() {
    // The gateway lets go of a connection before the backend would.
    let failed = failures(Ends::OnTheNext, "10ms", Duration::from_millis(60));
    assert_eq!(failed, 0);
}
