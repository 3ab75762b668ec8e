//! The errors of writing a record.

use std::io;
use std::time::Duration;

/// A record was not written. Its request must not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The queue is full.
    #[error("too many audit records are waiting to be written")]
    Full,
    /// The deadline has passed. The record may still be written, if the writer had begun.
    #[error("the audit record was not written within {} ms", .0.as_millis())]
    Late(Duration),
    /// The operating system refused the write.
    #[error("the audit record could not be written: {0}")]
    Write(io::ErrorKind),
    /// The log has been closed.
    #[error("the audit log is closed")]
    Closed,
}
