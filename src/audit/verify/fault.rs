//! The faults of a log.

use std::fmt;

use super::super::chain::ChainHead;

/// A fault, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFinding {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// The fault.
    pub fault: AuditFault,
}

/// A fault of a log, or of one line of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// It has no number and hash, and is not a line that a crash cut off.
    #[error("not a line of an audit log: it does not end in a number and a hash")]
    NotALine,
    /// Its hash does not match its content and the line before.
    #[error("altered: the hash does not match this line and the one before")]
    Altered,
    /// Records are gone.
    #[error("missing: {} between this line and the one before", numbers(*.from, *.to))]
    Missing {
        /// The first of them,
        from: u64,
        /// and the last.
        to: u64,
    },
    /// It is in another place than it was written in.
    #[error("reordered: record {0} is not in the place where it was written")]
    Reordered(u64),
    /// It occurs twice.
    #[error("doubled: record {0} occurs twice")]
    Doubled(u64),
    /// The first line is not the first record.
    #[error(
        "the beginning is cut off: the first record here is {0}. If an older file has the others, \
         add it to --audit, or give the hash of its last line with --continues"
    )]
    BeginningCutOff(u64),
    /// The first line does not continue what it should.
    #[error("does not continue the log that --continues names: the hash before it is another")]
    ContinuesAnother,
    /// A new chain begins.
    #[error(
        "a new chain begins in the middle: the log before it was removed, or is another gateway's. \
         If the gateway logs to standard output, add --restarts"
    )]
    BeginsAnew,
    /// A checkpoint with another key.
    #[error("foreign: the checkpoint is signed with {0}, which is not the key of --gateway-key")]
    ForeignKey(String),
    /// A checkpoint that does not verify.
    #[error("forged: the signature of the checkpoint is invalid")]
    CheckpointForged,
    /// The chain is not the one that was signed.
    #[error(
        "rewritten: the gateway signed head {signed} here, but the chain has {found}. A line between \
         the last valid checkpoint and this one was changed"
    )]
    Rewritten {
        /// The head in the checkpoint.
        signed: String,
        /// The head by the lines.
        found: ChainHead,
    },
    /// The machine's signature does not verify.
    #[error("invalid signature of machine {0}: it did not sign this request")]
    ClientSignature(String),
    /// The key does not belong to the machine.
    #[error("unknown key: machine {machine} has no key {key}, by the registry and this log")]
    UnknownKey {
        /// The machine named.
        machine: String,
        /// The key, in base64.
        key: String,
    },
    /// The key was no longer the machine's.
    #[error("after its end: key {key} of machine {machine} was valid until {end}, by the registry")]
    AfterEnd {
        /// The machine named.
        machine: String,
        /// The key, in base64.
        key: String,
        /// When it ended, or the machine was removed.
        end: String,
    },
    /// One signed request was accepted twice.
    #[error("replayed: this signed request of machine {0} was accepted before")]
    Replayed(String),
    /// An accepted record lacks a part of its signed message.
    #[error("incomplete: the record of an accepted request has no {0}")]
    Incomplete(&'static str),
    /// The end is gone.
    #[error("the end is cut off: {wanted} was the head earlier, but the log ends at {found}")]
    EndCutOff {
        /// The head that was asked for,
        wanted: ChainHead,
        /// and where the log ends.
        found: ChainHead,
    },
    /// The head that was asked for is not in it, though its number is.
    #[error(
        "rewritten: {0} was the head earlier, but these files have another record of that number, or \
         it is in an older file"
    )]
    AnotherHead(ChainHead),
    /// Nothing was signed.
    #[error("no checkpoint is signed with the key of --gateway-key")]
    NoCheckpoint,
}

fn numbers(from: u64, to: u64) -> String {
    match from == to {
        true => format!("record {from}"),
        false => format!("records {from} to {to}"),
    }
}

impl AuditFault {
    /// The word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            AuditFault::NotALine => "not_a_line",
            AuditFault::Altered => "altered",
            AuditFault::Missing { .. } => "missing",
            AuditFault::Reordered(_) => "reordered",
            AuditFault::Doubled(_) => "doubled",
            AuditFault::BeginningCutOff(_) => "beginning_cut_off",
            AuditFault::ContinuesAnother => "continues_another",
            AuditFault::BeginsAnew => "begins_anew",
            AuditFault::ForeignKey(_) => "foreign_key",
            AuditFault::CheckpointForged => "checkpoint_forged",
            AuditFault::Rewritten { .. } | AuditFault::AnotherHead(_) => "rewritten",
            AuditFault::ClientSignature(_) => "client_signature",
            AuditFault::UnknownKey { .. } => "unknown_key",
            AuditFault::AfterEnd { .. } => "after_end",
            AuditFault::Replayed(_) => "replayed",
            AuditFault::Incomplete(_) => "incomplete",
            AuditFault::EndCutOff { .. } => "end_cut_off",
            AuditFault::NoCheckpoint => "no_checkpoint",
        }
    }
}

impl fmt::Display for LogFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.fault)
    }
}
