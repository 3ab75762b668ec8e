//! What must hold for every input, whoever made it: a fuzzer, or the tests on a stable compiler.
//! Each function panics where it does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign::audit::report::Tally;
use countersign::config::{self, Environment};
use countersign::registry::Registry;
use countersign::server::GatewayServer;
use countersign_client::clock::Clock;
use countersign_core::header_name::SigningHeader;
use countersign_core::headers::{Occurrence, SigningHeaders};
use countersign_core::message::{BodyHash, Unhashed};
use countersign_core::message::{Nonce, Timestamp};
use countersign_core::method::{METHODS, Method};
use countersign_core::policy::rule::Rule;
use countersign_core::target::{QueryPolicy, Target};

/// A target that is taken is in origin form, is the bytes that were sent, and has one reading.
pub fn target(data: &[u8]) {
    let Ok(target) = Target::parse(data) else {
        return;
    };
    assert_eq!(target.to_string().as_bytes(), data);
    let path = target.path();
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    assert!(
        path.split('/')
            .all(|segment| segment != "." && segment != ".."),
        "{path}"
    );
    assert!(
        data.iter().all(|byte| (0x21..=0x7e).contains(byte)),
        "{path}"
    );
    assert!(!path.contains([';', '\\', '#', '?']), "{path}");
    match target.query() {
        Some(query) => assert_eq!(format!("{path}?{query}"), target.to_string()),
        None => assert_eq!(path, target.to_string()),
    }
}

/// A log, whatever it is, becomes a report in which each line and each request counts once.
pub fn report(data: &[u8]) {
    let mut tally = Tally::new(None, 3);
    let read = tally.read("audit.jsonl", &mut &*data);
    assert!(read.is_ok());
    let report = tally.finish();
    let lines = data.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty()).count();
    assert_eq!(report.lines, lines as u64);
    assert!(report.unread + report.seen.requests <= report.lines);
    assert_eq!(report.first_unread.is_some(), report.unread > 0);
    let mut requests = report.no_route.requests + report.routes_left_out;
    for (path, route) in &report.routes {
        let unsigned = [&route.bearer, &route.observed];
        for usage in unsigned {
            assert!(usage.served <= usage.answered, "{path}");
            assert!(usage.answered <= usage.seen.requests, "{path}");
        }
        let signed = [&route.signed, &route.open, &route.refused];
        requests += signed.iter().map(|seen| seen.requests).sum::<u64>() + route.unsigned();
    }
    assert_eq!(requests, report.seen.requests);
}

/// A path without the escapes that clients may leave out.
fn unescaped(path: &str) -> String {
    "!$&'()*+,;=:@".chars().fold(path.to_owned(), |path, sign| {
        path.replace(&format!("%{:02X}", u32::from(sign)), &sign.to_string())
    })
}

/// A rule that is taken prints back, names a path that a request can have, and without a star
/// allows that path alone. The rule is behind the first line end, the target that is asked about
/// before it.
pub fn rule(data: &[u8]) {
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let (Some(target), Some(text)) = (lines.next(), lines.next()) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(rule) = Rule::parse(text) else {
        return;
    };
    assert_eq!(rule.to_string(), text);
    let (_, pattern) = text.split_once(' ').expect("methods and a path");
    assert!(Target::parse(pattern.as_bytes()).is_ok(), "{pattern}");
    let Ok(target) = Target::parse(target) else {
        return;
    };
    for method in METHODS {
        if rule.allows(method, target.path()) && !pattern.contains('*') {
            assert_eq!(unescaped(target.path()), unescaped(pattern));
        }
        // Nothing that a target can be escapes the widest rule but the root.
        let all = Rule::parse("any /**").expect("a rule");
        assert_eq!(all.allows(method, target.path()), target.path() != "/");
    }
}

/// Signing headers that are taken have one spelling. The four values are behind line ends.
pub fn headers(data: &[u8]) {
    let values: Vec<&[u8]> = data.splitn(4, |&byte| byte == b'\n').collect();
    let [id, timestamp, nonce, signature] = values[..] else {
        return;
    };
    let signature = signature.strip_suffix(b"\n").unwrap_or(signature);
    let parsed = SigningHeaders::parse(|header| {
        Occurrence::Once(match header {
            SigningHeader::MachineId => id,
            SigningHeader::Timestamp => timestamp,
            SigningHeader::Nonce => nonce,
            SigningHeader::Signature => signature,
        })
    });
    let Ok(headers) = parsed else {
        return;
    };
    assert_eq!(headers.machine_id.as_bytes(), id);
    assert_eq!(
        headers.timestamp.unix_seconds().to_string().as_bytes(),
        timestamp
    );
    assert_eq!(headers.nonce.as_str().as_bytes(), nonce);
    assert_eq!(signature.len(), 88);
}

