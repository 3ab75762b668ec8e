//! A line on its way to the writer, and what depends on its kind.

use std::io;

use serde::Serialize;
use tokio::sync::oneshot;

use super::chain::ChainHead;
use super::error::AuditError;
use super::line::{USUAL_DECISION, encode};
use crate::metrics::AuditResult;

/// Most bytes of queued lines: some ten thousand usual records, a second of the fastest gateway
/// measured, and little memory. Beyond it records fail and their requests are refused.
pub(super) const CAPACITY: usize = 8 * 1024 * 1024;

/// The part of [`CAPACITY`] for records that no request depends on: half, so that any number of
/// them leaves the other half to accepted requests.
pub(super) const CAPACITY_FOR_NOTES: usize = CAPACITY / 2;

/// The kind of a line, which decides how much of the queue it may use and how a loss is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    Accepted,
    /// Accepted without authentication, on an open or a migration route. The request waits for it.
    Open,
    Refused,
    Response,
    Registry,
    /// The writer's own: the chain begins or continues.
    Opening,
    /// The writer's own: the head of the chain, signed.
    Checkpoint,
    /// The writer's own: the numbers of refusals that were left out.
    Summary,
}

impl LineKind {
    /// How much of the queue it may fill, in bytes.
    pub(super) const fn capacity(self) -> usize {
        match self {
            LineKind::Open | LineKind::Refused | LineKind::Response => CAPACITY_FOR_NOTES,
            _ => CAPACITY,
        }
    }

    /// Bytes of a usual line of the kind with its number and hash, so that it is allocated once.
    const fn usual_len(self) -> usize {
        match self {
            LineKind::Accepted | LineKind::Open | LineKind::Refused => USUAL_DECISION,
            LineKind::Registry => 1024,
            LineKind::Checkpoint | LineKind::Summary => 512,
            LineKind::Response | LineKind::Opening => 320,
        }
    }

    /// Whether a request waits for it.
    pub(super) const fn is_urgent(self) -> bool {
        matches!(self, LineKind::Accepted | LineKind::Open)
    }

    /// Whether its result is counted: the writer's own lines are not.
    pub(super) const fn is_counted(self) -> bool {
        !matches!(
            self,
            LineKind::Opening | LineKind::Checkpoint | LineKind::Summary
        )
    }

    /// The count for a line that found no room in the queue.
    pub(super) const fn left_out(self) -> AuditResult {
        match self {
            LineKind::Accepted | LineKind::Open => AuditResult::Failed,
            LineKind::Response => AuditResult::ResponseLost,
            _ => AuditResult::Dropped,
        }
    }

    /// The count for a line that was queued and not written.
    pub(super) const fn not_written(self) -> AuditResult {
        match self {
            LineKind::Response => AuditResult::ResponseLost,
            _ => AuditResult::Failed,
        }
    }
}

/// The result of writing a record.
pub(super) type WriteResult = Result<(), AuditError>;

/// Sends the result to the request that waits for it.
pub(super) type Ack = oneshot::Sender<WriteResult>;

/// A line on its way to the writer.
#[derive(Debug)]
pub(super) struct QueuedLine {
    pub(super) line: Vec<u8>,
    pub(super) kind: LineKind,
    pub(super) ack: Option<Ack>,
    /// The head of the chain after it, once it is linked.
    pub(super) head: ChainHead,
}

impl QueuedLine {
    /// The line of a record.
    ///
    /// # Errors
    ///
    /// [`AuditError::Write`] if the record cannot be encoded: its request must not pass.
    pub(super) fn of(kind: LineKind, record: &impl Serialize) -> Result<QueuedLine, AuditError> {
        let line = encode(record, kind.usual_len())
            .map_err(|_| AuditError::Write(io::ErrorKind::InvalidData))?;
        Ok(QueuedLine::new(kind, line))
    }

    /// A line without a waiting request.
    pub(super) const fn new(kind: LineKind, line: Vec<u8>) -> QueuedLine {
        QueuedLine {
            line,
            kind,
            ack: None,
            head: ChainHead::START,
        }
    }
}
