//! The audit log: one JSON object a line. The record of a request is written before the request is
//! forwarded.
//!
//! A request is forwarded only against a [`Receipt`], which exists only when its record has been
//! handed to the operating system. Refusals and responses are recorded on a best effort. They never
//! make a request wait, and never take the room that accepted requests need, so that a flood of
//! unauthenticated requests cannot stop the service by way of its log. Lost records are counted.
//!
//! Records go through a bounded queue to one writer of the file or pipe ([`Sink`]). A pipe has a
//! writer thread, so that a reader that stops blocks nothing else. A file is written by the first
//! request that finds the writer free, which also writes the records that arrive meanwhile: handing
//! a record to another thread and waking up again costs more than the write. A stuck disk blocks
//! one worker of the runtime. The other requests fail at the deadline, and after a slow write the
//! thread takes over.
//!
//! Writing: `record` and `untrusted` say what a record holds, `fields` and `line` encode it,
//! `queue` keeps it, `writer_election` finds a writer, `chain_state` numbers and signs, `sink`
//! writes. Reading: [`reader`] parses a line, [`verify`] checks the chain and the signatures,
//! [`report`] counts.

mod backend_paths;
mod call_fields;
pub mod chain;
mod chain_state;
pub mod checkpoint;
mod enrolled;
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

pub use backend_paths::BackendPaths;
pub use chain_state::Checkpoints;
pub use enrolled::{EnrolledBy, EnrolledRecord};
pub use error::AuditError;
pub use log::{AuditLog, Receipt, UnauthenticatedSink};
pub use record::{
    AcceptedRecord, BodyDigest, CalledChange, ClaimedFacts, LoginFacts, OpenRecord, Query,
    RefusalEvidence, RefusedRecord, RegistryCallRecord, RegistryRecord, RequestFacts,
    ResponseRecord, SignatureFacts, UnsignedRecord,
};
pub use sink::{Bounds, Sink};
pub use token_hash::{TokenHash, TokenNames};
pub use untrusted::{Capped, ClaimedMachine, ClaimedNonce, DroppedHeaders, PathOnly, SentMethod};
