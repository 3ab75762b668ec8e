//! A contender, running.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::load::{Load, PLAIN, Target, Tls};
use crate::process::Process;
use crate::requests::{Kind, Signer};

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) checks: Checks,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) certificate: Tls,
    /// Where the gateway's metrics are.
    pub(crate) admin: Option<SocketAddr>,
    /// Resident bytes after the first request.
    pub(crate) idle: u64,
    // Ended in this order, and before the folders go.
    pub(crate) processes: Vec<Process>,
    pub(crate) folders: Vec<TempDir>,
}

/// What a contender finds out about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// Signature and nonce, over a body too.
    All,
    /// Signature and nonce, but it does not see the body.
    Heads,
    Nothing,
}

pub(crate) const ENFORCE: &str = "Countersign, enforce";
pub(crate) const JOURNAL: &str = "Countersign, enforce, journal";
pub(crate) const REDIS: &str = "Countersign, enforce, Redis";
pub(crate) const UNTHROTTLED: &str = "Countersign, enforce, no throttle";
pub(crate) const OPEN: &str = "Countersign, open";
pub(crate) const BARE: &str = "bare Pingora";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const NGINX_AUTH: &str = "nginx + auth_request";
pub(crate) const ENVOY: &str = "Envoy";
pub(crate) const ENVOY_AUTH: &str = "Envoy + ext_authz";

impl Contender {
    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            plain: self.plain,
            encrypted: self.tls,
            certificate: &self.certificate,
        }
    }

    /// Its processes, by role, and the CPU time of each so far.
    pub(crate) fn cpu_times(&self) -> Vec<(&'static str, Duration)> {
        self.processes
            .iter()
            .map(|process| (process.role, process.cpu_time()))
            .collect()
    }

    /// Resident bytes of all its processes.
    pub(crate) fn resident(&self) -> u64 {
        self.processes.iter().map(Process::resident).sum()
    }

    /// How many nonces a gateway remembers.
    pub(crate) fn live_nonces(&self) -> Option<u64> {
        let metrics = self.metrics()?;
        let mut lines = metrics.lines();
        lines.find_map(|line| line.strip_prefix("countersign_nonces ")?.parse().ok())
    }

    /// What a gateway has refused so far, by code; empty for the others.
    pub(crate) fn refusals(&self) -> String {
        let metrics = self.metrics().unwrap_or_default();
        let lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("countersign_refusals_total"));
        lines
            .filter(|line| !line.ends_with(" 0"))
            .map(|line| format!("; {line} so far"))
            .collect()
    }

    fn metrics(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin?).ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Waits until it answers a good request with 200.
    pub(crate) fn settle(&mut self) {
        let mut signer = Signer::new(bytes::Bytes::new());
        let load = Load { lanes: 1, ..PLAIN };
        // A gateway refuses the stamps of its first second, and longer with a shared store.
        for _ in 0..150 {
            thread::sleep(Duration::from_millis(100));
            if self.processes.iter_mut().any(Process::has_ended) {
                break;
            }
            if TcpStream::connect(self.plain).is_err() {
                continue;
            }
            let (seen, ..) = load.send(self.target(), signer.sign(Kind::Accepted, 1), || ());
            if seen.statuses.contains_key(&200) {
                self.idle = self.resident();
                return;
            }
        }
        let log = std::fs::read_to_string(self.folders[0].path().join("log"));
        panic!(
            "{} does not answer a good request with 200: {log:?}",
            self.name
        );
    }
}

pub(crate) fn wait_for_port(address: SocketAddr) {
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody listens on {address}");
}
