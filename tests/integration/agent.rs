//! The agent between unmodified clients and a gateway.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::agent::{Agent, write_key};
use crate::support::backend::{Backend, Seen, ok};
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Options, machine, wait_for};
use crate::support::process::{Process, run, unix_seconds};
use crate::support::signer::Machine;

/// A gateway in the present, in which an agent lives.
fn gateway(backend: &Backend, routes: &str) -> Gateway {
    let options = Options {
        routes: routes.into(),
        start: unix_seconds() - 1,
        ..Options::default()
    };
    Gateway::with(backend, options)
}

const EVERYTHING: &str = "  - { path: /, upstream: secrets }\n";

#[test]
fn a_plain_request_arrives_signed_and_without_its_credential() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let lines = "X-Vault-Token: hvs.stolen\r\nAuthorization: Bearer stolen\r\nCookie: a=stolen\r\n\
                 X-Machine-Identity: root\r\nX-Machine-Id: root\r\nContent-Type: text/plain\r\n";
    let answer = agent.request("POST", "/v1/secret/a", lines, b"content");
    assert_eq!((answer.status, &*answer.body), (200, &b"{\"ok\":true}"[..]));
    let seen = backend.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/v1/secret/a")
    );
    assert_eq!(seen.body, b"content");
    assert_eq!(seen.one("x-machine-identity"), machine().id);
    assert_eq!(seen.one("content-type"), "text/plain");
    let said: Vec<&String> = seen.headers.iter().map(|(_, value)| value).collect();
    assert!(
        !said.iter().any(|value| value.contains("stolen")),
        "{said:?}"
    );
    assert!(!agent.log().contains("stolen"));
}

#[test]
fn a_query_is_signed_for_a_route_that_wants_it_so() {
    let backend = Backend::start();
    let gateway = gateway(
        &backend,
        "  - { path: /, upstream: secrets, query: signed }\n",
    );
    let agent = Agent::before(gateway.address);
    assert_eq!(
        agent
            .request("GET", "/v1/secret/data/a?version=2", "", b"")
            .status,
        200
    );
    assert_eq!(backend.only().target, "/v1/secret/data/a?version=2");
}

#[test]
fn a_query_is_left_behind_where_the_agent_is_told_that_the_route_strips_it() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let url = format!("http://{}", gateway.address);
    let agent = Agent::start(&url, &["--query", "strip"], Vec::new());
    assert_eq!(
        agent
            .request("GET", "/v1/secret/a?version=2", "", b"")
            .status,
        200
    );
    assert_eq!(backend.only().target, "/v1/secret/a");
}

#[test]
fn a_query_that_the_route_would_strip_is_refused_and_not_dropped_in_silence() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let answer = agent.request("GET", "/v1/secret/a?version=2", "", b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "bad_signature")
    );
    assert!(backend.seen().is_empty());
    wait_for("a hint", || {
        agent.log().contains("--query strip").then_some(())
    });
}

#[test]
fn what_a_web_page_could_send_never_reaches_the_gateway() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let host = format!("Host: {}\r\n", agent.address);
    for (method, lines, code) in [
        (
            "GET",
            format!("{host}Origin: http://evil.example\r\n"),
            "forbidden_origin",
        ),
        (
            "GET",
            format!("{host}Sec-Fetch-Site: cross-site\r\n"),
            "forbidden_origin",
        ),
        (
            "OPTIONS",
            format!("{host}Origin: null\r\nAccess-Control-Request-Method: PUT\r\n"),
            "forbidden_origin",
        ),
        ("GET", "Host: evil.example\r\n".into(), "forbidden_host"),
        ("GET", String::new(), "forbidden_host"),
    ] {
        let answer = agent.send(method, "/v1/secret/a", &lines, b"").unwrap();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, code),
            "{lines}"
        );
        assert_eq!(answer.json()["errors"][0], answer.json()["error"]);
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    assert!(backend.seen().is_empty());
    assert!(
        gateway
            .records()
            .iter()
            .all(|it| it["decision"] != "refused")
    );
}

#[test]
fn a_target_that_the_gateway_would_refuse_is_refused_here_with_the_reason() {
    let backend = Backend::start();
    let agent = Agent::before(backend.address);
    for (target, why) in [
        ("/a//b", "empty segment"),
        ("/a/../b", "'..'"),
        ("/a%2fb", "upper-case"),
        ("/a%41", "needs no encoding"),
        ("http://evil/a", "start with '/'"),
    ] {
        let answer = agent.request("GET", target, "", b"");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad_target"),
            "{target}"
        );
        let text = answer.json()["error"].to_string();
        assert!(text.contains(why), "{target}: {text}");
    }
    assert_eq!(
        agent.request("TRACE", "/a", "", b"").code(),
        "method_not_allowed"
    );
    assert!(backend.seen().is_empty());
}

