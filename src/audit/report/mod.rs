//! The migration report: which machines sign, which clients still send bearer tokens, and which
//! requests a route would refuse if it enforced signatures, by the audit log.
//!
//! The log is read as a stream and not trusted. A line that no gateway writes is counted and left
//! out. Of values that clients choose (tokens, addresses, paths, ids) a bounded number is kept, and
//! the requests of the others are counted together. The numbers of a route, and so its
//! [`MigrationStatus`], are always exact.

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
