//! The load generator: one thread, kept connections, requests that were made beforehand. It has to
//! be cheap, because it runs on the cores of the servers that it measures; what it took is part of
//! the result.

mod http1;
mod http2;
mod pace;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use self::pace::Pace;
use crate::process::own_cpu_time;
use crate::requests::Signed;

pub(crate) use self::tls::Tls;

/// How the requests are sent.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    /// In flight at once: HTTP/1.1 connections, or streams.
    pub(crate) lanes: usize,
    pub(crate) transport: Transport,
    /// Requests a second, whether or not earlier ones have been answered (open loop), with
    /// latencies from the moment at which a request was due. `None`: each lane sends the next as
    /// soon as it has its answer (closed loop).
    pub(crate) rate: Option<f64>,
}

/// The closed loop of the main table, which the others are variations of.
pub(crate) const PLAIN: Load = Load {
    protocol: Protocol::Http1,
    lanes: 32,
    transport: Transport::Plain,
    rate: None,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// With several streams on each connection.
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
}

/// Streams on an HTTP/2 connection.
const STREAMS: usize = 8;

/// Whom they are sent to.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) plain: SocketAddr,
    pub(crate) encrypted: SocketAddr,
    /// What it shows there.
    pub(crate) certificate: &'a Tls,
}

/// What came of it.
pub(crate) struct Seen {
    /// In nanoseconds, up to a minute, to three digits.
    pub(crate) latency: Histogram<u64>,
    /// How many answers of each status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub(crate) unanswered: u64,
    /// Connections made. Those of the start are made before the clock starts.
    pub(crate) connections: u64,
    pub(crate) took: Duration,
    /// CPU time of the load generator.
    pub(crate) cpu: Duration,
}

impl Seen {
    fn new() -> Seen {
        Seen {
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap(),
            statuses: BTreeMap::new(),
            unanswered: 0,
            connections: 0,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }

    fn note(&mut self, status: Option<u16>, latency: Duration) {
        match status {
            Some(status) => *self.statuses.entry(status).or_default() += 1,
            None => self.unanswered += 1,
        }
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
    }

    fn add(&mut self, other: &Seen) {
        self.latency.add(&other.latency).unwrap();
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.connections += other.connections;
    }
}

impl Load {
    /// Sends all of these, and waits for the answers. `look` is called with every connection
    /// standing, right before the first request and right after the last answer.
    pub(crate) fn send<T>(
        &self,
        to: Target<'_>,
        requests: Vec<Signed>,
        look: impl Fn() -> T,
    ) -> (Seen, T, T) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut lanes = vec![VecDeque::new(); self.lanes];
        for (n, request) in requests.into_iter().enumerate() {
            lanes[n % self.lanes].push_back(request);
        }
        LocalSet::new().block_on(&runtime, async {
            let pace = Pace::new(self.rate, self.lanes);
            let connected = match self.protocol {
                Protocol::Http1 => http1::connect(to, self.transport, lanes, &pace).await,
                Protocol::Http2 => http2::connect(to, lanes, &pace).await,
            };
            let (cpu, before, began) = (own_cpu_time(), look(), Instant::now());
            let tasks: Vec<_> = connected
                .into_iter()
                .map(tokio::task::spawn_local)
                .collect();
            pace.start(began);
            let mut all = Seen::new();
            for task in tasks {
                all.add(&task.await.unwrap());
            }
            all.took = began.elapsed();
            let after = look();
            all.cpu = own_cpu_time() - cpu;
            (all, before, after)
        })
    }
}
