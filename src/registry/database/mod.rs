//! The registry in a database: SQLite for one gateway, PostgreSQL for several.
//!
//! Entries stand as canonical JSON beside one table of all keys, so that no two machines, removed
//! ones among them, ever share a key. Each change is one transaction that first takes the row of the
//! revision. Revisions so have no gaps, and a gateway that follows them misses none.

mod change_log;
mod connect;
mod contents;
mod enrol;
mod read;
mod tokens;
mod write;
mod write_error;

pub use change_log::{Author, LoggedChange, Revision};
pub use connect::Database;
pub use contents::{ImportMode, RegistryContents};
pub use enrol::Admission;
pub use read::EntryPage;
pub use tokens::{NewToken, StoredToken};
pub use write_error::{EnrolError, WriteError};
