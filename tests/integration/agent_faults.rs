//! The agent when something breaks: clocks, gateways, connections, and the agent itself.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Faketime;
use crate::support::agent::{Agent, Impostor, refusal};
use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::wait_for;
use crate::support::process::{Process, clock, free_address, unix_seconds};
use crate::support::tls;

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

fn serve(backend: &Backend) -> Process {
    Process::serve(backend, "{ delay: 0s, grace: 5s }")
}

/// A header of a recorded request.
fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(it, _)| it.eq_ignore_ascii_case(name));
    let (_, value) = found.next().unwrap();
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

#[test]
fn a_clock_ten_minutes_off_is_corrected_with_a_warning() {
    let backend = Backend::start();
    let gateway = serve(&backend);
    for off in [600, -600] {
        let time = Faketime::new();
        time.set(off);
        let url = format!("http://{}", gateway.address);
        let agent = Agent::start(&url, &[], time.environment());
        let before = backend.seen().len();
        for _ in 0..5 {
            assert_eq!(
                agent.request("GET", "/a", "", b"").status,
                200,
                "{}",
                agent.log()
            );
        }
        assert_eq!(backend.seen().len(), before + 5);
        let log = agent.log();
        assert!(log.contains("set the clock"), "{log}");
        assert_eq!(
            log.matches("signing by the gateway's time").count(),
            1,
            "{log}"
        );
        // Set right while it runs, it is right again.
        time.set(0);
        assert_eq!(
            agent.request("GET", "/a", "", b"").status,
            200,
            "{}",
            agent.log()
        );
    }
}

#[test]
fn a_refusal_that_breaks_off_is_not_passed_on_as_a_whole_answer() {
    let whole = refusal("503 Service Unavailable", "upstream_credential", "");
    let impostor = Impostor::answering(&[&whole[..whole.len() - 5]]);
    let agent = Agent::before(impostor.address);
    assert!(agent.try_request("GET", "/a", "", b"").is_none());
    assert_eq!(impostor.requests().len(), 1);
}

#[test]
fn the_log_holds_no_colours_where_it_is_no_terminal() {
    let agent = Agent::before(free_address());
    assert_eq!(agent.request("GET", "/;health", "", b"").status, 200);
    let log = agent.log();
    assert!(log.contains("signing") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_gateway_that_is_never_content_with_its_own_time_is_asked_twice() {
    let body =
        r#"{"error":"e","errors":["e"],"code":"clock_skew","request_id":"0a","server_time":NOW}"#;
    let body = body.replace("NOW", &(unix_seconds() + 600).to_string());
    let skew = format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nX-Request-Id: 0a\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let impostor = Impostor::answering(&[&skew]);
    let agent = Agent::before(impostor.address);
    assert_eq!(agent.request("GET", "/a", "", b"").code(), "clock_skew");
    assert_eq!(impostor.requests().len(), 2);
}

#[test]
fn what_passes_by_itself_is_tried_again_with_another_nonce() {
    for (status, code) in [
        ("503 Service Unavailable", "replay_unavailable"),
        ("503 Service Unavailable", "not_ready"),
        ("429 Too Many Requests", "throttled"),
    ] {
        let busy = refusal(status, code, "");
        let impostor = Impostor::answering(&[&busy, &busy, OK]);
        let agent = Agent::before(impostor.address);
        assert_eq!(agent.request("POST", "/a", "", b"x").status, 200, "{code}");
        let requests = impostor.requests();
        assert_eq!(requests.len(), 3, "{code}");
        let mut nonces: Vec<&str> = requests.iter().map(|it| header(it, "x-nonce")).collect();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), 3, "{code}");
    }
}

#[test]
fn retry_after_is_waited_for_and_what_is_too_long_is_passed_on() {
    let busy = refusal(
        "503 Service Unavailable",
        "replay_unavailable",
        "Retry-After: 1\r\n",
    );
    let impostor = Impostor::answering(&[&busy, OK]);
    let agent = Agent::before(impostor.address);
    let began = clock();
    assert_eq!(agent.request("GET", "/a", "", b"").status, 200);
    assert!(clock() - began >= Duration::from_secs(1));

    let long = refusal(
        "503 Service Unavailable",
        "replay_unavailable",
        "Retry-After: 600\r\n",
    );
    let impostor = Impostor::answering(&[&long, OK]);
    let agent = Agent::before(impostor.address);
    let answer = agent.request("GET", "/a", "", b"");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("600"))
    );
    assert_eq!(impostor.requests().len(), 1);
}

