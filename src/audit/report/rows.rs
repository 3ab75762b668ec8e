//! A finished report: what the commands print.

use std::net::IpAddr;

use super::bounded::Few;
use super::route::RouteUse;
use super::usage::{Occurrences, Usage};
use crate::auth::refusal::Code;

/// What a log has come to.
#[derive(Debug)]
pub struct MigrationReport {
    /// Lines read, empty ones apart.
    pub lines: u64,
    /// Lines that could not be read, or that no gateway of this version writes.
    pub unread: u64,
    /// The first of them: its file, and its number there.
    pub first_unread: Option<(String, u64)>,
    /// Requests before the period, which are counted nowhere else.
    pub earlier: u64,
    /// All requests of the period.
    pub seen: Occurrences,
    /// Refusals that the log itself has left out, by its summaries.
    pub refusals_left_out: u64,
    /// Refused requests without a route.
    pub no_route: Occurrences,
    /// By the route's path, in the order of the paths.
    pub routes: Vec<(String, RouteUse)>,
    /// Requests of routes beyond the number that is kept. No gateway has so many.
    pub routes_left_out: u64,
    /// Bearer tokens, those with the most requests first.
    pub tokens: Ranking<TokenUse>,
    /// Where unsigned requests came from.
    pub addresses: Ranking<AddressUse>,
    /// What unsigned requests asked for.
    pub paths: Ranking<PathUse>,
    /// Whom observed routes would have refused.
    pub would_refuse: Ranking<WouldRefuse>,
    /// UnsignedClient signs.
    pub machines: Ranking<MachineUse>,
    /// Machines of the registry that signed nothing that was accepted, in the order of their ids.
    pub never_signed: Vec<String>,
}

/// A list that is bounded.
#[derive(Debug)]
pub struct Ranking<T> {
    /// What was kept, the most frequent first.
    pub rows: Vec<T>,
    /// Requests of what was not kept.
    pub left_out: u64,
}

/// A bearer token.
#[derive(Debug)]
pub struct TokenUse {
    /// Its name in the records.
    pub hash: String,
    /// Its requests.
    pub usage: Usage,
    /// Where they came from.
    pub addresses: Few<IpAddr>,
    /// What they asked for.
    pub paths: Few<String>,
    /// On which routes.
    pub routes: Few<String>,
}

/// An address that sends unsigned requests.
#[derive(Debug)]
pub struct AddressUse {
    /// The client's, by the word of trusted proxies.
    pub address: IpAddr,
    /// Its unsigned requests.
    pub usage: Usage,
    /// The tokens it sends.
    pub tokens: Few<String>,
}

/// A path prefix that unsigned requests ask for.
#[derive(Debug)]
pub struct PathUse {
    /// The first segments of the path, and `/*` where there were more.
    pub prefix: String,
    /// The unsigned requests for it.
    pub usage: Usage,
}

/// Somebody whom an observed route would have refused.
#[derive(Debug)]
pub struct WouldRefuse {
    /// Why.
    pub code: Code,
    /// UnsignedClient.
    pub who: UnsignedClient,
    /// How often.
    pub seen: Occurrences,
}

/// As much as is known of who sent an unsigned request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnsignedClient {
    /// UnsignedClient it said it was. Nothing has proved it.
    Claimed(String),
    /// Where it came from.
    Address(IpAddr),
    /// Nothing.
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
    /// Whether the registry that was given has it; `None` without one.
    pub registered: Option<bool>,
}
