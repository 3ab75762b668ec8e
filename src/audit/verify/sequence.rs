//! The lines in their order: the chain, its checkpoints, and the owners of the keys.

use std::collections::{HashMap, HashSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::chain::ChainHead;
use super::fault::{AuditFault, LogFinding};
use super::line::{CheckpointClaim, ExaminedLine, ProofFault, RecordContent, VerifiedRequest};
use super::options::{Verification, VerifyOptions};
use crate::config::instant;

/// Checks a log from line to line and from file to file.
pub(super) struct SequenceCheck {
    believed: VerifyOptions,
    verdict: Verification,
    /// The head after the last line.
    at: Option<ChainHead>,
    /// The last lines, which tell a doubled line from a moved one.
    recent: HashMap<u64, ChainHead>,
    /// Their numbers, the oldest first.
    order: VecDeque<u64>,
    /// Lines that came too early: those before them follow.
    early: HashMap<u64, ChainHead>,
    /// Lines without a place in the chain. The next record may explain that they were cut off.
    loose: Vec<LogFinding>,
    /// The accepted requests, by a hash of each: sixteen bytes and their place, so some fifty
    /// megabytes for a million.
    digests: HashSet<[u8; 16]>,
    /// Checkpoints of the current chain.
    signed: u64,
    /// Records after the last checkpoints of earlier chains.
    left_unsigned: u64,
    /// Whether the wanted head was found.
    met: bool,
    /// The place of the last line.
    place: (String, u64),
}

/// How many lines a line may be moved or doubled by and still be reported as such. Beyond, it is
/// missing in one place and unexpected in another.
const REACH: usize = 4096;

/// Most lines without a place that are kept until the next line with one.
const MOST_LOOSE: usize = 1000;

/// How long after the end of its key a request may be recorded, in seconds. Its key is checked when
/// it arrives, and it is recorded when its body is complete, an hour later at most. A gateway also
/// takes a moment to load a registry without the machine.
const LATE: u64 = 3600 + 60;

impl SequenceCheck {
    pub(super) fn new(believed: VerifyOptions) -> SequenceCheck {
        SequenceCheck {
            believed,
            verdict: Verification::default(),
            at: None,
            recent: HashMap::new(),
            order: VecDeque::new(),
            early: HashMap::new(),
            loose: Vec::new(),
            digests: HashSet::new(),
            signed: 0,
            left_unsigned: 0,
            met: false,
            place: (String::new(), 0),
        }
    }

    /// Checks the lines of `file` after the first `before`.
    pub(super) fn follow(
        &mut self,
        file: &str,
        before: u64,
        lines: &[ExaminedLine<'_>],
        report: &mut impl FnMut(LogFinding),
    ) {
        for (index, line) in lines.iter().enumerate() {
            self.place = (file.to_owned(), before + index as u64 + 1);
            if line.is_empty {
                continue;
            }
            self.verdict.lines += 1;
            let Some((body, claimed)) = line.claimed else {
                let finding = self.finding(AuditFault::NotALine);
                match self.loose.len() < MOST_LOOSE {
                    true => self.loose.push(finding),
                    false => report(finding),
                }
                continue;
            };
            self.settle_loose(&line.content, report);
            if !self.link(body, claimed, &lines[index + 1..], report) {
                continue;
            }
            if self.believed.head == Some(claimed) {
                self.met = true;
            }
            self.look_into(&line.content, report);
            self.at = Some(claimed);
            self.remember(claimed);
        }
    }

    /// Keeps the last lines, by the numbers that they claim.
    fn remember(&mut self, line: ChainHead) {
        if self.recent.insert(line.seq, line).is_none() {
            self.order.push_back(line.seq);
        }
        if self.order.len() > REACH
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    /// Reports the faults that show only at the end.
    pub(super) fn end(mut self, report: &mut impl FnMut(LogFinding)) -> Verification {
        self.loose.drain(..).for_each(&mut *report);
        let found = self.at.unwrap_or(ChainHead::START);
        if let Some(wanted) = self.believed.head.filter(|_| !self.met) {
            report(self.finding(match wanted.seq > found.seq {
                true => AuditFault::EndCutOff { wanted, found },
                false => AuditFault::AnotherHead(wanted),
            }));
        }
        self.end_chain(report);
        self.verdict.unsigned += self.left_unsigned;
        self.verdict.head = self.at;
        self.verdict
    }

    /// Lines that were cut off are no fault if the gateway noted it in the next line. There may be
    /// several, because that line can be cut off too.
    fn settle_loose(&mut self, next: &RecordContent, report: &mut impl FnMut(LogFinding)) {
        match next {
            RecordContent::Log { torn: true } => {
                self.verdict.torn += self.loose.len() as u64;
                self.loose.clear();
            }
            _ => self.loose.drain(..).for_each(report),
        }
    }

    /// A chain without a checkpoint proves nothing.
    fn end_chain(&mut self, report: &mut impl FnMut(LogFinding)) {
        if self.believed.gateway_key.is_some() && self.signed == 0 {
            report(self.finding(AuditFault::NoCheckpoint));
        }
        self.signed = 0;
    }

    /// Checks a line against the one before it; `false` if it has no place there.
    fn link(
        &mut self,
        body: &[u8],
        claimed: ChainHead,
        following: &[ExaminedLine<'_>],
        report: &mut impl FnMut(LogFinding),
    ) -> bool {
        while let Some(at) = self.at
            && claimed.seq > at.seq + 1
            && let Some(early) = self.early.remove(&(at.seq + 1))
        {
            self.at = Some(early);
        }
        let fault = match self.at {
            None => self.begin(body, claimed),
            Some(at) if claimed.seq == at.seq + 1 => {
                (at.after(claimed.seq, body) != claimed).then_some(AuditFault::Altered)
            }
            Some(_) if self.recent.get(&claimed.seq) == Some(&claimed) => {
                report(self.finding(AuditFault::Doubled(claimed.seq)));
                return false;
            }
            Some(_) if claimed.seq == 1 && ChainHead::START.after(1, body) == claimed => {
                self.recent.clear();
                self.order.clear();
                self.left_unsigned += std::mem::take(&mut self.verdict.unsigned);
                match self.believed.restarts {
                    true => {
                        self.end_chain(report);
                        None
                    }
                    false => Some(AuditFault::BeginsAnew),
                }
            }
            Some(at) if claimed.seq > at.seq => {
                let missing = at.seq + 1;
                let comes_later = (following.iter().take(REACH))
                    .any(|line| line.claimed.is_some_and(|(_, head)| head.seq == missing));
                if comes_later && self.early.len() < REACH {
                    self.early.insert(claimed.seq, claimed);
                    report(self.finding(AuditFault::Reordered(claimed.seq)));
                    return false;
                }
                Some(AuditFault::Missing {
                    from: missing,
                    to: claimed.seq - 1,
                })
            }
            Some(_) => {
                report(self.finding(AuditFault::Reordered(claimed.seq)));
                return false;
            }
        };
        if let Some(fault) = fault {
            report(self.finding(fault));
        }
        true
    }

    /// Checks the first line.
    fn begin(&self, body: &[u8], claimed: ChainHead) -> Option<AuditFault> {
        match self.believed.continues {
            Some(hash) => {
                let before = ChainHead {
                    seq: claimed.seq.saturating_sub(1),
                    hash,
                };
                (before.after(claimed.seq, body) != claimed).then_some(AuditFault::ContinuesAnother)
            }
            None if claimed.seq != 1 => Some(AuditFault::BeginningCutOff(claimed.seq)),
            None => (ChainHead::START.after(1, body) != claimed).then_some(AuditFault::Altered),
        }
    }

    fn look_into(&mut self, content: &RecordContent, report: &mut impl FnMut(LogFinding)) {
        self.verdict.unsigned += 1;
        let fault = match content {
            RecordContent::Accepted(proof) => {
                self.verdict.accepted += 1;
                self.owned(proof)
            }
            RecordContent::Checkpoint(checkpoint) => self.signed(checkpoint),
            RecordContent::Registry(owners) if self.believed.trusts_log => {
                for (machine, keys) in owners {
                    let known: &mut HashSet<_> =
                        self.believed.keys.entry(machine.clone()).or_default();
                    known.extend(keys);
                }
                None
            }
            RecordContent::Registry(_) | RecordContent::Log { .. } | RecordContent::Other => None,
        };
        if let Some(fault) = fault {
            report(self.finding(fault));
        }
    }

    fn owned(&mut self, proof: &Result<VerifiedRequest, ProofFault>) -> Option<AuditFault> {
        match proof {
            Err(ProofFault::Incomplete(what)) => Some(AuditFault::Incomplete(what)),
            Err(ProofFault::Signature(machine)) => {
                Some(AuditFault::ClientSignature(machine.clone()))
            }
            Ok(VerifiedRequest {
                machine, digest, ..
            }) if !self.digests.insert(*digest) => Some(AuditFault::Replayed(machine.clone())),
            Ok(proof) => {
                let VerifiedRequest { machine, key, .. } = proof;
                let keys = self.believed.keys.get(machine);
                let is_known = keys.is_some_and(|keys| keys.contains(key));
                let unknown = || AuditFault::UnknownKey {
                    machine: machine.clone(),
                    key: STANDARD.encode(key),
                };
                (!is_known).then(unknown).or_else(|| self.ended(proof))
            }
        }
    }

    /// A key is valid until its end.
    fn ended(&self, proof: &VerifiedRequest) -> Option<AuditFault> {
        let end = *self.believed.ends.get(&proof.key)?;
        match proof.recorded {
            None => Some(AuditFault::Incomplete("ts")),
            Some(at) if at > end.saturating_add(LATE) => Some(AuditFault::AfterEnd {
                machine: proof.machine.clone(),
                key: STANDARD.encode(proof.key),
                end: instant::to_text(end),
            }),
            Some(_) => None,
        }
    }

    fn signed(&mut self, checkpoint: &CheckpointClaim) -> Option<AuditFault> {
        self.believed.gateway_key?;
        let found = self.at.unwrap_or(ChainHead::START);
        if !checkpoint.names_the_key {
            return Some(AuditFault::ForeignKey(checkpoint.gateway_key.clone()));
        }
        if !checkpoint.verifies {
            return Some(AuditFault::CheckpointForged);
        }
        if checkpoint.head != found.to_string() {
            return Some(AuditFault::Rewritten {
                signed: checkpoint.head.clone(),
                found,
            });
        }
        self.verdict.checkpoints += 1;
        self.signed += 1;
        self.verdict.unsigned = 0;
        None
    }

    fn finding(&self, fault: AuditFault) -> LogFinding {
        let (file, line) = self.place.clone();
        LogFinding { file, line, fault }
    }
}
