//! Reading a log, line by line, into a [report](super::MigrationReport).

mod finish;

use std::io::{self, BufRead};
use std::net::IpAddr;

use super::bounded::{Bounded, Few, capped};
use super::entry::{Decision, DecisionKind, ReportEntry, TokenId, entry};
use super::pending::PendingResponses;
use super::route::RouteUse;
use super::rows::UnsignedClient;
use super::usage::{Occurrences, Usage};
use crate::audit::reader::{MAX_LINE, next_line};
use countersign_core::identity::MachineId;
use countersign_core::refusal::Code;

/// Most routes kept. A configuration has a few dozen.
const ROUTES: usize = 1_000;

/// Most tokens, addresses, and machines outside the registry, some 10 MB of each. Requests of
/// others are counted together.
const CLIENTS: usize = 50_000;

/// Most path prefixes kept.
const PATHS: usize = 10_000;

/// Longest path prefix and route kept, in bytes; of longer ones the beginning.
const LONGEST_PATH: usize = 256;

/// Counts a log into a report.
#[derive(Debug)]
pub struct Tally {
    since: Option<u64>,
    segments: usize,
    lines: u64,
    unread: u64,
    first_unread: Option<(String, u64)>,
    earlier: u64,
    seen: Occurrences,
    refusals_left_out: u64,
    no_route: Occurrences,
    has_registry: bool,
    routes: Bounded<String, RouteUse>,
    tokens: Bounded<TokenId, TokenTally>,
    addresses: Bounded<IpAddr, AddressTally>,
    paths: Bounded<String, Usage>,
    would_refuse: Bounded<(Code, UnsignedClient), Occurrences>,
    machines: Bounded<String, MachineTally>,
    answers: PendingResponses<AwaitedResponse>,
}

#[derive(Debug, Default)]
struct TokenTally {
    usage: Usage,
    addresses: Few<IpAddr>,
    paths: Few<usize>,
    routes: Few<usize>,
}

#[derive(Debug, Default)]
struct AddressTally {
    usage: Usage,
    tokens: Few<TokenId>,
}

#[derive(Debug, Default)]
struct MachineTally {
    registered: bool,
    signed: Occurrences,
    refused: Occurrences,
}

/// The counts that a response belongs to.
#[derive(Debug, Default)]
struct AwaitedResponse {
    observed: bool,
    route: Option<usize>,
    token: Option<usize>,
    address: Option<usize>,
    path: Option<usize>,
}

impl Tally {
    /// Counts requests from `since` (Unix seconds) on, and paths by their first `segments`
    /// segments.
    pub fn new(since: Option<u64>, segments: usize) -> Tally {
        Tally {
            since,
            segments,
            lines: 0,
            unread: 0,
            first_unread: None,
            earlier: 0,
            seen: Occurrences::default(),
            refusals_left_out: 0,
            no_route: Occurrences::default(),
            has_registry: false,
            routes: Bounded::of(ROUTES),
            tokens: Bounded::of(CLIENTS),
            addresses: Bounded::of(CLIENTS),
            paths: Bounded::of(PATHS),
            would_refuse: Bounded::of(CLIENTS),
            machines: Bounded::of(CLIENTS),
            answers: PendingResponses::default(),
        }
    }

