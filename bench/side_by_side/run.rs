//! The run: every contender in turn, several rounds, so that a machine that slows down or speeds up does
//! so for all of them.

use std::time::Instant;

use bytes::Bytes;
use ed25519_dalek::Signer as _;

use crate::backend::Backend;
use crate::contender::{
    BARE, Contender, ENFORCE, ENVOY, ENVOY_AUTH, JOURNAL, NGINX, NGINX_AUTH, OPEN, UNTHROTTLED,
};
use crate::load::{Load, Protocol};
use crate::measure::measure;
use crate::requests::{Kind, Signer};
use crate::stage::Stage;
use crate::support::key;
use crate::table::{Row, median};

/// Requests in flight at once, in every table.
pub(crate) const LANES: usize = 32;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Of the main table.
    pub(crate) rounds: usize,
    /// Of the others.
    pub(crate) side_rounds: usize,
    /// Requests in a round of the main table. The others have half as many, and fewer with large bodies.
    pub(crate) requests: usize,
    /// Of the open loop, for each contender.
    pub(crate) seconds: u64,
}

/// All contenders, running, and the backend.
pub(crate) struct Run {
    pub(crate) extent: Extent,
    pub(crate) backend: Backend,
    pub(crate) contenders: Vec<Contender>,
}

/// What the run showed.
pub(crate) struct Results {
    /// One `verify_strict`, in microseconds, before each round of the main table.
    pub(crate) verify: Vec<f64>,
    pub(crate) main: Vec<Row>,
    pub(crate) bodies: Vec<Row>,
    pub(crate) encrypted: Vec<Row>,
    pub(crate) refused: Vec<Row>,
    pub(crate) open_loop: Vec<Row>,
    /// Requests a second in the open loop.
    pub(crate) open_rate: f64,
}

const PLAIN: Load = Load {
    protocol: Protocol::Http1,
    lanes: LANES,
    tls: None,
    rate: None,
};

impl Run {
    /// Starts everything, without Envoy where it is not to be had.
    pub(crate) fn start(extent: Extent, envoy: Option<std::path::PathBuf>) -> Run {
        let backend = Backend::start();
        let stage = Stage {
            backend: backend.address,
            envoy,
        };
        let mut contenders = vec![
            stage.countersign(ENFORCE, "enforce", "state_dir: none"),
            stage.countersign(JOURNAL, "enforce", "state_dir: state"),
            stage.countersign_with_redis(),
            stage.countersign(OPEN, "open", "state_dir: none"),
            stage.countersign(UNTHROTTLED, "enforce", "state_dir: none"),
            stage.bare(),
            stage.nginx(false),
            stage.nginx(true),
        ];
        contenders.extend(stage.envoy(false));
        contenders.extend(stage.envoy(true));
        Run {
            extent,
            backend,
            contenders,
        }
    }

    /// Measures everything, in about the order of the report.
    pub(crate) fn all(&self) -> Results {
        let (verify, main) = self.main();
        // Half of what the slower of the two can do.
        let of = |name| main.iter().find(|row| row.contender == name);
        let most = of(ENFORCE).map_or(f64::NAN, |row| row.median(|sample| sample.rate));
        let open_rate = (most / 2.0).floor();
        Results {
            open_loop: self.open_loop(open_rate),
            refused: self.refused(),
            encrypted: self.encrypted(),
            bodies: self.bodies(),
            open_rate,
            verify,
            main,
        }
    }

    /// Bodyless requests over plain HTTP/1.1.
    fn main(&self) -> (Vec<f64>, Vec<Row>) {
        let Extent {
            rounds, requests, ..
        } = self.extent;
        let mut plan = Vec::new();
        for contender in self.contenders.iter().filter(|c| c.name != UNTHROTTLED) {
            plan.push(Step::new("", contender, PLAIN, Kind::Accepted, 0, requests));
        }
        let mut verify = Vec::new();
        let rows = self.rounds("main table", rounds, plan, || verify.push(verify_strict()));
        (verify, rows)
    }

    fn bodies(&self) -> Vec<Row> {
        let all = [ENFORCE, OPEN, BARE, NGINX, ENVOY, ENVOY_AUTH];
        let mut plan = Vec::new();
        for (case, size, share) in [
            ("1 KiB", 1 << 10, 2),
            ("64 KiB", 1 << 16, 5),
            ("1 MiB", 1 << 20, 40),
        ] {
            let requests = self.extent.requests / share;
            for contender in self.named(&all) {
                plan.push(Step::new(
                    case,
                    contender,
                    PLAIN,
                    Kind::Accepted,
                    size,
                    requests,
                ));
            }
        }
        self.rounds("bodies", self.extent.side_rounds, plan, || ())
    }

