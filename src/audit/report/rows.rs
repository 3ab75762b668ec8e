//! A finished report: what the commands print.

use std::net::IpAddr;

use super::bounded::Few;
use super::route::RouteUse;
use super::usage::{Occurrences, Usage};
use countersign_core::refusal::Code;

/// The migration report of a log.
#[derive(Debug)]
pub struct MigrationReport {
    /// Lines read, empty ones apart.
    pub lines: u64,
    /// Lines that could not be read, or that no gateway of this version writes.
    pub unread: u64,
    /// The first unread line: its file, and its number there.
    pub first_unread: Option<(String, u64)>,
    /// Requests before the period, which are counted nowhere else.
    pub earlier: u64,
    /// All requests of the period.
    pub seen: Occurrences,
    /// Refusals that the gateway left out of the log, by its summaries.
    pub refusals_left_out: u64,
    /// Refused requests without a route.
    pub no_route: Occurrences,
    /// By the route's path, in the order of the paths.
    pub routes: Vec<(String, RouteUse)>,
    /// Requests of routes beyond the number that is kept. No gateway has so many.
    pub routes_left_out: u64,
    /// Bearer tokens, those with the most requests first.
    pub tokens: Ranking<TokenUse>,
    /// Client addresses of unsigned requests.
    pub addresses: Ranking<AddressUse>,
    /// Path prefixes of unsigned requests.
    pub paths: Ranking<PathUse>,
    /// Clients that observed routes would have refused.
    pub would_refuse: Ranking<WouldRefuse>,
    /// Machines that sign.
    pub machines: Ranking<MachineUse>,
    /// Machines of the registry without an accepted signature, in the order of their ids.
    pub never_signed: Vec<String>,
}

/// A bounded list.
#[derive(Debug)]
pub struct Ranking<T> {
    /// The rows, the most frequent first.
    pub rows: Vec<T>,
    /// Requests of the rows that were not kept.
    pub left_out: u64,
}

/// A bearer token.
#[derive(Debug)]
pub struct TokenUse {
    /// Its name in the records.
    pub hash: String,
    /// Its requests.
    pub usage: Usage,
    /// Their client addresses.
    pub addresses: Few<IpAddr>,
    /// Their path prefixes.
    pub paths: Few<String>,
    /// Their routes.
    pub routes: Few<String>,
}

/// An address that sends unsigned requests.
#[derive(Debug)]
pub struct AddressUse {
    /// The client address, as trusted proxies report it.
    pub address: IpAddr,
    /// Its unsigned requests.
    pub usage: Usage,
    /// The tokens it sends.
    pub tokens: Few<String>,
}

/// A path prefix that unsigned requests ask for.
#[derive(Debug)]
pub struct PathUse {
    /// The first segments of the path, and `/*` for further ones.
    pub prefix: String,
    /// The unsigned requests for it.
    pub usage: Usage,
}

/// A client that an observed route would have refused.
#[derive(Debug)]
pub struct WouldRefuse {
    /// The reason.
    pub code: Code,
    /// The client.
    pub who: UnsignedClient,
    /// The number of requests, and when.
    pub seen: Occurrences,
}

/// The identity of the client of an unsigned request, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnsignedClient {
    /// The machine that it claimed to be, without proof.
    Claimed(String),
    /// Its address.
    Address(IpAddr),
    /// Unknown.
    Unknown,
}

/// A machine.
#[derive(Debug)]
pub struct MachineUse {
    /// Its id.
    pub id: String,
    /// Its accepted requests.
    pub signed: Occurrences,
    /// Its requests that were refused although the signature verified.
    pub refused: Occurrences,
    /// Whether the given registry has it; `None` without a registry.
    pub registered: Option<bool>,
}