#[test]
fn a_mebibyte_is_written_with_a_length_and_in_chunks() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let body: Vec<u8> = (0..1 << 20).map(|i: u32| ((i * 31) >> 3) as u8).collect();
    assert_eq!(
        agent.request("PUT", "/v1/secret/large", "", &body).status,
        200
    );
    assert_eq!(backend.seen()[0].body, body);

    let mut client = Client::connect(agent.address);
    let head = format!(
        "PUT /v1/secret/large HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        agent.address
    );
    client.send(head.as_bytes());
    for piece in body.chunks(60_000) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes());
        client.send(&[piece, b"\r\n"].concat());
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.receive_any().unwrap().status, 200);
    assert_eq!(backend.seen()[1].body, body);
}

#[test]
fn two_hundred_requests_at_once_all_pass_each_once() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let start = std::sync::Barrier::new(200);
    std::thread::scope(|scope| {
        for number in 0..200 {
            let (agent, start) = (&agent, &start);
            scope.spawn(move || {
                start.wait();
                let answer = agent.request("GET", &format!("/v1/secret/{number}"), "", b"");
                assert_eq!(answer.status, 200, "{}", agent.log());
            });
        }
    });
    let mut targets: Vec<String> = backend.seen().into_iter().map(|it| it.target).collect();
    targets.sort();
    targets.dedup();
    assert_eq!((targets.len(), backend.seen().len()), (200, 200));
}

#[test]
fn many_requests_share_a_connection_on_both_sides() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let mut client = Client::connect(agent.address);
    for _ in 0..20 {
        client.send(format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", agent.address).as_bytes());
        assert_eq!(client.receive_any().unwrap().status, 200);
    }
    assert_eq!(backend.seen().len(), 20);
}

#[test]
fn answers_cross_as_they_are_with_status_headers_and_body() {
    let backend = Backend::answering(|seen: &Seen| match seen.target.as_str() {
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/large" => ok(&vec![7; 3 << 20]),
        _ => b"HTTP/1.1 418 Teapot\r\nX-Odd: yes\r\nContent-Length: 5\r\n\r\nshort".to_vec(),
    });
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    let odd = agent.request("GET", "/odd", "", b"");
    assert_eq!(
        (odd.status, odd.header("x-odd"), &*odd.body),
        (418, Some("yes"), &b"short"[..])
    );
    assert!(odd.header("x-request-id").is_some());
    assert_eq!(agent.request("GET", "/none", "", b"").status, 204);
    assert_eq!(
        agent.request("GET", "/large", "", b"").body,
        vec![7; 3 << 20]
    );
}

#[test]
fn the_gateways_refusals_reach_the_client_as_they_are() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "  - { path: /v1, upstream: secrets }\n");
    let agent = Agent::before(gateway.address);
    let answer = agent.request("GET", "/elsewhere", "", b"");
    assert_eq!((answer.status, answer.code().as_str()), (404, "no_route"));
    assert_eq!(
        answer.header("x-request-id"),
        answer.json()["request_id"].as_str()
    );
}

#[test]
fn over_tls_the_gateway_has_to_be_the_one_that_is_meant() {
    let backend = Backend::start();
    let options = Options {
        tls: true,
        start: unix_seconds() - 1,
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let port = gateway.tls_address.unwrap().port();
    let ca = gateway.folder.path().join("cert.pem");
    let (url, ca) = (format!("https://localhost:{port}"), ca.to_str().unwrap());
    let agent = Agent::start(&url, &["--cacert", ca], Vec::new());
    assert_eq!(agent.request("GET", "/v1/secret/a", "", b"").status, 200);

    let other = format!("https://127.0.0.1:{port}");
    let config = "retry_for: 300ms\n";
    let agent = with_file(&other, &format!("ca: {ca}\n{config}"));
    let answer = agent.request("GET", "/v1/secret/a", "", b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "gateway_unreachable")
    );
    assert_eq!(backend.seen().len(), 1);
}

/// An agent of a file with these lines more.
fn with_file(gateway: &str, lines: &str) -> Agent {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.yaml");
    write_key(&folder.path().join("key.pem"), &machine());
    let id = machine().id;
    Agent::of_file(folder, |address| {
        let text = format!(
            "listen: {address}\ngateway: {gateway}\nkey: key.pem\nmachine_id: {id}\n{lines}"
        );
        fs::write(&file, text).unwrap();
        file.clone()
    })
}

