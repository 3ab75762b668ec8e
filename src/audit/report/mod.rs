//! UnsignedClient has moved from bearer credentials to signatures, by the audit log: who signs, who does not,
//! and what would happen if a route enforced.
//!
//! The log is read as a stream and trusted in nothing: a line that no gateway writes is counted and
//! left out, and of what strangers can make up (tokens, addresses, paths, ids) so much is kept and the
//! rest counted. The numbers of a route, and so its [`MigrationStatus`], are exact whatever else is left out.

mod bounded;
mod entry;
mod pending;
mod route;
mod rows;
mod tally;
mod usage;

#[cfg(test)]
mod tests;

pub use self::bounded::Few;
pub use self::route::{MigrationStatus, RouteUse};
pub use self::rows::{
    AddressUse, MachineUse, MigrationReport, PathUse, Ranking, TokenUse, UnsignedClient,
    WouldRefuse,
};
pub use self::tally::Tally;
pub use self::usage::{CodeCounts, Occurrences, Usage};
