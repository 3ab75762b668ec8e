//! The audit log, as the gateway uses it.

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
use super::write_failures::LateWrites;
use crate::metrics::{AuditResult, Metrics};
use countersign_client::clock::Clock;

/// Proof that the record of an accepted request has been handed to the operating system. Only that
/// makes one, and no request is forwarded without one.
#[derive(Debug)]
#[must_use = "a request is forwarded against its receipt"]
pub struct Receipt(());

/// The audit log. Shared in an `Arc`.
pub struct AuditLog {
    trail: AuditStream,
    /// Refusals before a signature has verified; `None`: they go into the audit log.
    unauthenticated: Option<AuditStream>,
    limiter: Arc<RefusalLimiter>,
    /// The bound on refusals after a signature has verified.
    signed: Arc<RefusalLimiter>,
    metrics: Arc<Metrics>,
    clock: Clock,
    deadline: Duration,
    late: LateWrites,
}

/// The sink of refusals before authentication, and their limit.
pub struct UnauthenticatedSink {
    /// Their own sink. `None`: the audit log.
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
        unauthenticated: UnauthenticatedSink,
        checkpoints: Checkpoints,
        deadline: Duration,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<AuditLog> {
        let limiter = Arc::new(RefusalLimiter::new(unauthenticated.per_second));
        // A machine, even a disabled one, must not fill the disk of the audit log either.
        let signed = match unauthenticated.sink {
            Some(_) => Arc::new(RefusalLimiter::new(unauthenticated.per_second)),
            None => Arc::clone(&limiter),
        };
        let start = |sink, limiter: &Arc<RefusalLimiter>, domain| {
            AuditStream::start(
                sink,
                checkpoints.clone(),
                Some(Arc::clone(limiter)),
                domain,
                clock.clone(),
                Arc::clone(&metrics),
            )
        };
        let own = unauthenticated.sink;
        Ok(AuditLog {
            trail: start(sink, &signed, Domain::Trail)?,
            unauthenticated: own
                .map(|sink| start(sink, &limiter, Domain::Refusals))
                .transpose()?,
            signed,
            limiter,
            metrics,
            clock,
            deadline,
            late: LateWrites::default(),
        })
    }

    /// Records that a request is accepted, and waits until the record has been handed to the
    /// operating system. Must be called within a tokio runtime that has its timer.
    ///
    /// Fails closed: without a [`Receipt`] nothing is forwarded. If the writer has begun the record
    /// when the deadline passes, or when the caller drops the future, the record may still appear.
    /// The refusal after it with the same request id then shows that the request was not forwarded.
    ///
    /// # Errors
    ///
    /// Every [`AuditError`]. The result is counted.
    pub async fn accepted(&self, record: &AcceptedRecord<'_>) -> Result<Receipt, AuditError> {
        self.acknowledged(LineKind::Accepted, record).await
    }

    /// Does the same for a request on an open route. Such requests are not authenticated, so they
    /// get half of the queue only.
    ///
    /// # Errors
    ///
    /// As [`AuditLog::accepted`].
    pub async fn open(&self, record: &OpenRecord<'_>) -> Result<Receipt, AuditError> {
        self.acknowledged(LineKind::Open, record).await
    }

    /// Does the same for a request without a valid signature, on a migration route.
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
            Err(_elapsed) => {
                self.late.note(self.deadline, self.clock.now().mono);
                Err(AuditError::Late(self.deadline))
            }
        }
    }

    /// Records a refusal. Never waits. The record is left out, and counted, when the queue is half
    /// full or the limit of the second is reached.
    pub fn refused(&self, record: &RefusedRecord<'_>) {
        let (limiter, stream) = match record.evidence {
            RefusalEvidence::Signed(_) => (&self.signed, &self.trail),
            RefusalEvidence::Claimed(_) => {
                let stream = self.unauthenticated.as_ref().unwrap_or(&self.trail);
                (&self.limiter, stream)
            }
        };
        if !limiter.admits(record.code, self.clock.now()) {
            self.metrics.audit_record(AuditResult::Dropped);
            return;
        }
        stream.note(LineKind::Refused, record);
    }

    /// Records the response to an accepted request. Never waits. The record is left out, and
    /// counted, when the queue is half full.
    pub fn response(&self, record: &ResponseRecord<'_>) {
        self.trail.note(LineKind::Response, record);
    }

    /// Records that a registry was loaded. Never waits. The record is left out, and counted, only
    /// when the queue is full.
    pub fn registry_loaded(&self, record: &RegistryRecord<'_>) {
        self.trail.note(LineKind::Registry, record);
    }

    /// Opens files that were moved away, now; otherwise that happens within a second.
    pub fn reopen(&self) {
        self.trail.look();
        if let Some(unauthenticated) = &self.unauthenticated {
            unauthenticated.look();
        }
    }

    /// Whether records of accepted requests can be written, as far as is known: the last write
    /// succeeded, and none is stuck. A log that fails is tried again every second, also without
    /// requests.
    pub fn healthy(&self) -> bool {
        self.trail.healthy(self.deadline)
    }

    /// Refuses further records, writes the queued ones, and ends the threads. Blocks for at most
    /// twice `patience`; a thread stuck in a write is left behind.
    ///
    /// # Errors
    ///
    /// [`AuditError::Late`] if records may be missing: those that still waited are counted.
    pub fn close(&self, patience: Duration) -> Result<(), AuditError> {
        let unauthenticated =
            (self.unauthenticated.as_ref()).map_or(Ok(()), |stream| stream.close(patience));
        self.trail.close(patience).and(unauthenticated)
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
