//! First starts that fail, or are killed, in front of a state directory that nothing was ever
//! accepted in: the next start is ready at once. And names and files that are not there yet: no
//! reason not to start.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, Options, machine, registry, wait_for};
use crate::support::process::{clock, countersign, run};

/// Within this a start after a first one that failed is ready: it refuses its first second, and
/// reads nothing. Without the mark of a first start it takes `replay.future`, 300 s.
const READY: Duration = Duration::from_secs(5);

/// What a first start fails of.
#[derive(Clone, Copy, Debug)]
enum Fault {
    ListenerTaken,
    AdminTaken,
    NoAuditDirectory,
    /// After so many milliseconds.
    Killed(u64),
    /// It ends well, in front of a route that lets bearer tokens pass: their key lies beside the
    /// journal.
    None,
}

/// A folder without a state directory, and addresses that are held until a start needs them.
struct Place {
    folder: tempfile::TempDir,
    listener: Option<TcpListener>,
    admin: Option<TcpListener>,
    admin_address: SocketAddr,
}

/// A gateway that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new() -> Place {
        let hold = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (listener, admin) = (hold(), hold());
        let admin_address = admin.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("machines.yaml"), registry(&[&machine()])).unwrap();
        let address = listener.local_addr().unwrap();
        let config = format!(
            "listeners: [{{ address: {address} }}]\nadmin: {{ address: {admin_address} }}\n\
             registry: {{ file: machines.yaml }}\n\
             upstreams: {{ secrets: {{ servers: ['http://127.0.0.1:9'] }} }}\n\
             credentials: {{ x: {{ header: X-Vault-Token, env: X_TOKEN }} }}\n\
             routes: [{{ path: /, upstream: secrets, bearer_until: 2999-01-01 }}]\n\
             audit: {{ file: audit/trail.jsonl }}\n"
        );
        fs::write(folder.path().join("countersign.yaml"), config).unwrap();
        Place {
            folder,
            listener: Some(listener),
            admin: Some(admin),
            admin_address,
        }
    }

    fn spawn(&self) -> Running {
        let config = self.folder.path().join("countersign.yaml");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut command = countersign(&["serve", "--config", config.to_str().unwrap()]);
        command.env("X_TOKEN", "s.token").stdout(Stdio::null());
        Running(command.stderr(log).spawn().unwrap())
    }

    /// The first start, and its end.
    fn fail(&mut self, fault: Fault) {
        let audit = self.folder.path().join("audit");
        if !matches!(fault, Fault::NoAuditDirectory) {
            fs::create_dir(&audit).unwrap();
        }
        if !matches!(fault, Fault::ListenerTaken) {
            self.listener = None;
        }
        if !matches!(fault, Fault::AdminTaken) {
            self.admin = None;
        }
        match fault {
            Fault::None => {}
            Fault::Killed(after) => {
                let running = self.spawn();
                std::thread::sleep(Duration::from_millis(after));
                drop(running);
            }
            _ => {
                let status = self.spawn().0.wait().unwrap();
                assert!(!status.success(), "{fault:?}");
            }
        }
        (self.listener, self.admin) = (None, None);
        let _ = fs::create_dir(audit);
    }

    fn is_ready(&self) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = TcpStream::connect(self.admin_address) else {
            return false;
        };
        let mut answer = String::new();
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 200")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

/// The first start fails of this, and the second is ready within [`READY`].
fn holds_up_nobody(fault: Fault) {
    let mut place = Place::new();
    place.fail(fault);
    let _running = place.spawn();
    let start = clock();
    while !place.is_ready() {
        assert!(clock() - start < READY, "{fault:?}: {}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts that are independent of each other, some at a time.
fn all(faults: impl Iterator<Item = Fault> + Send) {
    let faults = Mutex::new(faults);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let fault = faults.lock().unwrap().next();
                    let Some(fault) = fault else { return };
                    holds_up_nobody(fault);
                }
            });
        }
    });
}

/// So many of every kind, the kills spread over the first 40 milliseconds.
fn of_every_kind(count: u64) -> impl Iterator<Item = Fault> + Send {
    (0..count).flat_map(move |n| {
        [
            Fault::ListenerTaken,
            Fault::AdminTaken,
            Fault::NoAuditDirectory,
            Fault::Killed(n * 40 / count),
            Fault::None,
        ]
    })
}

#[test]
fn a_first_start_that_failed_holds_up_nobody() {
    all(of_every_kind(4));
}

#[test]
#[ignore = "minutes; `make first-starts`"]
fn a_hundred_first_starts_that_failed_in_every_way_hold_up_nobody() {
    all(of_every_kind(100));
}

/// Where `late.test` and `moving.test` lead.
static LATE: Mutex<Option<SocketAddr>> = Mutex::new(None);
static MOVING: Mutex<Option<SocketAddr>> = Mutex::new(None);

fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    let found = match name.split_once('.') {
        Some(("late", _)) => *LATE.lock().unwrap(),
        Some(("moving", _)) => *MOVING.lock().unwrap(),
        _ => name.parse().ok(),
    };
    found
        .map(|address| vec![address])
        .ok_or_else(|| io::Error::other("no such host"))
}

