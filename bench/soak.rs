//! Honest requests, and every kind of attack beside them at once, for SOAK_MINUTES: what the honest
//! ones get, and what the gateway takes of memory and descriptors meanwhile and after.
//!
//!     make soak MINUTES=5
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures time, and is told how long"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

mod support;

use support::{Gateway, Honest, ask_honestly, connect_from, request, strangers_key};

const HONEST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Rows of the table.
const ROWS: u32 = 10;
/// What is left of an attack must be gone so long after its end.
const AFTER: Duration = Duration::from_secs(15);

/// An attack: does one thing, in the turn given, from the address given.
type Attack = fn(&Gateway, u64, IpAddr);

/// With how many threads each goes on.
const ATTACKS: [(&str, usize, Attack); 6] = [
    ("bad signatures", 4, bad_signature),
    ("connections that say nothing", 2, silence),
    ("half a header", 64, half_a_header),
    ("large bodies with bad signatures", 2, large_body),
    ("rapid reset", 1, rapid_reset),
    ("continuations without end", 1, continuations),
];

fn main() {
    let minutes = std::env::var("SOAK_MINUTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let length = Duration::from_secs(60 * minutes.unwrap_or(5));
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "limits: { header_timeout: 5s }");
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let honest = Mutex::new(Honest::default());
    let slow = slowhttptest(&gateway, length);
    println!(
        "{} minutes; slowhttptest: {}",
        length.as_secs() / 60,
        if slow.is_some() {
            "on"
        } else {
            "not installed"
        }
    );
    println!(
        "{:>8}{:>9}{:>11}{:>10}{:>10}{:>9}{:>13}",
        "time", "honest", "success", "p50", "p99", "memory", "descriptors"
    );
    let (mut all, began) = ((0, 0), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            let note = |took| match took {
                Some(took) => honest.lock().unwrap().latencies.push(took),
                None => honest.lock().unwrap().failed += 1,
            };
            let pause = Duration::from_millis(20);
            ask_honestly(
                gateway.address,
                HONEST_ADDRESS,
                pause,
                "honest",
                || over.load(Ordering::Relaxed),
                note,
            );
        });
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for (number, (_, threads, attack)) in (0..).zip(ATTACKS) {
                for thread in 0..threads as u64 {
                    let (gateway, stop, done) = (&gateway, &stop, &done);
                    scope.spawn(move || {
                        for turn in 0.. {
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            // Many addresses, so that the throttle alone does not end it.
                            let [.., a, b] = (thread * 7919 + turn).to_be_bytes();
                            let from = Ipv4Addr::new(127, 1 + number, a, b);
                            attack(gateway, turn, from.into());
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            }
            for _ in 0..ROWS {
                thread::sleep(length / ROWS);
                row(&gateway, &honest, began, &mut all);
            }
            stop.store(true, Ordering::Relaxed);
        });
        thread::sleep(AFTER);
        row(&gateway, &honest, began, &mut all);
        over.store(true, Ordering::Relaxed);
    });
    if let Some(mut child) = slow {
        let _ = child.kill();
        let _ = child.wait();
    }
    println!(
        "\n{} attacks of {} kinds; honest requests: {} of {} with 200",
        done.into_inner(),
        ATTACKS.len(),
        all.0,
        all.1
    );
    for line in gateway.metrics().lines() {
        if line.starts_with("countersign_refusals_total") && !line.ends_with(" 0") {
            println!("  {}", line.trim_start_matches("countersign_"));
        }
    }
    gateway.stop();
}

fn row(gateway: &Gateway, honest: &Mutex<Honest>, began: Instant, all: &mut (usize, usize)) {
    let mut seen = std::mem::take(&mut *honest.lock().unwrap());
    all.0 += seen.latencies.len();
    all.1 += seen.latencies.len() + seen.failed;
    println!(
        "{:>6} s{:>9}{:>9.2} %{:>10.1?}{:>10.1?}{:>6} MB{:>13}",
        began.elapsed().as_secs(),
        seen.latencies.len() + seen.failed,
        seen.rate(),
        seen.at(500),
        seen.at(990),
        gateway.resident() / 1_000_000,
        gateway.descriptors()
    );
}

/// The well-known tool, where it is installed: slow headers on two hundred connections.
fn slowhttptest(gateway: &Gateway, length: Duration) -> Option<std::process::Child> {
    let seconds = length.as_secs().to_string();
    Command::new("slowhttptest")
        .args([
            "-H", "-c", "200", "-r", "50", "-i", "2", "-x", "24", "-l", &seconds,
        ])
        .args(["-u", &format!("http://{}/", gateway.address)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn bad_signature(gateway: &Gateway, turn: u64, from: IpAddr) {
    let bytes = request("bench", &strangers_key(), "soak", turn);
    say(gateway, from, &bytes);
}

fn silence(gateway: &Gateway, _: u64, from: IpAddr) {
    let _ = connect_from(from, gateway.address);
}

fn half_a_header(gateway: &Gateway, _: u64, from: IpAddr) {
    say(gateway, from, b"GET /v1/secret/a HTTP/1.1\r\nHost: g");
}

fn large_body(gateway: &Gateway, turn: u64, from: IpAddr) {
    let head = String::from_utf8(request("bench", &strangers_key(), "soak", turn)).unwrap();
    let head = head
        .replace("GET ", "POST ")
        .replace("\r\n\r\n", "\r\nContent-Length: 1048576\r\n\r\n");
    say(gateway, from, &[head.as_bytes(), &[b'a'; 1 << 20]].concat());
}

/// Sends, and waits for the end of the connection.
fn say(gateway: &Gateway, from: IpAddr, bytes: &[u8]) {
    let Ok(mut stream) = connect_from(from, gateway.address) else {
        return;
    };
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut rest);
}

/// Frames of HTTP/2 (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// `:method: POST`, `:scheme: https`, `:path: /` and `:authority` from the static table (RFC 7541,
/// appendix A), the last as a literal.
const BLOCK: &[u8] = b"\x83\x87\x84\x01\x02gw";

fn rapid_reset(gateway: &Gateway, _: u64, from: IpAddr) {
    http2(gateway, from, |send| {
        (1..20_000).step_by(2).all(|stream| {
            send(HEADERS, END_HEADERS, stream, BLOCK) && send(RST_STREAM, 0, stream, &[0, 0, 0, 8])
        });
    });
}

fn continuations(gateway: &Gateway, _: u64, from: IpAddr) {
    http2(gateway, from, |send| {
        let piece = [&b"\x00\x01x\x7f\x81\x07"[..], &[b'a'; 1024]].concat();
        send(HEADERS, 0, 1, BLOCK);
        (0..5_000).all(|_| send(CONTINUATION, 0, 1, &piece));
    });
}

type Send<'a> = dyn FnMut(u8, u8, u32, &[u8]) -> bool + 'a;

/// Speaks HTTP/2 frames until the gateway has had enough.
fn http2(gateway: &Gateway, from: IpAddr, attack: impl FnOnce(&mut Send<'_>)) {
    let Ok(stream) = connect_from(from, gateway.tls_address) else {
        return;
    };
    let Ok(mut stream) = encrypted(stream) else {
        return;
    };
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut send = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
        stream.write_all(&[&head, payload].concat()).is_ok()
    };
    send(SETTINGS, 0, 0, &[]);
    attack(&mut send);
    let mut rest = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut rest);
}

type Encrypted = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// TLS with HTTP/2 by ALPN. The gateway's certificate is not looked at: it is the one under attack.
fn encrypted(stream: TcpStream) -> Result<Encrypted, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name)?;
    Ok(rustls::StreamOwned::new(session, stream))
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
