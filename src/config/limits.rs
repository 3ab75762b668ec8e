//! The deadlines and budgets on the client's side. Each has a default that suits most deployments.
//! None can be switched off.

use std::time::Duration;

use super::units::{duration, size};
use crate::yaml::Table;

/// The limits of one client, and of all clients together, in time and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Total time for a request's header block from its first byte, default 10 s; then
    /// `request_timeout`. A new connection has as long for its first byte, and for TLS.
    pub header_timeout: Duration,
    /// Total time for a request's body, default 30 s; then `request_timeout`.
    pub body_timeout: Duration,
    /// How long an idle client connection stays open, default 75 s.
    pub keepalive: Duration,
    /// Longest wait for the client to take a piece of the response, default 30 s; then the
    /// connection is closed.
    pub write_timeout: Duration,
    /// Most bytes of bodies held, all requests together, each from its first byte until its answer
    /// has been sent; default 256 MiB; beyond it, `overloaded`.
    pub body_budget: u64,
    /// Most bytes of a refused upload that are read and discarded, so that the client receives the
    /// refusal; default 32 MiB, the largest body.
    pub drain_bytes: u64,
    /// Longest time for reading those bytes, default 5 s. It ends early if the client sends nothing
    /// for 2 s.
    pub drain_timeout: Duration,
    /// Requests on one connection before it is closed, default 10,000.
    pub requests_per_connection: u32,
    /// Most client connections open at once, default 20,000; further ones are closed at once.
    /// Each takes a file descriptor, and another while a request is with the backend.
    pub connections: usize,
    /// Most of them of one source (an IPv4 address, an IPv6 /64), default 2,000. Trusted proxies
    /// have no such limit; behind a PROXY line it is the client that counts.
    pub connections_per_source: usize,
    /// Most HTTP/2 requests at once on one connection, default 128.
    pub h2_streams: u32,
}

/// Reads the table; `largest_body` is the greatest `max_body` of the routes.
pub(super) fn read(mut table: Table<'_>, largest_body: u64) -> Limits {
    let time = |table: &mut Table<'_>, key, default| {
        let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
        table.value(key, Duration::from_secs(default), duration(bounds))
    };
    Limits {
        header_timeout: time(&mut table, "header_timeout", 10),
        body_timeout: time(&mut table, "body_timeout", 30),
        keepalive: time(&mut table, "keepalive", 75),
        write_timeout: time(&mut table, "write_timeout", 30),
        body_budget: table.value("body_budget", 256 << 20, |text| {
            body_budget(text, largest_body)
        }),
        drain_bytes: table.value("drain_bytes", 32 << 20, size(0..=1 << 30)),
        drain_timeout: time(&mut table, "drain_timeout", 5),
        requests_per_connection: table.whole("requests_per_connection", 10_000, 1..=1_000_000_000),
        connections: table.whole("connections", 20_000, 1..=1_000_000),
        connections_per_source: table.whole("connections_per_source", 2_000, 1..=1_000_000),
        h2_streams: table.whole("h2_streams", 128, 1..=10_000),
    }
}

/// A budget below the largest single body would always refuse that body.
fn body_budget(text: &str, largest_body: u64) -> Result<u64, String> {
    let budget = size(1 << 20..=1 << 40)(text)?;
    if budget < largest_body {
        return Err("is less than the largest `max_body` of the routes; raise it".into());
    }
    Ok(budget)
}