#[test]
fn no_other_answer_is_asked_for_twice() {
    let backend_says = "HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nX-Request-Id: 0a\r\n\
                        Connection: close\r\nContent-Length: 20\r\n\r\n{\"code\":\"not_ready\"}";
    for answer in [
        backend_says.to_owned(),
        refusal("503 Service Unavailable", "audit_unavailable", ""),
        refusal("503 Service Unavailable", "overloaded", ""),
        refusal("504 Gateway Timeout", "upstream_timeout", ""),
        refusal("502 Bad Gateway", "upstream_error", ""),
        refusal("401 Unauthorized", "replayed", ""),
    ] {
        let impostor = Impostor::answering(&[&answer, OK]);
        let agent = Agent::before(impostor.address);
        assert_ne!(
            agent.request("POST", "/a", "", b"x").status,
            200,
            "{answer}"
        );
        assert_eq!(impostor.requests().len(), 1, "{answer}");
    }
}

#[test]
fn a_connection_that_breaks_after_the_request_is_not_tried_again() {
    let impostor = Impostor::answering(&["", OK]);
    let agent = Agent::before(impostor.address);
    let answer = agent.request("POST", "/a", "", b"x");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "gateway_error")
    );
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(impostor.requests().len(), 1);
}

#[test]
fn a_gateway_that_comes_up_late_is_waited_for() {
    let (backend, address) = (Backend::start(), free_address());
    let agent = Agent::before(address);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| agent.request("GET", "/a", "", b""));
        std::thread::sleep(Duration::from_millis(500));
        // It stands for the gateway: what counts is that the request arrives, once.
        let late = Backend::at(address);
        assert_eq!(answer.join().unwrap().status, 200);
        assert_eq!(late.seen().len(), 1);
    });
    assert!(backend.seen().is_empty());
}

#[test]
fn a_gateway_that_never_comes_is_told_of_as_such() {
    let agent = Agent::start(&format!("http://{}", free_address()), &[], Vec::new());
    let answer = agent.request("GET", "/a", "", b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "gateway_unreachable")
    );
    assert!(
        answer.json()["error"]
            .to_string()
            .contains("takes no connection")
    );
}

/// Clients that send without a pause, each request to a path of its own.
struct Load {
    stop: AtomicBool,
    next: AtomicUsize,
    passed: AtomicUsize,
    /// How often which answer came; 0 is a connection that ended without one.
    answers: Mutex<HashMap<(u16, String), usize>>,
}

/// Runs the load beside `faults`, and checks what must hold at its end: nothing arrived twice, and
/// whatever was not 200 was said in a clean way.
fn under_load(backend: &Backend, agent: &Mutex<Agent>, faults: impl FnOnce(&Load)) -> Load {
    let load = Load {
        stop: AtomicBool::new(false),
        next: AtomicUsize::new(0),
        passed: AtomicUsize::new(0),
        answers: Mutex::default(),
    };
    let address = agent.lock().unwrap().address;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !load.stop.load(Ordering::SeqCst) {
                    let number = load.next.fetch_add(1, Ordering::SeqCst);
                    let answer = post(address, &format!("/v1/secret/{number}"));
                    let answer = answer.unwrap_or((0, String::new()));
                    if answer.0 == 200 {
                        load.passed.fetch_add(1, Ordering::SeqCst);
                    } else {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    *load.answers.lock().unwrap().entry(answer).or_default() += 1;
                }
            });
        }
        faults(&load);
        load.stop.store(true, Ordering::SeqCst);
    });
    let mut arrived: HashMap<String, usize> = HashMap::new();
    for seen in backend.seen() {
        *arrived.entry(seen.target).or_default() += 1;
    }
    let twice: Vec<_> = arrived.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(load.passed.load(Ordering::SeqCst) <= arrived.len());
    load
}

