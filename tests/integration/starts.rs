//! First starts that fail, or are killed, in front of a state directory that nothing was ever
//! accepted in: the next start is ready at once. 

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::gateway::{machine, registry};
use crate::support::process::{clock, countersign};

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
