//! What the writer adds to the lines of others: their numbers and hashes, and lines of its own,
//! which say where the chain begins or goes on, where it was signed, and what was left out.

use std::sync::Arc;
use std::time::Duration;

use super::chain::Head;
use super::checkpoint::{Domain, Signer};
use super::flood::Flood;
use super::line::{self, Object, Record};
use super::queue::{Item, Kind};
use super::sink::{Found, Prepared};
use super::timestamp::Timestamp;
use crate::clock::Now;

/// How often the chain is signed.
#[derive(Clone)]
pub struct Checkpoints {
    /// With what; without it, never.
    pub signer: Option<Arc<Signer>>,
    /// After so many records,
    pub records: u64,
    /// and after so long, where there were any.
    pub interval: Duration,
}

/// The state of one stream of lines.
pub(super) struct Book {
    head: Head,
    /// What the next line has to say before any other.
    opening: Option<First>,
    checkpoints: Checkpoints,
    domain: Domain,
    /// Records since the last checkpoint.
    unsigned: u64,
    /// When the first of them was written, on the monotonic clock.
    unsigned_since: Duration,
    /// What strangers' refusals were left out.
    flood: Option<Arc<Flood>>,
}

/// What a book is opened with.
pub(super) struct Opening {
    pub(super) checkpoints: Checkpoints,
    /// The bound on the refusals that go into this stream.
    pub(super) flood: Option<Arc<Flood>>,
    pub(super) domain: Domain,
}

#[derive(Clone, Copy)]
struct First {
    event: &'static str,
    /// The line before it was cut off.
    torn: bool,
}

impl Book {
    /// `found` is what the sink held already.
    pub(super) fn open(found: &Found, opening: Opening) -> Book {
        let event = match found.head {
            Some(_) => "restart",
            None => "begin",
        };
        Book {
            head: found.head.unwrap_or(Head::START),
            opening: Some(First {
                event,
                torn: found.torn,
            }),
            checkpoints: opening.checkpoints,
            domain: opening.domain,
            unsigned: 0,
            unsigned_since: Duration::ZERO,
            flood: opening.flood,
        }
    }

    /// Makes the batch ready to be written: adds the lines of its own and links them all. The chain
    /// goes on from a line only once [`Book::written`] has heard of it.
    pub(super) fn complete(
        &mut self,
        batch: &mut Vec<Item>,
        prepared: Prepared,
        now: Now,
        closing: bool,
    ) {
        if prepared.reopened || prepared.torn {
            let known = self.opening.take();
            self.opening = Some(First {
                event: known.map_or("reopen", |opening| opening.event),
                torn: prepared.torn || known.is_some_and(|opening| opening.torn),
            });
        }
        if let Some(opening) = self.opening {
            batch.insert(0, own(Kind::Opening, &self.opening_line(opening, now)));
        }
        if let Some(flood) = &self.flood
            && let Some(summary) = flood.summary(now, closing)
        {
            batch.push(own(Kind::Summary, &summary));
        }
        let mut head = self.head;
        for item in batch.iter_mut() {
            head = head.link(&mut item.line);
            item.head = head;
        }
        if let Some(signer) = &self.checkpoints.signer
            && self.is_due(batch.len() as u64, now, closing)
        {
            let checkpoint = signer.sign(self.domain, head, now.wall_ms);
            let mut item = own(Kind::Checkpoint, &checkpoint);
            item.head = head.link(&mut item.line);
            batch.push(item);
        }
    }

    /// A line has been handed to the operating system, whole.
    pub(super) fn written(&mut self, item: &Item, now: Now) {
        self.head = item.head;
        match item.kind {
            Kind::Checkpoint => {
                self.unsigned = 0;
                return;
            }
            Kind::Opening => self.opening = None,
            _ => {}
        }
        if self.unsigned == 0 {
            self.unsigned_since = now.mono;
        }
        self.unsigned += 1;
    }

    fn is_due(&self, coming: u64, now: Now, closing: bool) -> bool {
        let unsigned = self.unsigned + coming;
        let waited = now.mono.saturating_sub(self.unsigned_since);
        unsigned > 0
            && (closing
                || unsigned >= self.checkpoints.records
                || (self.unsigned > 0 && waited >= self.checkpoints.interval))
    }

    fn opening_line(&self, first: First, now: Now) -> OpeningLine {
        OpeningLine {
            ts: Timestamp::of(now.wall_ms),
            first,
            after: self.head.to_string(),
        }
    }
}

struct OpeningLine {
    ts: Timestamp,
    first: First,
    after: String,
}

impl Record for OpeningLine {
    const USUAL: usize = 320;

    fn write(&self, line: &mut Object<'_>) {
        line.field("ts", self.ts);
        line.field("decision", "log");
        line.field("event", self.first.event);
        line.field("after", self.after.as_str());
        line.optional("torn", self.first.torn.then_some(true));
    }
}

/// A line of the writer's own.
fn own(kind: Kind, record: &impl Record) -> Item {
    Item::new(kind, line::encode(record), None)
}
