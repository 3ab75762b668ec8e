//! What attackers send. The rule over all of it: the backend sees exactly one well-formed request,
//! equal to the one that was signed, or nothing at all; and the gateway goes on.
//!
//! The backend of the tests parses on its own, and strictly: whatever it finds odd fails the test.

mod crypto;
mod frames;
mod framing;
mod headers;
mod mutations;
mod target;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::backend::{Backend, Seen};
use crate::support::gateway::{Gateway, Options, machine};
use crate::support::tls;

/// A gateway that is attacked, in plain and over TLS.
struct Field {
    backend: Backend,
    gateway: Gateway,
}

/// A request, signed for what the machine means by it.
#[derive(Clone, Copy)]
struct Meant<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a [u8],
}

const GET: Meant<'_> = Meant {
    method: "GET",
    path: "/a",
    body: b"",
};

const POST: Meant<'_> = Meant {
    method: "POST",
    path: "/a",
    body: b"abc",
};

impl Field {
    fn start() -> Field {
        Field::with(Options::default())
    }

    fn with(options: Options) -> Field {
        let backend = Backend::start();
        let options = Options {
            tls: true,
            ..options
        };
        let gateway = Gateway::with(&backend, options);
        Field { backend, gateway }
    }

    /// Sends the raw request, in which `{S}` stands for the four signing headers of what is meant,
    /// in plain and over TLS, and expects that it is refused and that the connection ends; the
    /// backend hears nothing.
    #[track_caller]
    fn refuses(&self, meant: Meant<'_>, raw: impl AsRef<[u8]>, status: u16) {
        for answer in self.answers(meant, raw.as_ref()) {
            let text = answer.escape_ascii().to_string();
            assert!(
                answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()),
                "{status} expected for {}, got {text}",
                raw.as_ref().escape_ascii()
            );
            assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "one answer: {text}");
        }
        assert!(self.backend.seen().is_empty(), "{:?}", self.backend.seen());
        assert_eq!(self.backend.connections(), 0, "not even a connection");
    }

    /// Sends it, and expects that the backend sees what was meant and nothing else.
    #[track_caller]
    fn forwards(&self, meant: Meant<'_>, raw: impl AsRef<[u8]>) -> Vec<Seen> {
        let before = self.backend.seen().len();
        for answer in self.answers(meant, raw.as_ref()) {
            assert!(
                answer.starts_with(b"HTTP/1.1 200 "),
                "{} got {}",
                raw.as_ref().escape_ascii(),
                answer.escape_ascii()
            );
        }
        let seen = self.backend.seen().split_off(before);
        assert_eq!(seen.len(), 2);
        for seen in &seen {
            let request = (&*seen.method, &*seen.target, &*seen.body);
            assert_eq!(request, (meant.method, meant.path, meant.body));
            assert_eq!(seen.one("x-machine-identity"), "machine-1");
        }
        seen
    }

    /// All that comes back until the connection ends, in plain and over TLS.
    fn answers(&self, meant: Meant<'_>, raw: &[u8]) -> [Vec<u8>; 2] {
        let signed = || {
            let lines = (self.gateway).sign(&machine(), meant.method, meant.path, meant.body);
            replaced(raw, b"{S}", lines.lines().as_bytes())
        };
        let plain = TcpStream::connect(self.gateway.address).unwrap();
        plain
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let address = self.gateway.tls_address.unwrap();
        let encrypted = tls::dial(address, self.gateway.folder.path(), b"http/1.1");
        [talk(plain, &signed()), talk(encrypted, &signed())]
    }

    /// The gateway serves an honest request.
    #[track_caller]
    fn goes_on(&self) {
        assert_eq!(self.gateway.request("GET", "/honest", b"").status, 200);
    }
}

/// Sends, and reads until an answer is complete and the connection is idle or ends.
fn talk(mut stream: impl Read + Write, bytes: &[u8]) -> Vec<u8> {
    // The gateway may have answered and closed already; what it answered is what counts.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !is_a_kept_200(&answer) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    answer
}

/// A 200 does not end its connection: the body of the test backend does.
fn is_a_kept_200(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"{\"ok\":true}")
}

fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    match bytes.windows(what.len()).position(|window| window == what) {
        Some(at) => [&bytes[..at], by, &bytes[at + what.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