fn before(backend: &Backend, servers: &[&str]) -> Gateway {
    let options = Options {
        servers: Some(servers.iter().map(ToString::to_string).collect()),
        resolve: Some(resolve),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

#[test]
fn a_server_whose_name_does_not_resolve_yet_is_out_of_service_until_it_does() {
    let backend = Backend::start();
    let gateway = before(&backend, &["http://late.test:8200"]);
    let (status, text) = gateway.admin_get("/readyz");
    assert_eq!(status, 200);
    assert_eq!(
        text,
        "ready\nout of service: upstream secrets: late.test:8200 does not resolve\n"
    );
    let answer = gateway.request("GET", "/v1/x", b"");
    assert_eq!(
        (answer.status, &*answer.code()),
        (502, "upstream_unreachable")
    );
    *LATE.lock().unwrap() = Some(backend.address);
    wait_for("the name", || {
        (gateway.request("GET", "/v1/x", b"").status == 200).then_some(())
    });
    assert_eq!(gateway.admin_get("/readyz").1, "ready\n");
}

#[test]
fn of_two_servers_the_one_whose_name_resolves_serves() {
    let backend = Backend::start();
    let there = format!("http://{}", backend.address);
    let gateway = before(&backend, &["http://never.test:8200", &there]);
    for _ in 0..4 {
        assert_eq!(gateway.request("GET", "/v1/x", b"").status, 200);
    }
}

#[test]
fn after_a_connection_that_failed_a_server_that_has_moved_is_found() {
    let backend = Backend::start();
    // Nothing listens there any more.
    let before_it_moved = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    *MOVING.lock().unwrap() = Some(before_it_moved);
    let gateway = before(&backend, &["http://moving.test:8200"]);
    let answer = gateway.request("GET", "/v1/x", b"");
    assert_eq!(answer.code(), "upstream_unreachable");
    *MOVING.lock().unwrap() = Some(backend.address);
    // By itself the name would be looked up after 20 s.
    wait_for("the other address", || {
        (gateway.request("GET", "/v1/x", b"").status == 200).then_some(())
    });
}

#[test]
fn a_credential_that_is_not_written_yet_is_waited_for() {
    let backend = Backend::start();
    let options = Options {
        upstream: "    credential: { header: X-Vault-Token, file: token }\n".into(),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let (status, text) = gateway.admin_get("/readyz");
    assert_eq!(status, 200);
    assert!(
        text.contains("out of service: credential upstream:secrets: no secret in "),
        "{text}"
    );
    let answer = gateway.request("GET", "/v1/x", b"");
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "upstream_credential")
    );
    assert!(backend.seen().is_empty());
    fs::write(gateway.folder.path().join("token"), "s.token\n").unwrap();
    wait_for("the credential", || {
        (gateway.request("GET", "/v1/x", b"").status == 200).then_some(())
    });
    assert_eq!(backend.only().one("x-vault-token"), "s.token");
    assert_eq!(gateway.admin_get("/readyz").1, "ready\n");
}

#[test]
fn check_reports_what_may_mend_itself_as_warnings() {
    let place = Place::new();
    fs::create_dir_all(place.folder.path().join("audit")).unwrap();
    let file = place.folder.path().join("countersign.yaml");
    let config = fs::read_to_string(&file).unwrap();
    let config = config
        .replace(
            "['http://127.0.0.1:9']",
            "['http://127.0.0.1:9', 'http://no-such-name.invalid:9']",
        )
        .replace("env: X_TOKEN", "file: not/yet");
    fs::write(&file, config).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for warning in ["cannot be resolved", "does not exist yet"] {
        assert!(text.contains(warning), "{text}");
    }
}

#[test]
fn one_port_of_both_families_has_a_listener_for_each() {
    let Ok(held) = TcpListener::bind("[::1]:0") else {
        return; // there is no IPv6 here
    };
    drop(held);
    for addresses in [&["0.0.0.0", "[::]"][..], &["[::]", "0.0.0.0"], &["[::]"]] {
        let mut place = Place::new();
        let port = place.listener.take().unwrap().local_addr().unwrap().port();
        place.admin = None;
        let file = place.folder.path().join("countersign.yaml");
        let listeners: Vec<String> = (addresses.iter())
            .map(|address| format!("{{ address: '{address}:{port}' }}"))
            .collect();
        let config = fs::read_to_string(&file).unwrap();
        let config = config
            .replace(
                &format!("{{ address: 127.0.0.1:{port} }}"),
                &listeners.join(", "),
            )
            .replace("audit/trail.jsonl", "trail.jsonl");
        fs::write(&file, config).unwrap();
        let _running = place.spawn();
        wait_for("readiness", || place.is_ready().then_some(()));
        for address in ["127.0.0.1", "[::1]"] {
            let connected = TcpStream::connect(format!("{address}:{port}"));
            assert!(
                connected.is_ok(),
                "{address} of {addresses:?}: {}",
                place.log()
            );
        }
    }
}