/// Two requests that give the same bytes to sign are the same request.
pub fn message(data: &[u8]) {
    let half = data.len() / 2;
    let (Some(one), Some(other)) = (signed(&data[..half]), signed(&data[half..])) else {
        return;
    };
    assert_eq!(
        one.0 == other.0,
        one.1 == other.1,
        "{:?} {:?}",
        one.1,
        other.1
    );
}

/// The bytes to sign, and what they are made of, of fields behind line ends.
fn signed(data: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let fields: Vec<&[u8]> = data.splitn(5, |&byte| byte == b'\n').collect();
    let [method, target, timestamp, nonce, body] = fields[..] else {
        return None;
    };
    let method = Method::accept(std::str::from_utf8(method).ok()?, &[])?;
    let target = Target::parse(target)
        .ok()?
        .under(QueryPolicy::Signed)
        .ok()?;
    let message = Unhashed::new(
        method,
        target,
        Timestamp::parse(timestamp)?,
        Nonce::parse(nonce)?,
    )
    .with_body(BodyHash::of(body));
    let parts = fields.iter().map(|field| field.to_vec()).collect();
    Some((message.as_bytes().to_vec(), parts))
}

/// A registry is taken whole, or every mistake is told in lines that name the file.
pub fn registry(data: &[u8]) {
    let Ok(file) = tempfile::NamedTempFile::new() else {
        return;
    };
    if std::fs::write(file.path(), data).is_err() {
        return;
    }
    match Registry::load(file.path(), None) {
        Ok(registry) => {
            for machine in registry.machines() {
                assert!(!machine.keys.is_empty());
                assert_eq!(
                    registry.find(machine.id.as_str()).map(|found| &found.id),
                    Some(&machine.id)
                );
            }
        }
        Err(mistakes) => {
            let (text, file) = (mistakes.to_string(), file.path().display().to_string());
            assert!(!text.is_empty() && text.contains(&file), "{text}");
        }
    }
}

/// A configuration is taken whole, or every mistake is told. Nothing is looked up for it.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let environment = Environment {
        variable: |_| Ok("a-secret-value".to_owned()),
        resolve: |_| Ok(vec![SocketAddr::from(([127, 0, 0, 1], 8200))]),
        now: 1_800_000_000,
    };
    match config::read(text, Path::new("/nowhere/countersign.yaml"), &environment) {
        Ok(loaded) => {
            assert!(!loaded.config.listeners.is_empty());
            let shown = format!("{:?}", loaded.config);
            assert!(!shown.contains("a-secret-value"), "a secret is printed");
        }
        Err(mistakes) => {
            let text = mistakes.to_string();
            assert!(
                text.contains("countersign.yaml") && !text.contains("a-secret-value"),
                "{text}"
            );
        }
    }
}

/// A raw request that nobody signed is answered or its connection ended, and the backend gets not
/// even a connection; nor does the gateway stop to serve.
pub fn request(data: &[u8]) {
    let field = FIELD.get_or_init(Field::start);
    let Ok(mut stream) = TcpStream::connect(field.gateway) else {
        return;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.write_all(data);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let told = answer.escape_ascii();
    assert!(
        ended.is_ok() || !answer.is_empty(),
        "neither an answer nor an end"
    );
    assert!(
        answer.is_empty()
            || answer.starts_with(b"HTTP/1.1 4")
            || answer.starts_with(b"HTTP/1.1 100 "),
        "{told}"
    );
    assert_eq!(field.connections.load(Ordering::SeqCst), 0, "{told}");
}

static FIELD: OnceLock<Field> = OnceLock::new();

/// A gateway in this process, and a backend that counts its connections.
struct Field {
    gateway: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Field {
    /// It lives as long as the process.
    #[allow(clippy::unwrap_used, reason = "without it there is nothing to test")]
    fn start() -> Field {
        let connections = Arc::new(AtomicUsize::new(0));
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = backend.local_addr().unwrap();
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for _ in backend.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("machines.yaml"), "machines: []\n").unwrap();
            let text = format!(
                "listeners: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
                 registry: {{ file: machines.yaml }}\nupstreams: {{ a: {{ servers: ['http://{address}'] }} }}\n\
                 routes: [{{ path: /, upstream: a }}]\naudit: {{ file: audit.jsonl }}\n\
                 replay: {{ state_dir: none }}\nthrottle: {{ failures_per_minute: 0 }}\n\
                 limits: {{ header_timeout: 100ms, body_timeout: 100ms, keepalive: 100ms, drain_timeout: 100ms }}\n"
            );
            let file = folder.path().join("countersign.yaml");
            let loaded =
                config::read(&text, &file, &Environment::of_process(1_800_000_000)).unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = GatewayServer::bind(loaded.config, Clock::system())
                    .await
                    .unwrap();
                tell.send(server.addresses()[0]).unwrap();
                server.run(std::future::pending()).await;
            });
        });
        Field {
            gateway: told.recv().unwrap(),
            connections,
        }
    }
}
