//! The run: every contender in turn, several rounds, so that a machine that slows down or speeds up
//! does so for all of them.

use std::cell::RefCell;
use std::path::PathBuf;

use bytes::Bytes;

use crate::backend::Backend;
use crate::contender::{
    BARE, Contender, ENFORCE, ENVOY, ENVOY_AUTH, JOURNAL, NGINX, NGINX_AUTH, OPEN, REDIS,
    UNTHROTTLED,
};
use crate::load::{Load, PLAIN, Protocol, Transport};
use crate::machine::others;
use crate::measure::{Sample, measure};
use crate::requests::{Kind, Signer};
use crate::signature::Signatures;
use crate::stage::Stage;
use crate::table::Row;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Of the main table.
    pub(crate) rounds: usize,
    /// Of the others.
    pub(crate) side_rounds: usize,
    /// Requests in a round of the main table. The others have fewer.
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
    /// Percent of the cores that others took, before the run and after it.
    pub(crate) others: [f64; 2],
    /// Samples that did not count and were taken again, and why.
    pub(crate) faults: Vec<String>,
    /// Before each round of the main table.
    pub(crate) signatures: Vec<Signatures>,
    pub(crate) main: Vec<Row>,
    pub(crate) open_loop: Vec<Row>,
    /// Requests a second in the open loop.
    pub(crate) open_rate: f64,
    pub(crate) refused: Vec<Row>,
    pub(crate) bodies: Vec<Row>,
    pub(crate) encrypted: Vec<Row>,
}

/// One measurement of a round.
struct Step<'a> {
    contender: &'a Contender,
    case: String,
    load: Load,
    kind: Kind,
    /// Bytes of each request's body.
    body: usize,
    requests: usize,
}

impl Run {
    /// Starts everything, without Envoy where it is not to be had.
    pub(crate) fn start(extent: Extent, envoy: Option<PathBuf>) -> Run {
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

    /// Measures everything.
    pub(crate) fn all(&self) -> Results {
        let mut signatures = Vec::new();
        let faults = RefCell::default();
        let before = others();
        let rounds = self.extent.rounds;
        let main = self.rounds("main table", rounds, &self.main(), &faults, || {
            signatures.push(Signatures::measure());
        });
        let enforce = main.iter().find(|row| row.contender == ENFORCE);
        let most = enforce.map_or(f64::NAN, |row| row.median(|sample| sample.rate));
        let open_rate = (most / 2.0).floor();
        let side = |name: &str, steps: &[Step<'_>]| {
            self.rounds(name, self.extent.side_rounds, steps, &faults, || ())
        };
        let open_loop = side("open loop", &self.open_loop(open_rate));
        let refused = side("refusals", &self.refused());
        let encrypted = side("TLS and HTTP/2", &self.encrypted());
        let bodies = side("bodies", &self.bodies());
        Results {
            others: [before, others()],
            faults: faults.into_inner(),
            open_loop,
            refused,
            bodies,
            encrypted,
            open_rate,
            signatures,
            main,
        }
    }

    /// Bodyless requests over plain HTTP/1.1.
    fn main(&self) -> Vec<Step<'_>> {
        let all = [
            ENFORCE, JOURNAL, REDIS, OPEN, BARE, NGINX, NGINX_AUTH, ENVOY, ENVOY_AUTH,
        ];
        self.steps(&all, "", PLAIN, Kind::Accepted, 0, self.extent.requests)
    }

