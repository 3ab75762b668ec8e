//! The audit log as the rest of the gateway sees it.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use serde::Serialize;
use tokio::sync::oneshot::error::TryRecvError;

use super::chain_state::Checkpoints;
use super::checkpoint::Domain;
use super::error::AuditError;
use super::queued_line::LineKind;
use super::record::{
    AcceptedRecord, OpenRecord, RefusalEvidence, RefusedRecord, RegistryRecord, ResponseRecord,
    UnsignedRecord,
};
use super::refusal_limiter::RefusalLimiter;
use super::sink::Sink;
use super::stream::{AuditStream, Submitted};
use crate::clock::Clock;
use crate::metrics::{AuditResult, Metrics};

/// Proof that the record of an accepted request has been handed to the operating system: nothing
/// else makes one, and nothing is forwarded without one.
#[derive(Debug)]
#[must_use = "a request is forwarded against its receipt"]
pub struct Receipt(());

/// The audit log. Shared in an `Arc`.
pub struct AuditLog {
    trail: AuditStream,
    /// Refusals before a signature has verified; `None`: they go into the trail.
    strangers: Option<AuditStream>,
    flood: Arc<RefusalLimiter>,
    /// The bound on refusals after a signature has verified.
    signed: Arc<RefusalLimiter>,
    metrics: Arc<Metrics>,
    clock: Clock,
    deadline: Duration,
}

/// Where the records go that strangers cause.
pub struct UnauthenticatedSink {
    /// A sink of their own; `None`: the trail.
    pub sink: Option<Sink>,
    /// Most of them recorded in a second.
    pub per_second: u32,
}

impl AuditLog {
    /// Starts the threads that write. An accepted request waits for its record at most `deadline`.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread to give.
    pub fn start(
        sink: Sink,
        strangers: UnauthenticatedSink,
        checkpoints: Checkpoints,
        deadline: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<AuditLog> {
        let flood = Arc::new(RefusalLimiter::new(strangers.per_second));
        // Whoever has a key, if it is a disabled machine's, must not fill the trail's disk either.
        let signed = match strangers.sink {
            Some(_) => Arc::new(RefusalLimiter::new(strangers.per_second)),
            None => Arc::clone(&flood),
        };
        let start = |sink, flood: &Arc<RefusalLimiter>, domain| {
            AuditStream::start(
                sink,
                checkpoints.clone(),
                Some(Arc::clone(flood)),
                domain,
                clock.clone(),
                Arc::clone(&metrics),
            )
        };
        let own = strangers.sink;
        Ok(AuditLog {
            trail: start(sink, &signed, Domain::Trail)?,
            strangers: own
                .map(|sink| start(sink, &flood, Domain::Refusals))
                .transpose()?,
            signed,
            flood,
            metrics,
            clock,
            deadline,
        })
    }

    /// Records that a request is accepted, and waits until the record has been handed to the
    /// operating system. Must be called within a tokio runtime that has its timer.
    ///
    /// Fails closed: without a [`Receipt`] nothing is forwarded. If the writer is already at the
    /// record when the deadline passes, or when the caller drops the future, the record may
    /// still appear; the refusal recorded after it with the same request id then tells that it
    /// was not forwarded.
    ///
    /// # Errors
    ///
    /// Every [`AuditError`]. What became of the record is counted.
    pub async fn accepted(&self, record: &AcceptedRecord<'_>) -> Result<Receipt, AuditError> {
        self.acknowledged(LineKind::Accepted, record).await
    }

    /// Does the same for a request on an open route. Anybody can cause those, so they find room in
    /// half of the queue only.
    ///
    /// # Errors
    ///
    /// As [`AuditLog::accepted`].
    pub async fn open(&self, record: &OpenRecord<'_>) -> Result<Receipt, AuditError> {
        self.acknowledged(LineKind::Open, record).await
    }

    /// Does the same for a request that nobody signed, on a route that still lets it pass.
    ///
    /// # Errors
    ///
    /// As [`AuditLog::accepted`].
    pub async fn unsigned(&self, record: &UnsignedRecord<'_>) -> Result<Receipt, AuditError> {
        self.acknowledged(LineKind::Open, record).await
    }

    async fn acknowledged(
        &self,
        kind: LineKind,
        record: &impl Serialize,
    ) -> Result<Receipt, AuditError> {
        let mut written = match self.trail.write(kind, record)? {
            Submitted::Here => return Ok(Receipt(())),
            Submitted::Elsewhere(written) => written,
        };
        match written.try_recv() {
            Ok(result) => return result.map(Receipt),
            // A receiver that has told this once must not be asked again: it would panic.
            Err(TryRecvError::Closed) => return Err(AuditError::Closed),
            Err(TryRecvError::Empty) => {}
        }
        match tokio::time::timeout(self.deadline, written).await {
            Ok(Ok(result)) => result.map(Receipt),
            Ok(Err(_writer_gone)) => Err(AuditError::Closed),
            Err(_elapsed) => Err(AuditError::Late(self.deadline)),
        }
    }

    /// Records a refusal. Never waits; left out, and counted, when the queue is half full, or when
    /// there are too many.
    pub fn refused(&self, record: &RefusedRecord<'_>) {
        let (flood, stream) = match record.evidence {
            RefusalEvidence::Signed(_) => (&self.signed, &self.trail),
            RefusalEvidence::Claimed(_) => {
                let stream = self.strangers.as_ref().unwrap_or(&self.trail);
                (&self.flood, stream)
            }
        };
        if !flood.admits(record.code, self.clock.now()) {
            self.metrics.audit_record(AuditResult::Dropped);
            return;
        }
        stream.note(LineKind::Refused, record);
    }

    /// Records how an accepted request ended. Never waits; left out, and counted, when the queue
    /// is half full.
    pub fn response(&self, record: &ResponseRecord<'_>) {
        self.trail.note(LineKind::Response, record);
    }

    /// Records that a registry came into force. Never waits; left out, and counted, only when
    /// the queue is full.
    pub fn registry_loaded(&self, record: &RegistryRecord<'_>) {
        self.trail.note(LineKind::Registry, record);
    }

    /// Opens files that were moved away, now; without being asked it does so within a second.
    pub fn reopen(&self) {
        self.trail.look();
        if let Some(strangers) = &self.strangers {
            strangers.look();
        }
    }

    /// Whether records of accepted requests can be written, as far as is known: the last write
    /// succeeded, and none is stuck. A log that fails is tried again every second, also without
    /// requests.
    pub fn healthy(&self) -> bool {
        self.trail.healthy(self.deadline)
    }

    /// Takes no more records, writes those that wait, and ends the threads. Blocks for at most
    /// twice `patience`; a thread stuck in a write is left behind.
    ///
    /// # Errors
    ///
    /// [`AuditError::Late`] if records may be missing: those that still waited are counted.
    pub fn close(&self, patience: Duration) -> Result<(), AuditError> {
        let strangers = (self.strangers.as_ref()).map_or(Ok(()), |stream| stream.close(patience));
        self.trail.close(patience).and(strangers)
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("healthy", &self.healthy())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
