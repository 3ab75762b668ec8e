//! What can be wrong with a log.

use std::fmt;

use super::super::chain::ChainHead;

/// A fault, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFinding {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub fault: AuditFault,
}

/// What can be wrong with a log, or with one line of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// It has no number and hash, and is not a line that a crash cut off.
    #[error("this is no line of a log: it does not end in a number and a hash")]
    NotALine,
    /// Its hash is not that of its content behind the line before.
    #[error("altered: the hash is not that of this line behind the one before")]
    Altered,
    /// Records are gone.
    #[error("missing: {} between this line and the one before", numbers(*.from, *.to))]
    Missing {
        /// The first of them,
        from: u64,
        /// and the last.
        to: u64,
    },
    /// It stands in another place than it was written in.
    #[error("reordered: record {0} stands in another place than it was written in")]
    Reordered(u64),
    /// It is there twice.
    #[error("doubled: record {0} is there already")]
    Doubled(u64),
    /// The first line is not the first record.
    #[error(
        "the beginning is cut off: the first record here is {0}. If it is in an older file, name \
         that file first, or the hash of its last line with --continues"
    )]
    BeginningCutOff(u64),
    /// The first line does not continue what it should.
    #[error("does not continue the log that it should: another hash stands before it")]
    ContinuesAnother,
    /// A new chain begins.
    #[error(
        "a new chain begins in the middle: the log before it was taken away, or is another \
         gateway's. If the gateway writes to standard output, --restarts accepts it"
    )]
    BeginsAnew,
    /// A checkpoint of somebody else.
    #[error("foreign: the checkpoint is signed with {0}, which is not the gateway's key")]
    ForeignKey(String),
    /// A checkpoint that does not verify.
    #[error("forged: the signature of the checkpoint does not verify")]
    CheckpointForged,
    /// The chain is not the one that was signed.
    #[error(
        "rewritten: the gateway has signed {signed} here, and the chain stands at {found}; \
         something before this line, and after the last good checkpoint, was changed"
    )]
    Rewritten {
        /// What the checkpoint says.
        signed: String,
        /// What the lines come to.
        found: ChainHead,
    },
    /// The machine's signature does not verify.
    #[error("the signature of machine {0} does not verify: the request was not signed like this")]
    ClientSignature(String),
    /// The key does not belong to the machine.
    #[error("unknown key: {key} does not belong to machine {machine}, by the registry or this log")]
    UnknownKey {
        /// The machine named.
        machine: String,
        /// The key, in base64.
        key: String,
    },
    /// The key was no longer the machine's.
    #[error("after its end: key {key} of machine {machine} was good until {end}, by the registry")]
    AfterEnd {
        /// The machine named.
        machine: String,
        /// The key, in base64.
        key: String,
        /// When it ended, or the machine was removed.
        end: String,
    },
    /// One signed request was accepted twice.
    #[error("replayed: the very request that machine {0} signed here was accepted before")]
    Replayed(String),
    /// An accepted record lacks what its signature is over.
    #[error("incomplete: an accepted request without {0}")]
    Incomplete(&'static str),
    /// The end is gone.
    #[error("the end is cut off: {wanted} was the head once, and the log ends at {found}")]
    EndCutOff {
        /// The head that was asked for,
        wanted: ChainHead,
        /// and where the log ends.
        found: ChainHead,
    },
    /// The head that was asked for is not in it, though its number is.
    #[error(
        "rewritten: {0} was the head once, and is not in these files: another record has its number, or it is in an older file"
    )]
    AnotherHead(ChainHead),
    /// Nothing was signed.
    #[error("there is no checkpoint that the given gateway key has signed")]
    NoCheckpoint,
}

fn numbers(from: u64, to: u64) -> String {
    match from == to {
        true => format!("record {from}"),
        false => format!("records {from} to {to}"),
    }
}

impl AuditFault {
    /// One word for programs.
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