    fn encrypted(&self) -> Vec<Row> {
        let all = [ENFORCE, OPEN, BARE, NGINX, NGINX_AUTH, ENVOY, ENVOY_AUTH];
        let mut plan = Vec::new();
        for (case, protocol) in [
            ("HTTP/1.1, TLS", Protocol::Http1),
            ("HTTP/2, TLS", Protocol::Http2),
        ] {
            for contender in self.named(&all) {
                let load = Load {
                    protocol,
                    tls: Some(contender.certificate.clone()),
                    ..PLAIN
                };
                plan.push(Step::new(
                    case,
                    contender,
                    load,
                    Kind::Accepted,
                    0,
                    self.extent.requests / 2,
                ));
            }
        }
        self.rounds("TLS and HTTP/2", self.extent.side_rounds, plan, || ())
    }

    fn refused(&self) -> Vec<Row> {
        let all = [UNTHROTTLED, NGINX_AUTH, ENVOY_AUTH];
        let kinds = [
            Kind::Accepted,
            Kind::BadSignature,
            Kind::Replay,
            Kind::Malformed,
        ];
        let mut plan = Vec::new();
        for (protocol, tls) in [(Protocol::Http1, false), (Protocol::Http2, true)] {
            for kind in kinds {
                for contender in self.named(&all) {
                    let load = Load {
                        protocol,
                        tls: tls.then(|| contender.certificate.clone()),
                        ..PLAIN
                    };
                    let case = format!(
                        "{}, {}",
                        kind.name(),
                        if tls { "HTTP/2, TLS" } else { "HTTP/1.1" }
                    );
                    plan.push(Step::new(
                        &case,
                        contender,
                        load,
                        kind,
                        0,
                        self.extent.requests / 4,
                    ));
                }
            }
        }
        self.rounds("refusals", self.extent.side_rounds, plan, || ())
    }

    fn open_loop(&self, rate: f64) -> Vec<Row> {
        let Extent {
            side_rounds,
            seconds,
            ..
        } = self.extent;
        let requests = (rate * seconds as f64) as usize / side_rounds;
        let load = Load {
            rate: Some(rate),
            ..PLAIN
        };
        let plan = self.named(&[ENFORCE, OPEN]);
        let plan = plan
            .map(|contender| Step::new("", contender, load.clone(), Kind::Accepted, 0, requests));
        self.rounds("open loop", side_rounds, plan.collect(), || ())
    }

    fn named(&self, names: &[&str]) -> impl Iterator<Item = &Contender> {
        self.contenders
            .iter()
            .filter(move |contender| names.contains(&contender.name))
    }

    /// Takes the steps so many times, every other time in reverse.
    fn rounds(
        &self,
        name: &str,
        rounds: usize,
        plan: Vec<Step<'_>>,
        mut before: impl FnMut(),
    ) -> Vec<Row> {
        let row = |step: &Step<'_>| Row {
            case: step.case.clone(),
            contender: step.contender.name,
            samples: Vec::new(),
        };
        let mut rows: Vec<Row> = plan.iter().map(row).collect();
        for round in 0..rounds {
            eprintln!("{name}: round {} of {rounds}", round + 1);
            before();
            let mut order: Vec<usize> = (0..plan.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for n in order {
                let step = &plan[n];
                let mut signer = Signer::new(Bytes::from(vec![b'a'; step.body]));
                if round == 0 {
                    // Connections to the backend, caches, allocators: not measured.
                    let warm = (Kind::Accepted, (step.what.1 / 10).max(LANES));
                    measure(
                        step.contender,
                        &self.backend,
                        &Load {
                            rate: None,
                            ..step.load.clone()
                        },
                        warm,
                        &mut signer,
                    );
                }
                rows[n].samples.push(measure(
                    step.contender,
                    &self.backend,
                    &step.load,
                    step.what,
                    &mut signer,
                ));
            }
        }
        rows
    }
}

/// One measurement of a round.
struct Step<'a> {
    case: String,
    contender: &'a Contender,
    load: Load,
    /// The kind of requests, and how many.
    what: (Kind, usize),
    /// Bytes.
    body: usize,
}

impl<'a> Step<'a> {
    fn new(
        case: &str,
        contender: &'a Contender,
        load: Load,
        kind: Kind,
        body: usize,
        requests: usize,
    ) -> Step<'a> {
        Step {
            case: case.to_owned(),
            contender,
            load,
            what: (kind, requests),
            body,
        }
    }
}

/// One signature check, in microseconds, on one thread, with nothing else going on: the median of
/// batches.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn verify_strict() -> f64 {
    const BATCHES: usize = 20;
    const TIMES: u32 = 500;
    let message = [b'a'; 160];
    let (signature, public) = (key().sign(&message), key().verifying_key());
    let batch = || {
        let start = Instant::now();
        for _ in 0..TIMES {
            let verified = public.verify_strict(std::hint::black_box(&message), &signature);
            assert!(std::hint::black_box(verified).is_ok());
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)
    };
    median((0..BATCHES).map(|_| batch()).collect())
}
