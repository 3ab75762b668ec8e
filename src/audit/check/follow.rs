//! The lines in their order: where they do not go together, and what became of them.

use std::collections::{HashMap, HashSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::chain::Head;
use super::record::{Checkpoint, Content, Examined, Proof, Unproved};
use super::{Believed, Fault, Finding, Verdict};
use crate::config::instant;

/// Goes along a log, from line to line and from file to file.
pub(super) struct Follower {
    believed: Believed,
    verdict: Verdict,
    /// Where the chain stands by the last line.
    at: Option<Head>,
    /// The last lines, so that one that is there twice is told from one out of place.
    recent: HashMap<u64, Head>,
    /// Their numbers, the oldest first.
    order: VecDeque<u64>,
    /// Lines that stood too early: those that belong before them come after.
    early: HashMap<u64, Head>,
    /// Lines without a place in the chain, of which the next one may say that they were cut off.
    loose: Vec<Finding>,
    /// The accepted requests, by a hash of each: sixteen bytes and their place, so some fifty
    /// megabytes for a million.
    spent: HashSet<[u8; 16]>,
    /// Checkpoints of the chain that the last line is of.
    signed: u64,
    /// Records behind the last checkpoints of the chains before it.
    left_unsigned: u64,
    /// Whether the head that was asked for was met.
    met: bool,
    /// Where the last line was.
    place: (String, u64),
}

/// How far a line may have been moved, or doubled, and still be called so; beyond it, it is
/// missing in one place and unexpected in another.
const REACH: usize = 4096;

/// Most lines without a place that are kept until the next line with one.
const MOST_LOOSE: usize = 1000;

/// How long after the end of its key a request may be recorded, in seconds. It is judged when it arrives,
/// and recorded when its body is there, an hour later at most; and a gateway takes a moment to hear
/// that a machine was removed.
const LATE: u64 = 3600 + 60;

impl Follower {
    pub(super) fn new(believed: Believed) -> Follower {
        Follower {
            believed,
            verdict: Verdict::default(),
            at: None,
            recent: HashMap::new(),
            order: VecDeque::new(),
            early: HashMap::new(),
            loose: Vec::new(),
            spent: HashSet::new(),
            signed: 0,
            left_unsigned: 0,
            met: false,
            place: (String::new(), 0),
        }
    }

    /// Goes on with the lines of `file` after the first `before`.
    pub(super) fn follow(
        &mut self,
        file: &str,
        before: u64,
        lines: &[Examined<'_>],
        report: &mut impl FnMut(Finding),
    ) {
        for (index, line) in lines.iter().enumerate() {
            self.place = (file.to_owned(), before + index as u64 + 1);
            if line.is_empty {
                continue;
            }
            self.verdict.lines += 1;
            let Some((body, claimed)) = line.claimed else {
                let finding = self.finding(Fault::NotALine);
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

    /// Keeps the last lines, whatever numbers they claim.
    fn remember(&mut self, line: Head) {
        if self.recent.insert(line.seq, line).is_none() {
            self.order.push_back(line.seq);
        }
        if self.order.len() > REACH
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    /// What can be said when nothing follows.
    pub(super) fn end(mut self, report: &mut impl FnMut(Finding)) -> Verdict {
        self.loose.drain(..).for_each(&mut *report);
        let found = self.at.unwrap_or(Head::START);
        if let Some(wanted) = self.believed.head.filter(|_| !self.met) {
            report(self.finding(match wanted.seq > found.seq {
                true => Fault::EndCutOff { wanted, found },
                false => Fault::AnotherHead(wanted),
            }));
        }
        self.end_chain(report);
        self.verdict.unsigned += self.left_unsigned;
        self.verdict.head = self.at;
        self.verdict
    }

    /// Lines that were cut off are no fault where the gateway has said so in the line after them.
    /// There may be several: it can be cut off again while it says so.
    fn settle_loose(&mut self, next: &Content, report: &mut impl FnMut(Finding)) {
        match next {
            Content::Log { torn: true } => {
                self.verdict.torn += self.loose.len() as u64;
                self.loose.clear();
            }
            _ => self.loose.drain(..).for_each(report),
        }
    }

    /// A chain of which nothing is signed is anybody's.
    fn end_chain(&mut self, report: &mut impl FnMut(Finding)) {
        if self.believed.gateway_key.is_some() && self.signed == 0 {
            report(self.finding(Fault::NoCheckpoint));
        }
        self.signed = 0;
    }

    /// Puts a line behind the one before it; `false` if it has no place there.
    fn link(
        &mut self,
        body: &[u8],
        claimed: Head,
        following: &[Examined<'_>],
        report: &mut impl FnMut(Finding),
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
                (at.after(claimed.seq, body) != claimed).then_some(Fault::Altered)
            }
            Some(_) if self.recent.get(&claimed.seq) == Some(&claimed) => {
                report(self.finding(Fault::Doubled(claimed.seq)));
                return false;
            }
            Some(_) if claimed.seq == 1 && Head::START.after(1, body) == claimed => {
                self.recent.clear();
                self.order.clear();
                self.left_unsigned += std::mem::take(&mut self.verdict.unsigned);
                match self.believed.restarts {
                    true => {
                        self.end_chain(report);
                        None
                    }
                    false => Some(Fault::BeginsAnew),
                }
            }
            Some(at) if claimed.seq > at.seq => {
                let missing = at.seq + 1;
                let comes_later = (following.iter().take(REACH))
                    .any(|line| line.claimed.is_some_and(|(_, head)| head.seq == missing));
                if comes_later && self.early.len() < REACH {
                    self.early.insert(claimed.seq, claimed);
                    report(self.finding(Fault::Reordered(claimed.seq)));
                    return false;
                }
                Some(Fault::Missing {
                    from: missing,
                    to: claimed.seq - 1,
                })
            }
            Some(_) => {
                report(self.finding(Fault::Reordered(claimed.seq)));
                return false;
            }
        };
        if let Some(fault) = fault {
            report(self.finding(fault));
        }
        true
    }

    /// Whether the first line is one.
    fn begin(&self, body: &[u8], claimed: Head) -> Option<Fault> {
        match self.believed.continues {
            Some(hash) => {
                let before = Head {
                    seq: claimed.seq.saturating_sub(1),
                    hash,
                };
                (before.after(claimed.seq, body) != claimed).then_some(Fault::ContinuesAnother)
            }
            None if claimed.seq != 1 => Some(Fault::BeginningCutOff(claimed.seq)),
            None => (Head::START.after(1, body) != claimed).then_some(Fault::Altered),
        }
    }

    fn look_into(&mut self, content: &Content, report: &mut impl FnMut(Finding)) {
        self.verdict.unsigned += 1;
        let fault = match content {
            Content::Accepted(proof) => {
                self.verdict.accepted += 1;
                self.owned(proof)
            }
            Content::Checkpoint(checkpoint) => self.signed(checkpoint),
            Content::Registry(owners) if self.believed.trusts_log => {
                for (machine, keys) in owners {
                    let known: &mut HashSet<_> =
                        self.believed.keys.entry(machine.clone()).or_default();
                    known.extend(keys);
                }
                None
            }
            Content::Registry(_) | Content::Log { .. } | Content::Other => None,
        };
        if let Some(fault) = fault {
            report(self.finding(fault));
        }
    }

    fn owned(&mut self, proof: &Result<Proof, Unproved>) -> Option<Fault> {
        match proof {
            Err(Unproved::Incomplete(what)) => Some(Fault::Incomplete(what)),
            Err(Unproved::Signature(machine)) => Some(Fault::ClientSignature(machine.clone())),
            Ok(Proof { machine, spent, .. }) if !self.spent.insert(*spent) => {
                Some(Fault::Replayed(machine.clone()))
            }
            Ok(proof) => {
                let Proof { machine, key, .. } = proof;
                let keys = self.believed.keys.get(machine);
                let is_known = keys.is_some_and(|keys| keys.contains(key));
                let unknown = || Fault::UnknownKey {
                    machine: machine.clone(),
                    key: STANDARD.encode(key),
                };
                (!is_known).then(unknown).or_else(|| self.ended(proof))
            }
        }
    }

    /// A key counts until its end, and not longer.
    fn ended(&self, proof: &Proof) -> Option<Fault> {
        let end = *self.believed.ends.get(&proof.key)?;
        match proof.recorded {
            None => Some(Fault::Incomplete("ts")),
            Some(at) if at > end.saturating_add(LATE) => Some(Fault::AfterEnd {
                machine: proof.machine.clone(),
                key: STANDARD.encode(proof.key),
                end: instant::to_text(end),
            }),
            Some(_) => None,
        }
    }

    fn signed(&mut self, checkpoint: &Checkpoint) -> Option<Fault> {
        self.believed.gateway_key?;
        let found = self.at.unwrap_or(Head::START);
        if !checkpoint.names_the_key {
            return Some(Fault::ForeignKey(checkpoint.gateway_key.clone()));
        }
        if !checkpoint.verifies {
            return Some(Fault::CheckpointForged);
        }
        if checkpoint.head != found.to_string() {
            return Some(Fault::Rewritten {
                signed: checkpoint.head.clone(),
                found,
            });
        }
        self.verdict.checkpoints += 1;
        self.signed += 1;
        self.verdict.unsigned = 0;
        None
    }

    fn finding(&self, fault: Fault) -> Finding {
        let (file, line) = self.place.clone();
        Finding { file, line, fault }
    }
}