    /// Adds the machines of the registry, which should have signed.
    pub fn expect_machines<'m>(&mut self, ids: impl IntoIterator<Item = &'m MachineId>) {
        self.has_registry = true;
        for id in ids {
            self.machines.expect(id.as_str().to_owned()).registered = true;
        }
    }

    /// Adds a route to the report, even if it has no requests.
    pub fn expect_route(&mut self, path: &str) {
        self.routes.expect(capped(path, LONGEST_PATH));
    }

    /// Reads one file of a log to its end; `name` is its name in messages. A response is matched
    /// only after its request, so the oldest file comes first. Otherwise requests count as not
    /// answered.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&mut self, name: &str, file: &mut impl BufRead) -> io::Result<()> {
        let (mut line, mut number, mut inside) = (Vec::new(), 0, false);
        while next_line(file, &mut line)? > 0 {
            let ends = line.ends_with(b"\n");
            // The pieces of an overlong line count as one unread line.
            let begins = !std::mem::replace(&mut inside, !ends && line.len() as u64 == MAX_LINE);
            if !begins {
                continue;
            }
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.lines += 1;
            let read = (!inside).then(|| entry(&line)).flatten();
            match read {
                Some(read) => self.note(read),
                None => {
                    self.unread += 1;
                    self.first_unread
                        .get_or_insert_with(|| (name.to_owned(), number));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, entry: ReportEntry<'_>) {
        match entry {
            ReportEntry::Decision(decision)
                if self.since.is_some_and(|since| decision.at < since) =>
            {
                self.earlier += 1;
            }
            ReportEntry::Decision(decision) => self.decided(&decision),
            ReportEntry::Response { request_id, status } => {
                if let Some(asked) = self.answers.answer(&request_id) {
                    self.answered(&asked, status.is_some_and(|status| status < 400));
                }
            }
            ReportEntry::LeftOut { at, count } => {
                let earlier = (self.since).is_some_and(|since| at.is_some_and(|at| at < since));
                if !earlier {
                    self.refusals_left_out = self.refusals_left_out.saturating_add(count);
                }
            }
            ReportEntry::Other => {}
        }
    }

    fn decided(&mut self, decision: &Decision<'_>) {
        let at = decision.at;
        self.seen.note(at);
        let place = match &decision.route {
            Some(path) => self.routes.place(&*capped(path, LONGEST_PATH)),
            None => {
                self.no_route.note(at);
                None
            }
        };
        let route = self.routes.at(place);
        match &decision.kind {
            DecisionKind::Signed(id) => {
                if let Some(route) = route {
                    route.signed.note(at);
                }
                if let Some(machine) = self.machine(id) {
                    machine.signed.note(at);
                }
            }
            DecisionKind::Open => {
                if let Some(route) = route {
                    route.open.note(at);
                }
            }
            DecisionKind::Refused { code, machine } => {
                if let Some(route) = route {
                    route.refused.note(at);
                    route.refused_codes.note(*code);
                }
                if let Some(machine) = machine.as_ref().and_then(|id| self.machine(id)) {
                    machine.refused.note(at);
                }
            }
            DecisionKind::Bearer(token) => {
                if let Some(route) = route {
                    route.bearer.seen.note(at);
                }
                self.unsigned(decision, place, false, Some(token));
            }
            DecisionKind::Observed {
                code,
                claimed,
                token,
            } => {
                if let Some(route) = route {
                    route.observed.seen.note(at);
                    route.observed_codes.note(*code);
                    route.observed_with_token += u64::from(token.is_some());
                }
                let who = match (claimed, decision.address) {
                    (Some(id), _) => UnsignedClient::Claimed(capped(id, MachineId::MAX_LEN)),
                    (None, Some(address)) => UnsignedClient::Address(address),
                    (None, None) => UnsignedClient::Unknown,
                };
                let who = self.would_refuse.place(&(*code, who));
                if let Some(seen) = self.would_refuse.at(who) {
                    seen.note(at);
                }
                self.unsigned(decision, place, true, token.as_ref());
            }
        }
    }

    /// Counts a request that `enforce` would have refused by its token, address and path.
    fn unsigned(
        &mut self,
        decision: &Decision<'_>,
        route: Option<usize>,
        observed: bool,
        token: Option<&TokenId>,
    ) {
        let prefix = prefix(&decision.path, self.segments);
        let asked = AwaitedResponse {
            observed,
            route,
            token: token.and_then(|token| self.tokens.place(token)),
            address: (decision.address).and_then(|address| self.addresses.place(&address)),
            path: self.paths.place(&*prefix),
        };
        if let Some(token) = self.tokens.at(asked.token) {
            token.usage.seen.note(decision.at);
            asked
                .path
                .into_iter()
                .for_each(|path| token.paths.note(path));
            route.into_iter().for_each(|route| token.routes.note(route));
            (decision.address.into_iter()).for_each(|address| token.addresses.note(address));
        }
        if let Some(address) = self.addresses.at(asked.address) {
            address.usage.seen.note(decision.at);
            token
                .into_iter()
                .for_each(|token| address.tokens.note(*token));
        }
        if let Some(path) = self.paths.at(asked.path) {
            path.seen.note(decision.at);
        }
        self.answers.ask(&decision.request_id, asked);
    }

    fn answered(&mut self, asked: &AwaitedResponse, served: bool) {
        let usages = [
            (self.routes.at(asked.route)).map(|route| match asked.observed {
                true => &mut route.observed,
                false => &mut route.bearer,
            }),
            self.tokens.at(asked.token).map(|token| &mut token.usage),
            (self.addresses.at(asked.address)).map(|address| &mut address.usage),
            self.paths.at(asked.path),
        ];
        for usage in usages.into_iter().flatten() {
            usage.answer(served);
        }
    }

    fn machine(&mut self, id: &str) -> Option<&mut MachineTally> {
        let place = self.machines.place(&*capped(id, MachineId::MAX_LEN));
        self.machines.at(place)
    }
}

/// The first segments of a path, and `/*` for the rest.
fn prefix(path: &str, segments: usize) -> String {
    let end = path.match_indices('/').nth(segments).map(|(at, _)| at);
    match end {
        Some(end) => capped(&path[..end], LONGEST_PATH) + "/*",
        None => capped(path, LONGEST_PATH),
    }
}
