//! Active health checks: the request to a server, and the expected answer.

use std::time::Duration;

use super::super::units::duration;
use crate::yaml::{Field, Table, quoted, whole};
use countersign_core::target::Target;

/// The active health check of an upstream's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The path of the `GET` request, which may have a query and carries no credential.
    pub path: String,
    /// The statuses of a healthy server, at least one; default 200 alone.
    pub expect: Vec<u16>,
    /// Between the end of one check and the next, default 5 s, a tenth more or less.
    pub interval: Duration,
    /// Longest wait for an answer, connection included, default 2 s.
    pub timeout: Duration,
    /// Good answers in a row after which a server is healthy again, default 1.
    pub healthy: u32,
    /// Bad answers in a row after which a server is unhealthy, default 2.
    pub unhealthy: u32,
}

/// Reads `health`. Without it only failed requests make a server unhealthy.
pub(super) fn read(table: &mut Table<'_>) -> Option<Health> {
    let field = table.field("health")?;
    let mut table = field.table();
    let path = table.required("path").and_then(|field| field.parse(path));
    let expect = table.field("expect").map(expect);
    let between = |low, high| duration(Duration::from_millis(low)..=Duration::from_secs(high));
    let interval = table.value("interval", Duration::from_secs(5), between(100, 3600));
    let timeout = table.value("timeout", Duration::from_secs(2), between(10, 60));
    let healthy = table.whole("healthy", 1, 1..=100);
    let unhealthy = table.whole("unhealthy", 2, 1..=100);
    Some(Health {
        path: path?,
        expect: expect.unwrap_or_else(|| vec![200]),
        interval,
        timeout,
        healthy,
        unhealthy,
    })
}

fn path(text: &str) -> Result<String, String> {
    match Target::parse(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "{} is not a path, such as /v1/sys/health",
            quoted(text)
        )),
    }
}

fn expect(field: Field<'_>) -> Vec<u16> {
    let items = field.one_or_more("names no status; write 200, or remove it");
    let statuses = items
        .iter()
        .filter_map(|item| item.number(whole(200..=599)));
    statuses.collect()
}
