//! The audit log: one JSON object a line, written before what it tells of may happen.
//!
//! A request is forwarded only against a [`Receipt`], which exists only when its record has been
//! handed to the operating system. Refusals and responses are recorded as well as can be: they
//! never make anybody wait, and never take the room that accepted requests need, so that a flood
//! of strangers cannot stop the service by way of its log. What is left out is counted.
//!
//! Records go through a bounded queue to whoever writes to the file or pipe ([`Sink`]), one at a time.
//! To a pipe that is a thread of its own: a reader that stopped blocks it and nothing else. To a file
//! it is, where the runtime has threads to spare, the first request that finds nobody at it, which
//! writes for those that come meanwhile too: to hand a record to another thread and to be woken again
//! costs more than to write it. Should the disk be stuck, that blocks one worker of the runtime;
//! everybody else gives up at the deadline, and once a write has been slow the thread takes over.

pub mod chain;
mod chain_state;
pub mod checkpoint;
mod error;
mod fields;
mod hex;
mod line;
mod log;
mod queue;
mod queued_line;
pub mod reader;
mod record;
mod record_time;
mod refusal_limiter;
pub mod report;
mod sink;
mod stream;
mod tail;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
mod testing;
mod token_hash;
mod token_key;
mod untrusted;
pub mod verify;
mod write_failures;
mod writer;
mod writer_election;
mod writer_health;

pub use chain_state::Checkpoints;
pub use error::AuditError;
pub use log::{AuditLog, Receipt, UnauthenticatedSink};
pub use record::{
    AcceptedRecord, BodyDigest, ClaimedFacts, OpenRecord, Query, RefusalEvidence, RefusedRecord,
    RegistryRecord, RequestFacts, ResponseRecord, SignatureFacts, UnsignedRecord,
};
pub use sink::{Bounds, Sink};
pub use token_hash::{TokenHash, TokenNames};
pub use untrusted::{Capped, ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly, SentMethod};
