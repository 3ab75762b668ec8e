//! A line on its way to the writer, and what depends on its kind.

use std::io;

use serde::Serialize;
use tokio::sync::oneshot;

use super::chain::ChainHead;
use super::error::AuditError;
use super::line::{USUAL_DECISION, encode};
use crate::metrics::AuditResult;

/// Bytes of lines that may wait: some ten thousand records of usual size, a second of the fastest
/// gateway measured, and little memory. Beyond it records fail and their requests are refused.
pub(super) const CAPACITY: usize = 8 * 1024 * 1024;

/// The part of [`CAPACITY`] open to records that nothing depends on: half, so that however many
/// of them come, accepted requests find the other half free.
pub(super) const CAPACITY_FOR_NOTES: usize = CAPACITY / 2;

/// What a line tells, which decides how much of the queue it may use and how a loss is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    Accepted,
    /// Let through on an open route: strangers cause it, and wait for it.
    Open,
    Refused,
    Response,
    Registry,
    /// The writer's own: where the chain begins or goes on,
    Opening,
    /// where it was signed,
    Checkpoint,
    /// and what was left out.
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

    /// Whether somebody else asked for it, and it counts.
    pub(super) const fn is_counted(self) -> bool {
        !matches!(
            self,
            LineKind::Opening | LineKind::Checkpoint | LineKind::Summary
        )
    }

    /// How to count one that found no room in the queue.
    pub(super) const fn left_out(self) -> AuditResult {
        match self {
            LineKind::Accepted | LineKind::Open => AuditResult::Failed,
            LineKind::Response => AuditResult::ResponseLost,
            _ => AuditResult::Dropped,
        }
    }

    /// How to count one that was queued and not written.
    pub(super) const fn not_written(self) -> AuditResult {
        match self {
            LineKind::Response => AuditResult::ResponseLost,
            _ => AuditResult::Failed,
        }
    }
}

/// How a record fared.
pub(super) type WriteResult = Result<(), AuditError>;

/// Tells the request that waits for a record how the write went.
pub(super) type Ack = oneshot::Sender<WriteResult>;

/// A line on its way to the writer.
#[derive(Debug)]
pub(super) struct QueuedLine {
    pub(super) line: Vec<u8>,
    pub(super) kind: LineKind,
    pub(super) ack: Option<Ack>,
    /// Where the chain stands after it, once it is linked.
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

    /// A line that nobody waits for yet.
    pub(super) const fn new(kind: LineKind, line: Vec<u8>) -> QueuedLine {
        QueuedLine {
            line,
            kind,
            ack: None,
            head: ChainHead::START,
        }
    }
}
