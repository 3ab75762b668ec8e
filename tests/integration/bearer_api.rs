//! The gateway before an HTTP API that wants a bearer key and streams its answers, as
//! docs/bearer-api.md has it: programs call it as ever, and none of them holds the key.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::backend::{Backend, read_head, response, scripted};
use crate::support::gateway::{Gateway, Options, machine, raw, registry, wait_for};
use crate::support::process::unix_seconds;

const KEY: &str = "sk-proj-4fz0Xk2mVbQ9_tR7-wLhYc81";

const EVENTS: usize = 12;

/// An API. It refuses every other key, streams events of a completion one by one as it is told to,
/// and has a page that shows request headers.
struct Api {
    address: SocketAddr,
    go: Sender<()>,
}

impl Api {
    fn start() -> Api {
        let (go, told) = channel();
        let told = Arc::new(Mutex::new(told));
        let address = scripted(move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                if !answer(&mut stream, &head, &told.lock().unwrap()) {
                    return;
                }
            }
        });
        Api { address, go }
    }
}

/// Answers a request; `false` if the connection is of no more use.
fn answer(stream: &mut TcpStream, head: &str, told: &Receiver<()>) -> bool {
    let head = head.to_ascii_lowercase();
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).is_err() {
        return false;
    }
    let keys: Vec<&str> = head
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("authorization: "))
        .collect();
    if keys != [format!("bearer {}", KEY.to_ascii_lowercase())] {
        let refusal = response("401 Unauthorized", "", b"{\"error\":\"invalid key\"}");
        return stream.write_all(&refusal).is_ok();
    }
    if head.starts_with("post /v1/chat/completions ") {
        return stream_events(stream, told).is_ok();
    }
    let body = match head.starts_with("get /v1/debug ") {
        true => format!("your headers: Authorization: Bearer {KEY}"),
        false => "{\"data\":[]}".to_owned(),
    };
    stream
        .write_all(&response("200 OK", "", body.as_bytes()))
        .is_ok()
}

/// Streams events, each when the one before it has been received.
fn stream_events(stream: &mut TcpStream, told: &Receiver<()>) -> std::io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    for number in 0..EVENTS {
        let event = event(number);
        write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
        let received = told.recv_timeout(Duration::from_secs(30));
        received.map_err(std::io::Error::other)?;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// An event whose text is a beginning of the key, so that the echo check has something to think of.
fn event(number: usize) -> String {
    format!("data: {{\"delta\":\"{}\"}}\n\n", &KEY[..number])
}

/// In the time of the system, by which an agent signs.
fn before(api: &Api) -> Gateway {
    let rules = "    allow: ['POST /v1/chat/completions', 'read /v1/models', 'GET /v1/debug']\n";
    Gateway::with(
        &Backend::start(),
        Options {
            servers: Some(vec![format!("http://{}", api.address)]),
            upstream:
                "    credential: { header: Authorization, prefix: 'Bearer ', file: token }\n    \
                       check: GET /v1/models\n"
                    .into(),
            token: Some(KEY.into()),
            routes: "  - { path: /v1, upstream: secrets, query: signed }\n".into(),
            machines: registry(&[&machine()]) + rules,
            start: unix_seconds() - 1,
            ..Options::default()
        },
    )
}

/// Receives a stream of events, and lets each next one be sent only when it has the one before.
fn receive_events(stream: TcpStream, api: &Api) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    assert_eq!(line(&mut reader), "HTTP/1.1 200 OK");
    let mut head = String::new();
    loop {
        match line(&mut reader) {
            end if end.is_empty() => break,
            header => head += &format!("{header}\n").to_ascii_lowercase(),
        }
    }
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(!head.contains(&KEY.to_ascii_lowercase()));
    let mut chunk = || {
        let size = usize::from_str_radix(&line(&mut reader), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        String::from_utf8(chunk).unwrap()
    };
    for number in 0..EVENTS {
        let mut arrived = String::new();
        while arrived.len() < event(number).len() {
            arrived += &chunk();
        }
        assert_eq!(arrived, event(number));
        api.go.send(()).unwrap();
    }
    assert_eq!(chunk(), "");
}

const PROMPT: &[u8] = b"{\"stream\":true,\"messages\":[]}";

#[test]
fn a_program_that_signs_gets_each_event_before_the_next_is_sent() {
    let api = Api::start();
    let gateway = before(&api);
    let target = "/v1/chat/completions";
    let lines = gateway.sign(&machine(), "POST", target, PROMPT).lines();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    (stream.write_all(&raw("POST", target, &lines, PROMPT))).unwrap();
    receive_events(stream, &api);
    let record = &gateway.decisions("accepted", 1)[0];
    assert_eq!(record["path"], target);
    assert_eq!(record["machine"]["id"], machine().id);
}

#[test]
fn a_program_behind_an_agent_calls_as_ever_with_a_key_that_is_none() {
    let api = Api::start();
    let gateway = before(&api);
    let agent = Agent::before(gateway.address);
    let (address, length) = (agent.address, PROMPT.len());
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
         Authorization: Bearer any-text\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    (stream.write_all(&[request.as_bytes(), PROMPT].concat())).unwrap();
    receive_events(stream, &api);
}

#[test]
fn the_api_refuses_a_program_that_goes_around_the_gateway() {
    let api = Api::start();
    let mut stream = TcpStream::connect(api.address).unwrap();
    let request = "GET /v1/models HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer any-text\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let head = read_head(&mut stream).unwrap();
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
}

#[test]
fn a_machine_calls_what_its_rules_allow_and_nothing_else() {
    let api = Api::start();
    let gateway = before(&api);
    assert_eq!(gateway.request("GET", "/v1/models", b"").status, 200);
    let refused = gateway.request("GET", "/v1/files", b"");
    assert_eq!((refused.status, &*refused.code()), (403, "not_permitted"));
}

#[test]
fn a_page_of_the_api_that_shows_the_key_does_not_reach_the_program() {
    let api = Api::start();
    let gateway = before(&api);
    let answer = gateway.request("GET", "/v1/debug", b"");
    assert_eq!((answer.status, &*answer.code()), (502, "upstream_error"));
    assert!(!format!("{answer:?}").contains(&KEY[..8]));
    let found = "countersign_credential_echoes_total{upstream=\"secrets\"}";
    assert_eq!(gateway.metric(found), 1.0);
}

#[test]
fn a_key_that_the_api_no_longer_takes_is_not_the_programs_fault() {
    let api = Api::start();
    let gateway = before(&api);
    std::fs::write(
        gateway.folder.path().join("token"),
        "sk-proj-revoked-long-ago",
    )
    .unwrap();
    wait_for("the other key", || {
        let answer = gateway.request("GET", "/v1/models", b"");
        (answer.code() == "upstream_credential").then_some(())
    });
}
