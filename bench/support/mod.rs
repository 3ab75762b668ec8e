//! What the benchmarks over sockets share: a gateway in a process of its own, a backend, and
//! machines that sign.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each benchmark uses a part of it"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};

pub mod bare;

pub const PATH: &str = "/v1/secret/5b0c6f3e-8a1d-4f0e-9a57-0e6a4f6d1c2b";

/// `countersign serve` for the machine `bench`, whose key is [`key`].
pub struct Gateway {
    pub address: SocketAddr,
    pub tls_address: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
}

/// The machine's key.
pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Nobody's key.
pub fn strangers_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

impl Gateway {
    /// Starts it in `folder`, with file audit and metrics, a TLS listener too, and more lines of
    /// configuration, and waits until stamps count.
    pub fn start(folder: &Path, more: &str) -> Gateway {
        Gateway::start_with(folder, "routes:\n  - { path: /, upstream: secrets }", more)
    }

    /// The same with other routes to the upstream `secrets`.
    pub fn start_with(folder: &Path, routes: &str, more: &str) -> Gateway {
        let upstream = format!("servers: [\"http://{}\"]", start_backend());
        Gateway::start_under(&[], folder, &upstream, &format!("{routes}\n{more}"))
    }

    /// The same with these settings of the upstream `secrets` and of the rest of the file, under
    /// another program with its arguments, if there is one.
    pub fn start_under(program: &[&str], folder: &Path, upstream: &str, more: &str) -> Gateway {
        let (address, tls_address, admin) = (free_address(), free_address(), free_address());
        let public = STANDARD.encode(key().verifying_key().as_bytes());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("cert.pem", &made.cert.pem());
        write("key.pem", &made.signing_key.serialize_pem());
        write(
            "machines.yaml",
            &format!("machines:\n  - id: bench\n    public_keys: [\"{public}\"]\n"),
        );
        write(
            "countersign.yaml",
            &format!(
                "listeners:\n  - address: {address}\n  - address: {tls_address}\n    \
                 tls: {{ cert: cert.pem, key: key.pem }}\n\
                 admin: {{ address: {admin} }}\nregistry: {{ file: machines.yaml }}\n\
                 upstreams: {{ secrets: {{ {upstream} }} }}\naudit: {{ file: audit.jsonl }}\n\
                 shutdown: {{ delay: 0s, grace: 5s }}\n{more}\n"
            ),
        );
        let command = [program, &[env!("CARGO_BIN_EXE_countersign"), "serve"]].concat();
        let child = Command::new(command[0])
            .args(&command[1..])
            .arg("--config")
            .arg(folder.join("countersign.yaml"))
            .stderr(fs::File::create(folder.join("gateway.log")).unwrap())
            .spawn()
            .unwrap();
        while TcpStream::connect(admin).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        // Past the first second, whose stamps are refused.
        thread::sleep(Duration::from_millis(2500));
        Gateway {
            address,
            tls_address,
            admin,
            child,
        }
    }

    /// User and system time so far.
    pub fn cpu_time(&self) -> Duration {
        cpu_time(self.child.id())
    }

    /// Resident memory, in bytes (proc(5), `VmRSS`).
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap() * 1024
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// The text of /metrics.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.child.wait().unwrap();
    }
}

/// User and system time of a process so far (proc(5), fields 14 and 15 of `stat`).
pub fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    // Linux reports in hundredths of a second, whatever the kernel's own clock does.
    Duration::from_millis(ticks * 10)
}

/// A bodyless request of the machine `bench`, signed with this key; `tag` and `n` make its nonce.
#[allow(
    clippy::disallowed_methods,
    reason = "the gateway under test lives in real time"
)]
pub fn request(machine: &str, key: &SigningKey, tag: &str, n: u64) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let empty: String = Sha256::digest(b"")
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let nonce = format!("{tag}-{n:016}");
    let message = format!("GET:{PATH}:{now}:{nonce}:{empty}");
    let signature = STANDARD.encode(key.sign(message.as_bytes()).to_bytes());
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: gw\r\nUser-Agent: bench\r\nX-Machine-Id: {machine}\r\n\
         X-Timestamp: {now}\r\nX-Nonce: {nonce}\r\nX-Signature: {signature}\r\n\r\n"
    )
    .into_bytes()
}

/// A connection from an address of its own, with time-outs.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Reads an answer; the status, or `None` where none came.
pub fn status(reader: &mut BufReader<TcpStream>) -> Option<u16> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).ok()?;
    let status = first.split(' ').nth(1)?.parse().ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(status)
}

/// What came of honest requests.
#[derive(Default)]
pub struct Honest {
    pub latencies: Vec<Duration>,
    pub failed: usize,
}

impl Honest {
    /// The latency below which so many in a thousand are.
    pub fn at(&mut self, of: usize) -> Duration {
        self.latencies.sort_unstable();
        let index = self.latencies.len() * of / 1000;
        self.latencies.get(index).copied().unwrap_or_default()
    }

    pub fn rate(&self) -> f64 {
        let all = self.latencies.len() + self.failed;
        100.0 * self.latencies.len() as f64 / all.max(1) as f64
    }
}

/// Asks once in `pause`, on a kept connection from `from`, until `over`; `note` gets each latency,
/// or `None` for a request that was not answered with 200.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn ask_honestly(
    gateway: SocketAddr,
    from: IpAddr,
    pause: Duration,
    tag: &str,
    over: impl Fn() -> bool,
    mut note: impl FnMut(Option<Duration>),
) {
    let key = key();
    let mut kept = None;
    for n in 0.. {
        if over() {
            return;
        }
        let request = request("bench", &key, tag, n);
        let began = Instant::now();
        let mut reader = match kept.take() {
            Some(reader) => reader,
            None => match connect_from(from, gateway) {
                Ok(stream) => BufReader::new(stream),
                Err(_) => {
                    note(None);
                    continue;
                }
            },
        };
        let sent = reader.get_mut().write_all(&request).is_ok();
        let is_good = sent && status(&mut reader) == Some(200);
        note(is_good.then(|| began.elapsed()));
        kept = is_good.then_some(reader);
        thread::sleep(pause.saturating_sub(began.elapsed()));
    }
}

/// Answers every request with the same few bytes, on kept-alive connections.
pub fn start_backend() -> SocketAddr {
    start_backend_with(|_| "ok".to_owned())
}

/// The same, with a body by the path of the request.
pub fn start_backend_with(body: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let body = Arc::new(body);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let body = Arc::clone(&body);
            thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream);
                while let Some((path, length)) = read_head(&mut reader) {
                    let mut sent = vec![0; length];
                    let body = body(&path);
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let answer = [head.as_bytes(), body.as_bytes()].concat();
                    if reader.read_exact(&mut sent).is_err()
                        || reader.get_mut().write_all(&answer).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The path of a request and the length of its body; `None` at the end of the connection.
pub fn read_head(reader: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => return Some((path, length)),
        }
    }
}

/// An address that nobody listens on, and that nobody else is given: the port stays bound here,
/// without listening, and servers bind it with `SO_REUSEADDR`.
pub fn free_address() -> SocketAddr {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    HELD.lock().unwrap().push(socket);
    address
}
