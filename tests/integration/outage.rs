//! What clients see while one of two backends dies, stands still and comes back: `make outage`
//! prints the tables.

#![allow(clippy::print_stdout, reason = "`--nocapture` shows the tables")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::gateway::{machine, raw, wait_for};
use crate::support::process::{Process, clock, free_address, unix_seconds};

const CLIENTS: usize = 4;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);

/// What happens, and how long it is watched.
const PHASES: [(&str, Duration); 5] = [
    ("both are well", Duration::from_millis(1500)),
    ("one is killed", Duration::from_secs(3)),
    ("it is started again", Duration::from_secs(4)),
    ("the other stands still", Duration::from_secs(6)),
    ("it goes on", Duration::from_secs(4)),
];

/// A real backend.
struct Backend {
    address: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Backend {
    fn start(folder: &Path, name: &str) -> Backend {
        let address = free_address();
        let log = folder.join(name);
        let child = spawn(address, &log);
        Backend {
            address,
            log,
            child,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = spawn(self.address, &self.log);
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn delivered(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(address: SocketAddr, log: &Path) -> Child {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/integration/support/backend.py"
    );
    let child = Command::new("python3")
        .args([program, &address.port().to_string()])
        .arg(log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the backend", || TcpStream::connect(address).ok());
    child
}

/// What clients saw in one phase.
#[derive(Clone, Default)]
struct Seen {
    answers: BTreeMap<String, usize>,
    slowest: Duration,
}

impl Seen {
    fn all(&self) -> usize {
        self.answers.values().sum()
    }

    fn other_than_200(&self) -> usize {
        self.all() - self.answers.get("200").unwrap_or(&0)
    }
}

/// Runs all phases: what was seen in each, and how often each request was delivered.
fn outage(health: &str) -> Vec<Seen> {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Backend::start(folder.path(), "one");
    let other = Backend::start(folder.path(), "other");
    let gateway = Process::with_upstream(&format!(
        "{{ servers: ['http://{}', 'http://{}'], connect_timeout: 500ms, read_timeout: 1s{health} }}",
        one.address, other.address
    ));
    let phase = AtomicUsize::new(0);
    let seen = Mutex::new(vec![Seen::default(); PHASES.len()]);
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| send(&gateway, &phase, &seen, &sent));
        }
        for (number, (_, length)) in PHASES.iter().enumerate() {
            phase.store(number, Ordering::SeqCst);
            match number {
                1 => one.kill(),
                2 => one.start_again(),
                3 => other.signal("STOP"),
                4 => other.signal("CONT"),
                _ => {}
            }
            std::thread::sleep(*length);
        }
        phase.store(PHASES.len(), Ordering::SeqCst);
    });
    let mut delivered = [one.delivered(), other.delivered()].concat();
    let deliveries = delivered.len();
    delivered.sort();
    delivered.dedup();
    assert_eq!(deliveries, delivered.len(), "no request is delivered twice");
    seen.into_inner().unwrap()
}

/// One client: asks, on a connection that it keeps for as long as it is kept, until the end.
fn send(gateway: &Process, phase: &AtomicUsize, seen: &Mutex<Vec<Seen>>, sent: &AtomicUsize) {
    let mut client = Client::connect(gateway.address);
    loop {
        if phase.load(Ordering::SeqCst) == PHASES.len() {
            return;
        }
        let path = format!("/{}", sent.fetch_add(1, Ordering::SeqCst));
        let lines = machine().sign("GET", &path, unix_seconds(), b"").lines();
        let began = clock();
        let answer = client.exchange(&raw("GET", &path, &lines, b""));
        let took = began.elapsed();
        let words = match answer.status {
            200 => "200".to_owned(),
            status => format!("{status} {}", answer.code()),
        };
        if answer.status != 200 {
            client = Client::connect(gateway.address);
        }
        // When it was answered: what the last phase began may end in this one.
        let number = phase.load(Ordering::SeqCst).min(PHASES.len() - 1);
        {
            let mut all = seen.lock().unwrap();
            *all[number].answers.entry(words).or_default() += 1;
            all[number].slowest = all[number].slowest.max(took);
        }
        std::thread::sleep(PAUSE);
    }
}

fn table(title: &str, seen: &[Seen]) -> String {
    let mut text = format!(
        "\n{title}\n{:<24}{:>9}{:>12}  not 200\n",
        "phase", "requests", "slowest"
    );
    for ((name, _), seen) in PHASES.iter().zip(seen) {
        let others: Vec<String> = (seen.answers.iter())
            .filter(|(words, _)| *words != "200")
            .map(|(words, count)| format!("{count} x {words}"))
            .collect();
        let slowest = format!("{:.1} ms", seen.slowest.as_secs_f64() * 1000.0);
        let _ = writeln!(
            text,
            "{name:<24}{:>9}{slowest:>12}  {}",
            seen.all(),
            others.join(", ")
        );
    }
    text
}

/// Bounds that hold on a busy machine too: requests that were under way, those that found out, and
/// one trial at a time after that.
fn assert_bounded(seen: &[Seen], text: &str) {
    assert_eq!(seen[0].other_than_200(), 0, "{text}");
    assert!(seen[1].other_than_200() <= CLIENTS, "{text}");
    assert!(seen[2].other_than_200() <= CLIENTS, "{text}");
    assert!(seen[3].other_than_200() <= 3 * CLIENTS, "{text}");
    assert!(seen[4].other_than_200() <= CLIENTS, "{text}");
    assert!(seen.iter().all(|seen| seen.all() > 2 * CLIENTS), "{text}");
}

#[test]
fn a_backend_that_fails_costs_few_requests_and_none_is_delivered_twice() {
    let seen = outage("");
    let text = table("Without health checks", &seen);
    println!("{text}");
    assert_bounded(&seen, &text);
}

#[test]
fn health_checks_leave_the_clients_still_fewer() {
    let seen = outage(", health: { path: /health, interval: 200ms, timeout: 300ms }");
    let text = table("With health checks every 200 ms", &seen);
    println!("{text}");
    assert_bounded(&seen, &text);
}
