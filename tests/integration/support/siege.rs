//! Machines that sign and send without a pause, and an attacker who has captured every request and
//! sends each again and again, to every gateway, until it has left the window. What may not
//! happen shows at the backend: a path, of which each request has its own, that arrives twice.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::client::{Client, Response};
use super::gateway::{machine, raw, wait_for};
use super::process::{clock, unix_seconds};

/// The window of the gateways under siege, in seconds: short, so that a test can wait for its end.
pub const PAST: u64 = 10;
pub const FUTURE: u64 = 3;

const MACHINES: usize = 2;
const ATTACKERS: usize = 2;

/// Between two requests of a machine: some hundred a second in all, each of which the attackers
/// can send several times while it counts.
const PAUSE: Duration = Duration::from_millis(12);

pub struct Siege {
    field: Arc<Field>,
    machines: Vec<JoinHandle<()>>,
    attackers: Vec<JoinHandle<()>>,
}

/// What both sides share.
struct Field {
    gateways: Vec<SocketAddr>,
    captured: Mutex<Vec<Arc<Captured>>>,
    /// When an honest request passed last.
    passed: Mutex<Option<Instant>>,
    honest: Mutex<Tally>,
    /// The longest wait of an honest machine for an answer of whatever kind.
    slowest: Mutex<Duration>,
    replays: Mutex<Tally>,
    /// Half of the machines' clocks are off by so much, in seconds.
    off: AtomicI64,
    /// Whether the attackers go on with what has left the window.
    for_ever: AtomicBool,
    machines_stop: AtomicBool,
    attackers_stop: AtomicBool,
}

struct Captured {
    path: String,
    bytes: Vec<u8>,
    stamp: u64,
}

/// How often something was answered in which way: 200, a code, or nothing.
#[derive(Default)]
struct Tally(BTreeMap<String, usize>);

/// What came of a siege.
pub struct Outcome {
    pub captured: usize,
    pub delivered: usize,
    pub replays: usize,
    /// The longest wait of an honest machine for an answer of whatever kind.
    pub slowest: Duration,
    text: String,
}

impl Siege {
    pub fn begin(gateways: Vec<SocketAddr>) -> Siege {
        let field = Arc::new(Field {
            gateways,
            captured: Mutex::default(),
            passed: Mutex::default(),
            honest: Mutex::default(),
            slowest: Mutex::default(),
            replays: Mutex::default(),
            off: AtomicI64::new(0),
            for_ever: AtomicBool::new(false),
            machines_stop: AtomicBool::new(false),
            attackers_stop: AtomicBool::new(false),
        });
        let spawn = |work: fn(&Field, usize), count: usize| {
            let start = |number| {
                let field = Arc::clone(&field);
                std::thread::spawn(move || work(&field, number))
            };
            (0..count).map(start).collect()
        };
        Siege {
            machines: spawn(Field::send_honestly, MACHINES),
            attackers: spawn(Field::attack, ATTACKERS),
            field,
        }
    }

    /// Sets half of the machines' clocks off by so much, and has everything replayed for ever: a
    /// gateway whose clock is set may take for timely what has left the window.
    pub fn set_clocks_off(&self, seconds: i64) {
        self.field.off.store(seconds, Ordering::Relaxed);
        self.field.for_ever.store(true, Ordering::Relaxed);
    }

