//! The registry in a database: SQLite for one gateway, PostgreSQL for several.
//!
//! Entries stand as canonical JSON beside one table of all keys, so that no two machines, removed
//! ones among them, ever share a key. Each change is one transaction that first takes the row of the
//! revision. Revisions so have no gaps, and a gateway that follows them misses none.

mod change_log;
mod connect;
mod connection;
mod contents;
mod copied_rows;
mod copy;
mod edit;
mod enrol;
mod feed;
mod listen;
mod pool;
mod read;
mod row_sum;
mod schema;
mod session;
mod tokens;
mod transaction;
mod write;
mod write_error;

#[cfg(test)]
mod tests;

pub(in crate::registry) use change_log::ChangePosition;
pub use change_log::{Author, LoggedChange, Revision};
pub use connect::Database;
pub use contents::{ImportMode, RegistryContents};
pub(in crate::registry) use copy::LocalCopy;
pub use edit::TAKEN_KEY;
pub use enrol::Admission;
pub(in crate::registry) use feed::{ChangedRows, News};
pub use read::EntryPage;
pub use tokens::{NewToken, StoredToken};
pub use write_error::{EnrolError, WriteError};