#[test]
fn the_limits_of_a_file_hold() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let url = format!("http://{}", gateway.address);
    let agent = with_file(&url, "max_body: 1KiB\nbody_budget: 1KiB\n");
    let answer = agent.request("PUT", "/a", "", &[0; 1025]);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "body_too_large")
    );
    assert_eq!(agent.request("PUT", "/a", "", &[0; 1024]).status, 200);

    // One that is half sent holds what it declared; if the whole one came first, it was turned
    // away.
    let head = format!(
        "PUT /a HTTP/1.1\r\nHost: {}\r\nContent-Length: 1024\r\n\r\n",
        agent.address
    );
    let slow = wait_for("the budget to be used up", || {
        let mut slow = Client::connect(agent.address);
        slow.send(head.as_bytes());
        let other = agent.request("PUT", "/a", "", b"x");
        (other.code() == "overloaded").then_some(slow)
    });
    drop(slow);
    wait_for("the budget to return", || {
        (agent.request("PUT", "/a", "", b"x").status == 200).then_some(())
    });
}

#[test]
fn a_unix_socket_serves_curl_and_is_its_owners_alone() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listen = format!("unix:{}", socket.display());
    let url = format!("http://{}", gateway.address);
    let _agent = Agent::listening(&listen, &url);
    wait_for("the socket", || socket.exists().then_some(()));
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let curl = Command::new("curl")
        .args([
            "-sS",
            "--fail-with-body",
            "--unix-socket",
            socket.to_str().unwrap(),
        ])
        .arg("http://localhost/v1/secret/a")
        .output()
        .unwrap();
    assert!(
        curl.status.success(),
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );
    assert_eq!(backend.only().one("x-machine-identity"), machine().id);
}

#[test]
fn a_sikkerkey_identity_is_enough() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let folder = tempfile::tempdir().unwrap();
    write_key(&folder.path().join("private.pem"), &machine());
    let json = format!(
        r#"{{"machineId":"{}","machineName":"m","vaultId":"v","apiUrl":"http://localhost:{}"}}"#,
        machine().id,
        gateway.address.port()
    );
    fs::write(folder.path().join("identity.json"), json).unwrap();
    let identity = folder.path().to_str().unwrap().to_owned();
    let agent = Agent::with(|address| {
        ["--listen", address, "--identity", &identity]
            .map(str::to_owned)
            .into()
    });
    assert_eq!(agent.request("GET", "/v1/secret/a", "", b"").status, 200);
}

#[test]
fn a_key_that_is_replaced_is_signed_with_from_then_on() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let agent = Agent::before(gateway.address);
    assert_eq!(agent.request("GET", "/a", "", b"").status, 200);
    let new = agent.folder.path().join("new");
    write_key(&new, &Machine::new("machine-1", 2));
    fs::rename(new, agent.folder.path().join("key.pem")).unwrap();
    wait_for("the new key", || {
        (agent.request("GET", "/a", "", b"").code() == "bad_signature").then_some(())
    });
    // One that is bad changes nothing.
    fs::write(agent.folder.path().join("key.pem"), "half a k").unwrap();
    wait_for("a word about it", || {
        agent.log().contains("last good one stays").then_some(())
    });
    assert_eq!(agent.request("GET", "/a", "", b"").code(), "bad_signature");
}

#[test]
fn a_stop_lets_requests_in_flight_finish() {
    let backend = Backend::answering(|_| {
        std::thread::sleep(std::time::Duration::from_millis(700));
        ok(b"late")
    });
    let gateway = gateway(&backend, EVERYTHING);
    let mut agent = Agent::before(gateway.address);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| agent.request("GET", "/a", "", b""));
        std::thread::sleep(std::time::Duration::from_millis(300));
        agent.terminate();
        assert_eq!(answer.join().unwrap().body, b"late");
    });
    assert_eq!(agent.wait(), 0);
    assert!(Client::try_connect(agent.address).is_none());
}

#[test]
fn the_health_path_is_one_that_no_backend_can_have() {
    let backend = Backend::start();
    let agent = Agent::before(backend.address);
    assert_eq!(agent.request("GET", "/;health", "", b"").status, 200);
    assert!(backend.seen().is_empty());
}

#[test]
fn a_key_that_others_may_read_and_an_address_that_others_reach_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    write_key(&key, &machine());
    let start = |listen: &str, gateway: &str| {
        let key = key.to_str().unwrap();
        let output = run(&[
            "agent",
            "--listen",
            listen,
            "--gateway",
            gateway,
            "--key",
            key,
            "--machine-id",
            "m",
        ]);
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let here = "http://127.0.0.1:1";
    let (code, text) = start("0.0.0.0:0", "http://10.0.0.1:8080");
    assert_eq!(code, Some(64));
    assert!(
        text.contains("--listen:") && text.contains("--gateway:"),
        "{text}"
    );

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, text) = start("127.0.0.1:0", here);
    assert_eq!(code, Some(78));
    assert!(
        text.contains("0640") && text.contains("chmod 600"),
        "{text}"
    );
    assert!(start("127.0.0.1:0", "gw").1.contains("https://"));
}

