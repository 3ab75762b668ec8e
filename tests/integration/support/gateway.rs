//! A gateway in this process, on free ports, with a clock of its own that the test moves.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use countersign::config::{self, Environment, Resolve};
use countersign::server::GatewayServer;
use countersign_client::clock::{Clock, Hands};
use countersign_core::replay::NonceStore;
use serde_json::Value;

use super::backend::Backend;
use super::client::{self, Response};
use super::process::clock;
use super::signer::{Machine, Signed};

/// The second in which every test gateway starts; a moment later it is ready.
pub const START: u64 = 1_800_000_000;

pub struct Gateway {
    pub address: SocketAddr,
    /// The TLS listener, where there is one.
    pub tls_address: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub folder: tempfile::TempDir,
    clock: Clock,
    pub hands: Hands,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What differs from the common test gateway.
pub struct Options {
    /// Lines below `routes:`; by default one route for everything.
    pub routes: String,
    /// More top-level lines. A `replay:` among them should have no journal either.
    pub more: String,
    /// More lines of the upstream `secrets`.
    pub upstream: String,
    /// The servers; by default the backend alone. None where `upstream` has them.
    pub servers: Option<Vec<String>>,
    /// More files in its folder.
    pub files: Vec<(&'static str, String)>,
    /// The registry file.
    pub machines: String,
    /// The value of `registry`.
    pub registry: String,
    /// The audit file, relative to the gateway's folder.
    pub audit: String,
    /// The content of the file `token`, for a credential.
    pub token: Option<String>,
    /// Listen with TLS too.
    pub tls: bool,
    /// More settings of its TLS, behind a comma.
    pub tls_more: String,
    /// More settings of the plain listener.
    pub listener: String,
    /// More settings of the admin listener, behind a comma.
    pub admin: String,
    /// The second in which it starts.
    pub start: u64,
    /// How long requests in flight have at its end.
    pub grace: &'static str,
    /// Another store of nonces.
    pub nonces: Option<Arc<dyn NonceStore>>,
    /// Another resolver of names than the system's.
    pub resolve: Option<Resolve>,
}

/// The machine of most tests.
pub fn machine() -> Machine {
    Machine::new("machine-1", 1)
}

impl Default for Options {
    fn default() -> Options {
        Options {
            routes: "  - { path: /, upstream: secrets }\n".into(),
            more: String::new(),
            upstream: String::new(),
            servers: None,
            files: Vec::new(),
            machines: registry(&[&machine()]),
            registry: "{ file: machines.yaml }".into(),
            audit: "audit.jsonl".into(),
            token: None,
            tls: false,
            tls_more: String::new(),
            listener: String::new(),
            admin: String::new(),
            start: START,
            grace: "10s",
            nonces: None,
            resolve: None,
        }
    }
}

/// The process's own, in the gateway's time.
pub fn environment() -> Environment {
    Environment::of_process(START)
}

/// A registry file that holds these machines, enabled and nameless.
pub fn registry(machines: &[&Machine]) -> String {
    let mut text = "machines:\n".to_owned();
    for machine in machines {
        text += &format!(
            "  - id: {}\n    public_keys: [\"{}\"]\n",
            machine.id,
            machine.public_key()
        );
    }
    text
}

impl Gateway {
    /// The common gateway in front of a backend.
    pub fn start(backend: &Backend) -> Gateway {
        Gateway::with(backend, Options::default())
    }

    pub fn with(backend: &Backend, options: Options) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let config = write_files(folder.path(), backend, &options);
        let (clock, hands) = Clock::manual(options.start * 1000);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (bound, ready) = std::sync::mpsc::channel();
        let (its_clock, nonces) = (clock.clone(), options.nonces);
        let resolve = options.resolve;
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut environment = Environment::of_process(its_clock.now().unix_seconds());
                environment.resolve = resolve.unwrap_or(environment.resolve);
                let loaded = config::load(&config, &environment)
                    .unwrap_or_else(|mistakes| panic!("{mistakes}"));
                let server = match nonces {
                    None => GatewayServer::bind(loaded.config, its_clock).await,
                    Some(store) => {
                        GatewayServer::bind_with_nonces(loaded.config, its_clock, store).await
                    }
                }
                .unwrap_or_else(|error| panic!("{error}"));
                bound
                    .send((server.addresses().to_vec(), server.admin_address()))
                    .unwrap();
                server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        let (addresses, admin) = ready
            .recv_timeout(Duration::from_secs(20))
            .expect("it starts");
        // The first second belongs to whoever ran before.
        hands.advance(Duration::from_secs(1));
        Gateway {
            address: addresses[0],
            tls_address: addresses.get(1).copied(),
            admin,
            folder,
            clock,
            hands,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The gateway's time, in Unix seconds.
    pub fn now(&self) -> u64 {
        self.clock.now().unix_seconds()
    }

    /// Signs for the gateway's time.
    pub fn sign(&self, machine: &Machine, method: &str, path: &str, body: &[u8]) -> Signed {
        machine.sign(method, path, self.now(), body)
    }

    /// Signs and sends a request of the common machine.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let signed = self.sign(&machine(), method, path, body);
        client::exchange(self.address, raw(method, path, &signed.lines(), body))
    }