    /// How long it takes until an honest request, sent from now on or under way, has passed.
    ///
    /// Panics if that is longer than `limit`; `why` is asked for more words.
    pub fn passes_within(&self, limit: Duration, why: impl Fn() -> String) -> Duration {
        let since = clock();
        loop {
            let passed = *lock(&self.field.passed);
            if let Some(passed) = passed.filter(|passed| *passed > since) {
                return passed - since;
            }
            assert!(
                since.elapsed() < limit,
                "no honest request has passed for {limit:?}: {}\n{}",
                lock(&self.field.honest),
                why()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so many honest requests, sent from now on or under way, were answered in
    /// whatever way.
    pub fn is_answered(&self, times: usize) {
        let answered = || {
            let honest = lock(&self.field.honest);
            let lost = honest.0.get("no answer").copied().unwrap_or(0);
            honest.0.values().sum::<usize>() - lost
        };
        let before = answered();
        wait_for("answers", || (answered() >= before + times).then_some(()));
    }

    /// Stops the machines, lets the attackers go on until nothing that was captured is in the
    /// window any more, sends everything once more, and counts what the backend has seen.
    pub fn end(self, backend: &Backend) -> Outcome {
        let Siege {
            field,
            machines,
            attackers,
        } = self;
        field.machines_stop.store(true, Ordering::Relaxed);
        machines.into_iter().for_each(|m| m.join().unwrap());
        let some_may_count = || {
            let captured = lock(&field.captured);
            captured.iter().any(|request| request.is_in_window_soon())
        };
        while some_may_count() {
            std::thread::sleep(Duration::from_millis(100));
        }
        field.attackers_stop.store(true, Ordering::Relaxed);
        attackers.into_iter().for_each(|a| a.join().unwrap());

        let captured = lock(&field.captured).clone();
        let mut lines = field.lines();
        for request in &captured {
            for line in &mut lines {
                let answer = line.send(&request.bytes).expect("an answer");
                assert_eq!(answer.code(), "clock_skew", "{answer:?}");
            }
        }
        let mut deliveries: HashMap<String, usize> = HashMap::new();
        for seen in backend.seen() {
            *deliveries.entry(seen.target).or_default() += 1;
        }
        let doubled: Vec<_> = deliveries.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "delivered twice: {doubled:?}");
        for request in &captured {
            deliveries.remove(&request.path);
        }
        assert!(deliveries.is_empty(), "never sent: {deliveries:?}");
        let (honest, replays) = (lock(&field.honest), lock(&field.replays));
        Outcome {
            captured: captured.len(),
            delivered: backend.seen().len(),
            replays: replays.0.values().sum(),
            slowest: *lock(&field.slowest),
            text: format!("honest: {honest}; replays: {replays}"),
        }
    }
}

impl Field {
    fn send_honestly(&self, number: usize) {
        let mut lines = self.lines();
        for n in 0.. {
            if self.machines_stop.load(Ordering::Relaxed) {
                return;
            }
            // Some clocks are right, some slow, some as fast as they may be.
            let off = [0, -4, 0, FUTURE.cast_signed() - 1][n % 4];
            let off = off + self.off.load(Ordering::Relaxed) * i64::from(number % 2 == 1);
            let stamp = unix_seconds().saturating_add_signed(off);
            let path = format!("/{number}/{n}");
            let signed = machine().sign("GET", &path, stamp, b"");
            let bytes = raw("GET", &path, &signed.lines(), b"");
            let request = Captured { path, bytes, stamp };
            let request = Arc::new(request);
            // Captured first: whatever becomes of the answer, the request is out.
            lock(&self.captured).push(Arc::clone(&request));
            let at = n % lines.len();
            let began = clock();
            let answer = lines[at].send(&request.bytes);
            if answer.is_some() {
                let mut slowest = lock(&self.slowest);
                *slowest = slowest.max(began.elapsed());
            }
            if answer.as_ref().is_some_and(|answer| answer.status == 200) {
                *lock(&self.passed) = Some(clock());
            }
            lock(&self.honest).note(answer.as_ref());
            std::thread::sleep(PAUSE);
        }
    }

    fn attack(&self, number: usize) {
        let mut lines = self.lines();
        while !self.attackers_stop.load(Ordering::Relaxed) {
            let for_ever = self.for_ever.load(Ordering::Relaxed);
            let captured: Vec<Arc<Captured>> = (lock(&self.captured).iter())
                .filter(|request| for_ever || request.is_in_window())
                .skip(number)
                .step_by(ATTACKERS)
                .cloned()
                .collect();
            for request in captured {
                for line in &mut lines {
                    let answer = line.send(&request.bytes);
                    lock(&self.replays).note(answer.as_ref());
                }
                if self.attackers_stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn lines(&self) -> Vec<Line> {
        let line = |&address: &SocketAddr| Line {
            address,
            client: None,
        };
        self.gateways.iter().map(line).collect()
    }
}

impl Captured {
    /// Whether a gateway whose clock is right could take it for timely, give or take a second.
    fn is_in_window(&self) -> bool {
        let now = unix_seconds();
        now <= self.stamp + PAST + 1 && self.stamp <= now + FUTURE + 1
    }

    /// The same, at any moment of the next twenty seconds.
    fn is_in_window_soon(&self) -> bool {
        let now = unix_seconds();
        now <= self.stamp + PAST + 1 && self.stamp <= now + 20
    }
}

/// A connection to a gateway, made anew when it is gone.
struct Line {
    address: SocketAddr,
    client: Option<Client>,
}

impl Line {
    /// `None` where the gateway does not answer. On a connection that was idle that may be its
    /// end, so it is tried once more on a new one.
    fn send(&mut self, bytes: &[u8]) -> Option<Response> {
        for _ in 0..2 {
            let kept = self.client.take();
            let mut client = kept.or_else(|| Client::try_connect(self.address))?;
            client.send(bytes);
            if let Some(answer) = client.try_receive(false) {
                let stays = answer.header("connection") != Some("close");
                self.client = stays.then_some(client);
                return Some(answer);
            }
        }
        None
    }
}

impl Tally {
    fn note(&mut self, answer: Option<&Response>) {
        let what = match answer {
            None => "no answer".to_owned(),
            Some(answer) if answer.code().is_empty() => answer.status.to_string(),
            Some(answer) => answer.code(),
        };
        *self.0.entry(what).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().map(|(what, times)| format!("{times} {what}"));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            captured,
            delivered,
            replays,
            slowest,
            text,
        } = self;
        write!(
            f,
            "{captured} captured, {delivered} delivered, {replays} replays, \
             slowest answer {slowest:.1?}; {text}"
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