    fn open_loop(&self, rate: f64) -> Vec<Step<'_>> {
        let load = Load {
            rate: Some(rate),
            ..PLAIN
        };
        let requests = (rate * self.extent.seconds as f64) as usize / self.extent.side_rounds;
        self.steps(&[ENFORCE, OPEN], "", load, Kind::Accepted, 0, requests)
    }

    fn refused(&self) -> Vec<Step<'_>> {
        let all = [UNTHROTTLED, NGINX_AUTH, ENVOY_AUTH];
        let encrypted = Load {
            protocol: Protocol::Http2,
            transport: Transport::Tls,
            ..PLAIN
        };
        let mut steps = Vec::new();
        for (protocol, load) in [("HTTP/1.1", PLAIN), ("HTTP/2, TLS", encrypted)] {
            for kind in Kind::ALL {
                let case = format!("{}, {protocol}", kind.name());
                steps.extend(self.steps(&all, &case, load, kind, 0, self.extent.requests / 2));
            }
        }
        steps
    }

    fn bodies(&self) -> Vec<Step<'_>> {
        let all = [ENFORCE, OPEN, BARE, NGINX, ENVOY, ENVOY_AUTH];
        let mut steps = Vec::new();
        for (case, size, share) in [
            ("1 KiB", 1 << 10, 1),
            ("64 KiB", 1 << 16, 4),
            ("1 MiB", 1 << 20, 40),
        ] {
            let requests = self.extent.requests / share;
            steps.extend(self.steps(&all, case, PLAIN, Kind::Accepted, size, requests));
        }
        steps
    }

    fn encrypted(&self) -> Vec<Step<'_>> {
        let all = [ENFORCE, OPEN, BARE, NGINX, NGINX_AUTH, ENVOY, ENVOY_AUTH];
        let mut steps = Vec::new();
        for (case, protocol) in [
            ("HTTP/1.1, TLS", Protocol::Http1),
            ("HTTP/2, TLS", Protocol::Http2),
        ] {
            let load = Load {
                protocol,
                transport: Transport::Tls,
                ..PLAIN
            };
            let requests = self.extent.requests;
            steps.extend(self.steps(&all, case, load, Kind::Accepted, 0, requests));
        }
        steps
    }

    /// The same for each of these contenders, in the order of their start.
    fn steps(
        &self,
        names: &[&str],
        case: &str,
        load: Load,
        kind: Kind,
        body: usize,
        requests: usize,
    ) -> Vec<Step<'_>> {
        let contenders = self.contenders.iter();
        let step = |contender| Step {
            contender,
            case: case.to_owned(),
            load,
            kind,
            body,
            requests,
        };
        contenders
            .filter(|c| names.contains(&c.name))
            .map(step)
            .collect()
    }

    /// Takes the steps so many times, every other time in reverse.
    fn rounds(
        &self,
        name: &str,
        rounds: usize,
        steps: &[Step<'_>],
        faults: &RefCell<Vec<String>>,
        mut before: impl FnMut(),
    ) -> Vec<Row> {
        let mut rows: Vec<Row> = steps.iter().map(Step::row).collect();
        for round in 0..rounds {
            eprintln!("{name}: round {} of {rounds}", round + 1);
            before();
            let mut order: Vec<usize> = (0..steps.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for n in order {
                if round == 0 {
                    steps[n].warm_up(&self.backend);
                }
                let sample = steps[n].take_again(&self.backend, &mut faults.borrow_mut());
                rows[n].samples.push(sample);
            }
        }
        rows
    }
}

impl Step<'_> {
    fn row(&self) -> Row {
        Row {
            case: self.case.clone(),
            contender: self.contender.name,
            samples: Vec::new(),
        }
    }

    fn take(&self, backend: &Backend) -> Sample {
        let mut signer = Signer::new(Bytes::from(vec![b'a'; self.body]));
        let what = (self.kind, self.requests);
        measure(self.contender, backend, self.load, what, &mut signer)
    }

    /// Takes a sample that does not count once more, and twice: other programs may have held up the
    /// disk. If it never counts, nor does the row.
    fn take_again(&self, backend: &Backend, faults: &mut Vec<String>) -> Sample {
        let mut sample = self.take(backend);
        for _ in 0..2 {
            let Some(fault) = &sample.fault else { break };
            faults.push(format!("{} {}: {fault}", self.contender.name, self.case));
            sample = self.take(backend);
        }
        sample
    }

    /// Connections to the backend, caches, allocators.
    fn warm_up(&self, backend: &Backend) {
        let short = Step {
            case: String::new(),
            kind: Kind::Accepted,
            load: Load {
                rate: None,
                ..self.load
            },
            requests: (self.requests / 10).max(PLAIN.lanes),
            ..*self
        };
        short.take(backend);
    }
}
