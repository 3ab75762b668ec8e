//! A backend that writes down every connection and every request, byte for byte, and parses them
//! on its own and strictly: what it finds odd fails the test that looks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as the backend saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// In order, names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What the backend answers: the whole response, as bytes.
type Answer = dyn Fn(&Seen) -> Vec<u8> + Send + Sync;

#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    odd: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Seen {
    /// The values under a name, whatever its case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The one value under a name.
    pub fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(
            all.len(),
            1,
            "{name} should be there once: {:?}",
            self.headers
        );
        all[0]
    }
}

impl Backend {
    /// Answers every request with 200 and a small body.
    pub fn start() -> Backend {
        Backend::answering(|_| ok(b"{\"ok\":true}"))
    }

    pub fn answering(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Backend {
        Backend::speaking(bind(0), None, answer)
    }

    /// Comes up where another was.
    pub fn at(address: SocketAddr) -> Backend {
        Backend::speaking(bind(address.port()), None, |_| ok(b"{\"ok\":true}"))
    }

    /// Speaks TLS, with `cert.pem` and `key.pem` of the folder; `clients` are the authorities
    /// whose certificates it asks for.
    pub fn with_tls(folder: &Path, clients: Option<&Path>) -> Backend {
        let config = super::tls::server_config(folder, clients);
        Backend::speaking(bind(0), Some(Arc::new(config)), |_| ok(b"{\"ok\":true}"))
    }

    fn speaking(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static,
    ) -> Backend {
        let backend = Backend {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            odd: Arc::default(),
            connections: Arc::default(),
        };
        let this = backend.clone();
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                this.connections.fetch_add(1, Ordering::SeqCst);
                let (this, answer, tls) = (this.clone(), Arc::clone(&answer), tls.clone());
                stream
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || match tls {
                    None => this.serve(stream, &*answer),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).unwrap();
                        this.serve(StreamOwned::new(session, stream), &*answer);
                    }
                });
            }
        });
        backend
    }

    /// Every request so far. Panics if anything odd arrived.
    pub fn seen(&self) -> Vec<Seen> {
        let odd = self.odd.lock().unwrap();
        assert!(odd.is_empty(), "the backend got something odd: {odd:?}");
        self.seen.lock().unwrap().clone()
    }

    /// The one request that arrived.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "one request should have arrived: {seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn serve(&self, stream: impl Read + Write, answer: &Answer) {
        let mut reader = BufReader::new(stream);
        loop {
            match read_request(&mut reader) {
                Ok(Some(request)) => {
                    let response = answer(&request);
                    self.seen.lock().unwrap().push(request);
                    let out = reader.get_mut();
                    if out.write_all(&response).is_err() || response.is_empty() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(what) => {
                    self.odd.lock().unwrap().push(what);
                    return;
                }
            }
        }
    }
}

fn bind(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).unwrap()
}

/// A complete response with a Content-Length.
pub fn ok(body: &[u8]) -> Vec<u8> {
    response("200 OK", "Content-Type: application/json\r\n", body)
}

pub fn response(status: &str, header_lines: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\n{header_lines}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Strict: CRLF only, one space, one Host, one plain Content-Length and nothing else that frames.
fn read_request(reader: &mut impl BufRead) -> Result<Option<Seen>, String> {
    let Some(line) = read_line(reader)? else {
        return Ok(None);
    };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("request line {line:?}"));
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?.ok_or("the head broke off")?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(": ")
            .ok_or(format!("header line {line:?}"))?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty()
            || !name.bytes().all(token)
            || !value.bytes().all(|b| (0x20..0x7f).contains(&b))
        {
            return Err(format!("header line {line:?}"));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut seen = Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: Vec::new(),
    };
    for name in [
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "connection",
        "http2-settings",
    ] {
        if !seen.all(name).is_empty() {
            return Err(format!("{name} crossed: {:?}", seen.headers));
        }
    }
    if seen.all("host").len() != 1 {
        return Err(format!("Host: {:?}", seen.headers));
    }
    let length = match seen.all("content-length")[..] {
        [] => 0,
        [value] if value == "0" || !value.starts_with('0') => value
            .parse::<usize>()
            .map_err(|_| format!("Content-Length {value:?}"))?,
        ref other => return Err(format!("Content-Length {other:?}")),
    };
    let mut body = vec![0; length];
    reader
        .read_exact(&mut body)
        .map_err(|e| format!("the body broke off: {e}"))?;
    seen.body = body;
    Ok(Some(seen))
}

/// A line without its CRLF; `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if line.is_empty() => {
            let _ = error;
            return Ok(None);
        }
        Err(error) => return Err(format!("the head broke off: {error}")),
    }
    let text = line
        .strip_suffix(b"\r\n")
        .ok_or(format!("a line without CRLF: {}", line.escape_ascii()))?;
    String::from_utf8(text.to_vec())
        .map(Some)
        .map_err(|_| format!("bytes outside ASCII: {}", line.escape_ascii()))
}

/// A server whose connections are each handled by `serve`, in a thread of its own: for what no
/// proper server does.
pub fn scripted(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = bind(0);
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            stream.set_nodelay(true).unwrap();
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads the head of a request up to its empty line; `None` where the connection ends first.
pub fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}