    /// A GET of the admin listener.
    pub fn admin_get(&self, path: &str) -> (u16, String) {
        get(self.admin, path)
    }

    /// One sample of `/metrics`, by its whole name with labels.
    pub fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.admin_get("/metrics");
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or_else(|| panic!("no sample {sample} in\n{text}"))
    }

    /// The audit records so far.
    pub fn records(&self) -> Vec<Value> {
        let files = ["audit.jsonl", "audit.refused.jsonl"];
        let logs = files.map(|name| fs::read_to_string(self.folder.path().join(name)));
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let lines = logs.iter().flatten().flat_map(|log| log.lines());
        lines.map(parse).collect()
    }

    /// The records with this `decision`, once there are `count` of them.
    pub fn decisions(&self, decision: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} records '{decision}'"), || {
            let mut records = self.records();
            records.retain(|record| record["decision"] == decision);
            (records.len() >= count).then_some(records)
        })
    }

    /// Replaces the registry file, as an editor does.
    pub fn write_registry(&self, text: &str) {
        let (new, path) = (self.folder.path().join("new"), self.registry_path());
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Replaces the configuration file, as an editor does.
    pub fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        let [new, path] =
            ["new.yaml", "countersign.yaml"].map(|name| self.folder.path().join(name));
        fs::write(&new, edit(fs::read_to_string(&path).unwrap())).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub fn registry_path(&self) -> PathBuf {
        self.folder.path().join("machines.yaml")
    }

    /// Asks it to stop, without waiting.
    pub fn begin_stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Stops it and waits until it has.
    pub fn stop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_files(folder: &Path, backend: &Backend, options: &Options) -> PathBuf {
    let servers = match &options.servers {
        Some(servers) => servers.clone(),
        None => vec![format!("http://{}", backend.address)],
    };
    let mut listeners = format!("  - {{ address: '127.0.0.1:0', {} }}\n", options.listener);
    if options.tls {
        super::tls::write_certificate(folder);
        listeners += &format!(
            "  - address: 127.0.0.1:0\n    tls: {{ cert: cert.pem, key: key.pem{} }}\n",
            options.tls_more
        );
    }
    let servers = match servers.is_empty() {
        true => String::new(),
        false => format!("    servers: {servers:?}\n"),
    };
    let config = format!(
        "listeners:\n{listeners}admin: {{ address: 127.0.0.1:0{} }}\n\
         registry: {}\nupstreams:\n  secrets:\n{servers}{}\
         routes:\n{}audit: {{ file: {} }}\nshutdown: {{ delay: 0s, grace: {} }}\n{}",
        options.admin,
        options.registry,
        options.upstream,
        options.routes,
        options.audit,
        options.grace,
        options.more,
    );
    // No journal: the clock is the test's own, and restarts are tested with real processes.
    let replay = match options.more.contains("replay:") {
        true => "",
        false => "replay: { state_dir: none }\n",
    };
    let config = config + replay;
    for (name, content) in &options.files {
        fs::write(folder.join(name), content).unwrap();
    }
    if let Some(token) = &options.token {
        fs::write(folder.join("token"), token).unwrap();
    }
    fs::write(folder.join("machines.yaml"), &options.machines).unwrap();
    let path = folder.join("countersign.yaml");
    fs::write(&path, config).unwrap();
    path
}

/// A request with a Host, these header lines, and a Content-Length where there is a body.
pub fn raw(method: &str, target: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let mut bytes =
        format!("{method} {target} HTTP/1.1\r\nHost: gw\r\n{lines}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A GET of an admin listener: status and body.
pub fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let lines = "Host: localhost\r\nConnection: close\r\n\r\n";
    ask_admin(admin, &format!("GET {path} HTTP/1.1\r\n{lines}"))
}

/// A request to an admin listener, which it answers before it closes: status and body.
pub fn ask_admin(admin: SocketAddr, request: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// How long a test waits for what must come, before it says that it does not: a bound on hanging,
/// which a machine that is busy with something else does not reach. What a gateway promises in
/// seconds is held by what it says and does, not by a watch.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, bounded, until `look` finds something.
pub fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = clock();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited {PATIENCE:?} in vain for {what}");
}
