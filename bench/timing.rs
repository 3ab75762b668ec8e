//! Whether time tells an unknown machine from a bad signature of a known one with one key: ten
//! thousand of each, in turn, in the core and over a socket.
//!
//!     make bench-timing
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::decision::{Attempt, prepare};
use countersign_core::header_name::SigningHeader;
use countersign_core::headers::{Occurrence, SigningHeaders};
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::message::BodyHash;
use countersign_core::method::Method;
use countersign_core::replay::Window;
use countersign_core::target::{QueryPolicy, Target};

mod support;

use support::{Gateway, PATH, key, request, strangers_key};

const SAMPLES: u64 = 10_000;

/// The medians of the two may differ by so much.
const BOUND: f64 = 0.02;

fn main() {
    prepare();
    let core = compare(core_times());
    println!("core:   {core}");
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "throttle: { failures_per_minute: 0 }");
    let socket = compare(socket_times(gateway.address));
    println!("socket: {socket}");
    gateway.stop();
    assert!(core.differs_by() < BOUND && socket.differs_by() < BOUND);
}

/// The medians, of an unknown machine and of a bad signature.
struct Medians([Duration; 2]);

impl Medians {
    fn differs_by(&self) -> f64 {
        let [one, other] = self.0.map(|median| median.as_secs_f64());
        (one / other - 1.0).abs()
    }
}

impl std::fmt::Display for Medians {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [unknown, bad] = self.0;
        let percent = self.differs_by() * 100.0;
        write!(
            f,
            "unknown machine {unknown:.2?}, bad signature {bad:.2?}: {percent:.2} % apart"
        )
    }
}

fn compare(mut times: [Vec<Duration>; 2]) -> Medians {
    for times in &mut times {
        times.sort_unstable();
    }
    Medians(times.map(|times| times[times.len() / 2]))
}

/// Takes samples of both, in an order that changes, so that neither is always the second.
fn interleaved(mut sample: impl FnMut(usize, u64) -> Duration) -> [Vec<Duration>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for n in 0..SAMPLES {
        for turn in [n % 2, (n + 1) % 2] {
            let which = turn as usize;
            times[which].push(sample(which, n));
        }
    }
    times
}

const NAMES: [&str; 2] = ["nobody", "bench"];

fn core_times() -> [Vec<Duration>; 2] {
    let public = PublicKey::from_bytes(key().verifying_key().as_bytes()).unwrap();
    let machine = Arc::new(Machine {
        id: MachineId::parse("bench").unwrap(),
        name: None,
        vault: None,
        owner: None,
        credential: None,
        keys: [public.into()].into(),
        enabled: true,
        not_before: None,
        expires: None,
        policy: None,
        groups: Arc::default(),
    });
    let window = Window {
        past: 300,
        future: 300,
    };
    interleaved(|which, n| {
        let text = String::from_utf8(request(NAMES[which], &strangers_key(), "time", n)).unwrap();
        let value = |header: SigningHeader| {
            let line = text.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case(header.name()).then_some(value)
            });
            Occurrence::Once(line.unwrap().as_bytes())
        };
        let headers = SigningHeaders::parse(value).unwrap();
        let now = headers.timestamp.unix_seconds();
        let target = Target::parse(PATH.as_bytes()).unwrap();
        let target = target.under(QueryPolicy::Strip).unwrap();
        let method = Method::accept("GET", &[]).unwrap();
        let attempt = Attempt::new(method, target, headers);
        let began = Instant::now();
        let refused = attempt
            .check_time(now, &window)
            .unwrap()
            .look_up(|id| (id == "bench").then(|| Arc::clone(&machine)))
            .verify(BodyHash::of(b""));
        let took = began.elapsed();
        assert!(refused.is_err());
        took
    })
}

fn socket_times(address: SocketAddr) -> [Vec<Duration>; 2] {
    interleaved(|which, n| {
        let bytes = request(NAMES[which], &strangers_key(), "time", n);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let began = Instant::now();
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 512];
        let count = stream.read(&mut answer).unwrap();
        let took = began.elapsed();
        assert!(answer[..count].starts_with(b"HTTP/1.1 401"));
        took
    })
}
