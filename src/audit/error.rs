//! Why a record was not written.

use std::io;
use std::time::Duration;

/// Why a record was not written. The request that it tells of must not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Too many records wait already.
    #[error("too many audit records are waiting to be written")]
    Full,
    /// It was not written in time. It may be written yet, if the writer had begun.
    #[error("the audit record was not written within {} ms", .0.as_millis())]
    Late(Duration),
    /// The operating system refused the write.
    #[error("the audit record could not be written: {0}")]
    Write(io::ErrorKind),
    /// The log has been closed.
    #[error("the audit log is closed")]
    Closed,
}
