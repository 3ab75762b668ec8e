//! Ten thousand requests that were good before something about them was changed.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Field, replaced, talk};
use crate::support::gateway::{Options, machine};

const REQUESTS: usize = 10_000;
const SENDERS: usize = 24;

/// Numbers that look random and are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Bytes that mean something somewhere.
const BYTES: &[u8] = b"\r\n\0\t :,;/?#%\\.&=+-_*\"'()<>[]{}\x01\x0b\x7f\x80\xa0\xc0\xff09azAZ";

/// Lines that somebody would slip in.
const LINES: [&str; 34] = [
    "Content-Length: 0",
    "Content-Length: 1",
    "Content-Length: 5",
    "Content-Length: 00",
    "Content-Length: +5",
    "Content-Length: 18446744073709551616",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "transfer-encoding:\tchunked",
    "Transfer_Encoding: chunked",
    "Connection: close",
    "Connection: X-Machine-Identity",
    "Connection: content-length, X-Signature",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Host: other",
    "Host: gw",
    "Expect: 100-continue",
    "X-Machine-Identity: admin",
    "X_Machine_Identity: admin",
    "X-Machine-Id: admin",
    "X-Forwarded-For: 10.0.0.1",
    "X-Original-URL: /admin",
    "X-HTTP-Method-Override: DELETE",
    "Trailer: X-Machine-Identity",
    "TE: trailers",
    "Content-Encoding: gzip",
    "X-Vault-Token: root",
    " X-Folded: line",
    "X-Nothing",
    ": empty",
];

/// Targets that are not what was signed.
const TARGETS: [&str; 16] = [
    "/",
    "//",
    "*",
    "/admin",
    "http://gw/admin",
    "/m/../admin",
    "/m/%2e%2e/admin",
    "/m;x=1",
    "/m?x=1",
    "/m#x",
    "/m?",
    "/m%00",
    "/m\\x",
    "admin",
    "/m/.",
    "/m%",
];

/// A good request, of the common kinds, with a path of its own.
fn good(field: &Field, random: &mut Random, path: &str) -> (Meant, Vec<u8>) {
    let (method, body): (&str, &[u8]) = match random.below(6) {
        0 | 1 => ("GET", b""),
        2 => ("LIST", b""),
        3 => ("POST", b"hello"),
        4 => ("PUT", b""),
        _ => ("DELETE", b"hello"),
    };
    let lines = field.gateway.sign(&machine(), method, path, body).lines();
    let (framing, sent) = match (body.is_empty(), random.below(2)) {
        (true, _) => (String::new(), String::new()),
        (false, 0) => ("Content-Length: 5\r\n".into(), "hello".into()),
        (false, _) => (
            "Transfer-Encoding: chunked\r\n".into(),
            "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n".to_owned(),
        ),
    };
    let raw = format!(
        "{method} {path} HTTP/1.1\r\nHost: gw\r\nUser-Agent: test\r\n{lines}{framing}Accept: */*\r\n\r\n{sent}"
    );
    let meant = Meant {
        method: method.to_owned(),
        body: body.to_vec(),
    };
    (meant, raw.into_bytes())
}

/// What a path was signed for.
struct Meant {
    method: String,
    body: Vec<u8>,
}

fn mutated(mut raw: Vec<u8>, random: &mut Random, path: &str) -> Vec<u8> {
    for _ in 0..=random.below(2) {
        let at = random.below(raw.len());
        match random.below(11) {
            0 => raw[at] ^= 1 << random.below(8),
            1 => {
                raw.remove(at);
            }
            2 => raw.insert(at, random.of(BYTES)),
            3 => raw[at] = random.of(BYTES),
            4 => raw.truncate(at.max(1)),
            5 => {
                // Another line, behind the first, the second ..
                let ends: Vec<usize> = raw
                    .windows(2)
                    .enumerate()
                    .filter(|(_, two)| two == b"\r\n")
                    .map(|(n, _)| n)
                    .collect();
                if !ends.is_empty() {
                    let end = random.of(&ends);
                    let line = format!("\r\n{}", random.of(&LINES));
                    raw.splice(end..end, line.into_bytes());
                }
            }
            6 => {
                let text = raw.clone();
                let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
                let (from, to) = (random.below(lines.len()), random.below(lines.len()));
                let mut lines = lines;
                match random.below(3) {
                    0 => lines.swap(from, to),
                    1 => lines.insert(to, lines[from]),
                    _ => {
                        lines.remove(from);
                    }
                }
                raw = lines.concat();
            }
            7 => raw = replaced(&raw, path.as_bytes(), random.of(&TARGETS).as_bytes()),
            8 => raw.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: gw\r\n\r\n"),
            9 => {
                let (from, to) = random.of(&[
                    ("HTTP/1.1", "HTTP/1.0"),
                    ("\r\n\r\n", "\n\n"),
                    ("\r\n", "\n"),
                    ("Host: gw", "Host: "),
                    (" HTTP/1.1", ""),
                    ("X-Nonce", "x-nonce"),
                    ("X-Machine-Id: ", "X-Machine-Id:"),
                    ("X-Timestamp: ", "X-Timestamp:  "),
                    ("3\r\nllo", "3;x=y\r\nllo"),
                    ("0\r\n\r\n", "0\r\nX-Machine-Identity: a\r\n\r\n"),
                ]);
                raw = replaced(&raw, from.as_bytes(), to.as_bytes());
            }
            _ => raw = replaced(&raw, b"hello", b"hallo"),
        }
        if raw.is_empty() {
            raw.push(b' ');
        }
    }
    raw
}

#[test]
fn of_ten_thousand_changed_requests_the_backend_sees_what_was_signed_or_nothing() {
    let field = Field::with(Options {
        more: "limits: { header_timeout: 100ms, body_timeout: 100ms, keepalive: 100ms }\n\
               throttle: { failures_per_minute: 0 }\n"
            .into(),
        ..Options::default()
    });
    let (next, meant) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= REQUESTS {
                        return;
                    }
                    // Each from its own number, so that a request that fails can be made again.
                    let mut random = Random(n as u64);
                    let path = format!("/m/{n}");
                    let (what, raw) = good(&field, &mut random, &path);
                    let raw = mutated(raw, &mut random, &path);
                    meant.lock().unwrap().insert(path, (what, raw.clone()));
                    let stream = TcpStream::connect(field.gateway.address).unwrap();
                    stream
                        .set_read_timeout(Some(Duration::from_secs(20)))
                        .unwrap();
                    talk(stream, &raw);
                }
            });
        }
    });
    let (seen, mut meant) = (field.backend.seen(), meant.into_inner().unwrap());
    for seen in &seen {
        let (what, raw) = meant
            .remove(&seen.target)
            .unwrap_or_else(|| panic!("not signed, or seen twice: {seen:?}"));
        let raw = raw.escape_ascii();
        assert_eq!(
            (&seen.method, &seen.body),
            (&what.method, &what.body),
            "{raw}"
        );
        assert_eq!(seen.one("x-machine-identity"), "machine-1", "{raw}");
        for name in [
            "x-vault-token",
            "x-original-url",
            "x_machine_identity",
            "x-signature",
            "transfer-encoding",
        ] {
            assert!(seen.all(name).is_empty(), "{name}: {raw}");
        }
    }
    // Some changes change nothing that matters; most do.
    assert!(
        (REQUESTS / 100..REQUESTS / 2).contains(&seen.len()),
        "{}",
        seen.len()
    );
    field.goes_on();
}
