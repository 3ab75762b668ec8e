//! Turns the counts of a tally into a report with names.

use super::super::entry::TokenId;
use super::super::rows::{
    AddressUse, MachineUse, MigrationReport, PathUse, Ranking, TokenUse, WouldRefuse,
};
use super::super::usage::Occurrences;
use super::Tally;

impl Tally {
    /// The finished report.
    pub fn finish(self) -> MigrationReport {
        let (mut routes, routes_left_out) = self.routes.into_parts();
        let (paths, paths_left_out) = self.paths.into_parts();
        let (tokens, tokens_left_out) = self.tokens.into_parts();
        let (addresses, addresses_left_out) = self.addresses.into_parts();
        let (machines, machines_left_out) = self.machines.into_parts();
        let (would_refuse, would_refuse_left_out) = self.would_refuse.into_parts();
        let tokens = tokens.into_iter().map(|(hash, token)| TokenUse {
            hash: hex(&hash),
            usage: token.usage,
            addresses: token.addresses,
            paths: token.paths.map(|place| paths[place].0.clone()),
            routes: token.routes.map(|place| routes[place].0.clone()),
        });
        let tokens = table(tokens, tokens_left_out, |token| token.usage.seen);
        let addresses = addresses.into_iter().map(|(address, used)| AddressUse {
            address,
            usage: used.usage,
            tokens: used.tokens.map(|token| hex(&token)),
        });
        let would_refuse = would_refuse.into_iter();
        let would_refuse = would_refuse.map(|((code, who), seen)| WouldRefuse { code, who, seen });
        let machines = machines.into_iter().map(|(id, machine)| MachineUse {
            id,
            signed: machine.signed,
            refused: machine.refused,
            registered: self.has_registry.then_some(machine.registered),
        });
        let (signing, silent): (Vec<_>, Vec<_>) =
            machines.partition(|machine| machine.signed.requests > 0);
        let mut never_signed: Vec<String> = (silent.into_iter())
            .filter(|machine| machine.registered == Some(true))
            .map(|machine| machine.id)
            .collect();
        never_signed.sort_unstable();
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        let paths = paths.into_iter();
        let paths = paths.map(|(prefix, usage)| PathUse { prefix, usage });
        MigrationReport {
            lines: self.lines,
            unread: self.unread,
            first_unread: self.first_unread,
            earlier: self.earlier,
            seen: self.seen,
            refusals_left_out: self.refusals_left_out,
            no_route: self.no_route,
            routes,
            routes_left_out,
            tokens,
            addresses: table(addresses, addresses_left_out, |used| used.usage.seen),
            paths: table(paths, paths_left_out, |path| path.usage.seen),
            would_refuse: table(would_refuse, would_refuse_left_out, |row| row.seen),
            machines: table(signing.into_iter(), machines_left_out, |machine| {
                machine.signed
            }),
            never_signed,
        }
    }
}

/// The rows with the most requests first, and among equals the latest.
fn table<T>(
    rows: impl Iterator<Item = T>,
    left_out: u64,
    seen: impl Fn(&T) -> Occurrences,
) -> Ranking<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.sort_by_key(|row| {
        let seen = seen(row);
        std::cmp::Reverse((seen.requests, seen.span.map(|(_, last)| last)))
    });
    Ranking { rows, left_out }
}

fn hex(token: &TokenId) -> String {
    token.iter().map(|byte| format!("{byte:02x}")).collect()
}