#[test]
fn the_agents_file_is_checked_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.yaml");
    fs::write(
        &file,
        "listen: 8200\ngatway: https://gw\nkey: k\nretry_for: 20\n",
    )
    .unwrap();
    let output = run(&["agent", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    for key in ["listen:", "gatway:", "machine_id:", "retry_for:"] {
        assert!(text.contains(key), "{key} in {text}");
    }
}

#[test]
fn a_gateway_in_its_own_process_is_served_too() {
    let backend = Backend::start();
    let gateway = Process::serve(&backend, "{ delay: 0s, grace: 5s }");
    let agent = Agent::before(gateway.address);
    assert_eq!(agent.request("LIST", "/v1/secret/", "", b"").status, 200);
    assert_eq!(backend.only().method, "LIST");
}

/// A gateway whose route observes, and strips queries.
fn observing(backend: &Backend) -> Gateway {
    let until = rfc3339_in_an_hour();
    let route =
        format!("  - {{ path: /, upstream: secrets, mode: observe, observe_until: '{until}' }}\n");
    gateway(backend, &route)
}

fn rfc3339_in_an_hour() -> String {
    let date = Command::new("date")
        .args(["-u", "-d", "+1 hour", "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    String::from_utf8(date.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn on_an_observed_route_the_log_says_what_enforcing_would_refuse() {
    let backend = Backend::answering(|_| b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec());
    let gateway = observing(&backend);
    let agent = Agent::before(gateway.address);
    assert_eq!(agent.request("GET", "/a?version=1", "", b"").status, 403);
    wait_for("the line", || {
        let log = agent.log();
        let is_there = log.contains("only observes") && log.contains("bad_signature");
        (is_there && log.contains("query: signed")).then_some(())
    });
}

#[test]
fn a_query_that_the_agent_drops_is_in_its_log() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let url = format!("http://{}", gateway.address);
    let agent = Agent::start(&url, &["--query", "strip"], Vec::new());
    assert_eq!(agent.request("GET", "/a?token=hush", "", b"").status, 200);
    assert!(agent.log().contains("query was dropped") && !agent.log().contains("hush"));
}

#[test]
fn a_gateway_that_is_not_there_is_in_the_log_from_the_start_and_when_it_is_back() {
    let backend = Backend::start();
    let gateway = gateway(&backend, EVERYTHING);
    let nobody = crate::support::process::free_address();
    let agent = Agent::before(nobody);
    wait_for("the line at the start", || {
        agent
            .log()
            .contains(&format!("cannot reach the gateway at http://{nobody}"))
            .then_some(())
    });
    drop(agent);
    let agent = Agent::before(gateway.address);
    assert_eq!(agent.request("GET", "/a", "", b"").status, 200);
    assert!(!agent.log().contains("cannot reach"), "{}", agent.log());
}

#[test]
fn a_header_that_must_not_be_lost_is_refused_by_the_agent_and_crosses_where_it_is_told_so() {
    let backend = Backend::start();
    let gateway = gateway(
        &backend,
        "  - { path: /, upstream: secrets, forward_headers: [Depth] }\n",
    );
    let url = format!("http://{}", gateway.address);
    let (plain, told) = (
        Agent::before(gateway.address),
        Agent::start(&url, &["--forward-header", "Depth"], Vec::new()),
    );
    let line = "Depth: 1\r\n";
    let answer = plain.request("GET", "/a", line, b"");
    assert_eq!(
        (answer.status, &*answer.code()),
        (400, "header_not_forwarded")
    );
    assert_eq!(backend.connections(), 0);
    assert_eq!(told.request("GET", "/a", line, b"").status, 200);
    assert_eq!(backend.only().one("depth"), "1");
}

#[test]
fn response_wrapping_is_for_the_gateways_route_to_allow() {
    let backend = Backend::start();
    let gateway = gateway(
        &backend,
        "  - { path: /, upstream: secrets, forward_headers: [X-Vault-Wrap-TTL] }\n  \
         - { path: /plain, upstream: secrets }\n",
    );
    let agent = Agent::before(gateway.address);
    let line = "X-Vault-Wrap-TTL: 5m\r\n";
    assert_eq!(agent.request("GET", "/a", line, b"").status, 200);
    assert_eq!(backend.only().one("x-vault-wrap-ttl"), "5m");
    let refused = agent.request("GET", "/plain", line, b"");
    assert_eq!(
        (refused.status, &*refused.code()),
        (400, "header_not_forwarded")
    );
    assert_eq!(backend.seen().len(), 1);
}