/// Status and code of the answer; `None` where there is none. Without a body: a gateway that is
/// killed may break off in the middle of one, which the backend would call odd.
fn post(address: std::net::SocketAddr, target: &str) -> Option<(u16, String)> {
    use crate::support::client::Client;
    let request = format!("POST {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    let mut client = Client::try_connect(address)?;
    client.send(request.as_bytes());
    let answer = client.receive_any()?;
    Some((answer.status, answer.code()))
}

impl Load {
    fn passes_again(&self) {
        let before = self.passed.load(Ordering::SeqCst);
        wait_for("service", || {
            (self.passed.load(Ordering::SeqCst) > before + 20).then_some(())
        });
    }
}

#[test]
fn a_gateway_that_is_killed_under_load_costs_clean_errors_and_no_second_delivery() {
    let backend = Backend::start();
    let mut gateway = serve(&backend);
    let agent = Mutex::new(Agent::before(gateway.address));
    let load = under_load(&backend, &agent, |load| {
        load.passes_again();
        for _ in 0..5 {
            gateway.kill();
            std::thread::sleep(Duration::from_millis(200));
            gateway.start_again();
            load.passes_again();
        }
    });
    for ((status, code), count) in load.answers.into_inner().unwrap() {
        let clean = [
            (200, ""),
            (502, "gateway_error"),
            (502, "gateway_unreachable"),
        ];
        assert!(
            clean.contains(&(status, &code)),
            "{status} {code}, {count} times"
        );
    }
}

#[test]
fn an_agent_that_is_killed_under_load_serves_again_and_nothing_arrives_twice() {
    let backend = Backend::start();
    let gateway = serve(&backend);
    let agent = Mutex::new(Agent::before(gateway.address));
    let load = under_load(&backend, &agent, |load| {
        load.passes_again();
        for _ in 0..5 {
            agent.lock().unwrap().kill();
            std::thread::sleep(Duration::from_millis(100));
            agent.lock().unwrap().start_again();
            load.passes_again();
        }
    });
    for ((status, code), count) in load.answers.into_inner().unwrap() {
        // What broke off with the agent has no answer at all.
        assert!(matches!(status, 0 | 200), "{status} {code}, {count} times");
    }
}

#[test]
fn a_413_that_comes_before_the_body_was_taken_is_the_answer() {
    let refusal = refusal("413 Content Too Large", "body_too_large", "");
    // It closes with most of the body unread, which resets the connection.
    let impostor = Impostor::answering(&[&refusal]);
    let agent = Agent::before(impostor.address);
    for size in [100 << 10, 1 << 20, 8 << 20] {
        for _ in 0..5 {
            let answer = agent.request("POST", "/a", "", &vec![b'a'; size]);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (413, "body_too_large"),
                "{size}: {}",
                agent.log()
            );
        }
    }
}

#[test]
fn such_a_413_is_the_answer_over_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    tls::write_certificate(folder.path());
    let config = std::sync::Arc::new(tls::server_config(folder.path(), None));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let refusal = refusal("413 Content Too Large", "body_too_large", "");
        for stream in listener.incoming().flatten() {
            // Or the kernel would still hold the answer back when the connection is reset.
            stream.set_nodelay(true).unwrap();
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(refusal.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    let authority = folder.path().join("cert.pem");
    let options = ["--cacert", authority.to_str().unwrap()];
    let agent = Agent::start(&format!("https://localhost:{port}"), &options, Vec::new());
    for _ in 0..5 {
        let answer = agent.request("POST", "/a", "", &vec![b'a'; 8 << 20]);
        assert_eq!(answer.code(), "body_too_large", "{}", agent.log());
    }
}

#[test]
fn a_gateway_that_closes_within_the_body_without_an_answer_is_still_in_doubt() {
    let impostor = Impostor::answering(&[""]);
    let agent = Agent::before(impostor.address);
    let answer = agent.request("POST", "/a", "", &vec![b'a'; 8 << 20]);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "gateway_error")
    );
    assert_eq!(impostor.requests().len(), 1);
}

#[test]
fn the_agents_own_refusal_reaches_a_client_that_is_still_sending() {
    let agent = Agent::before(free_address());
    let body = vec![b'a'; 20 << 20];
    for _ in 0..5 {
        let mut stream = std::net::TcpStream::connect(agent.address).unwrap();
        let head = format!(
            "POST /a HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).expect("the upload is taken");
        let mut client = Client::over(stream);
        let answer = client.receive_any().expect("an answer");
        assert_eq!(answer.code(), "forbidden_host");
    }
}
