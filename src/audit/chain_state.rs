//! The chain of one stream. The writer gives each line its number and hash. It adds a line when the
//! chain begins or continues, for each checkpoint, and for refusals that were not recorded.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::chain::ChainHead;
use super::checkpoint::{CheckpointSigner, Domain};
use super::queued_line::{LineKind, QueuedLine};
use super::record_time::RecordTime;
use super::refusal_limiter::RefusalLimiter;
use super::sink::{Found, Prepared};
use countersign_client::clock::Now;

/// How often the chain is signed.
#[derive(Clone)]
pub struct Checkpoints {
    /// The signer. `None`: no checkpoints.
    pub signer: Option<Arc<CheckpointSigner>>,
    /// Records between two checkpoints.
    pub records: u64,
    /// Longest time from a record to the next checkpoint.
    pub interval: Duration,
}

/// The state of one stream of lines.
pub(super) struct ChainState {
    head: ChainHead,
    /// The event that the next line has to record first.
    opening: Option<OpeningEvent>,
    checkpoints: Checkpoints,
    domain: Domain,
    /// Records since the last checkpoint.
    unsigned: u64,
    /// When the first of them was written, on the monotonic clock.
    unsigned_since: Duration,
    /// Counts the refusals that were left out.
    limiter: Option<Arc<RefusalLimiter>>,
}

/// The options of a chain.
pub(super) struct ChainOptions {
    pub(super) checkpoints: Checkpoints,
    /// The bound on the refusals that go into this stream.
    pub(super) limiter: Option<Arc<RefusalLimiter>>,
    pub(super) domain: Domain,
}

#[derive(Clone, Copy)]
struct OpeningEvent {
    event: &'static str,
    /// The line before it was cut off.
    torn: bool,
}

impl ChainState {
    /// Continues the chain that the sink holds, or begins one.
    pub(super) fn open(found: &Found, opening: ChainOptions) -> ChainState {
        let event = match found.head {
            Some(_) => "restart",
            None => "begin",
        };
        ChainState {
            head: found.head.unwrap_or(ChainHead::START),
            opening: Some(OpeningEvent {
                event,
                torn: found.torn,
            }),
            checkpoints: opening.checkpoints,
            domain: opening.domain,
            unsigned: 0,
            unsigned_since: Duration::ZERO,
            limiter: opening.limiter,
        }
    }

    /// Makes the batch ready to be written: adds the chain's own lines and links them all. The head
    /// moves only with [`ChainState::written`].
    pub(super) fn complete(
        &mut self,
        batch: &mut Vec<QueuedLine>,
        prepared: Prepared,
        now: Now,
        closing: bool,
    ) {
        if prepared.reopened || prepared.torn {
            let known = self.opening.take();
            self.opening = Some(OpeningEvent {
                event: known.map_or("reopen", |opening| opening.event),
                torn: prepared.torn || known.is_some_and(|opening| opening.torn),
            });
        }
        if let Some(opening) = self.opening
            && let Ok(line) = QueuedLine::of(LineKind::Opening, &self.opening_line(opening, now))
        {
            batch.insert(0, line);
        }
        if let Some(limiter) = &self.limiter
            && let Some(summary) = limiter.summary(now, closing)
        {
            batch.extend(QueuedLine::of(LineKind::Summary, &summary));
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
            if let Ok(mut item) = QueuedLine::of(LineKind::Checkpoint, &checkpoint) {
                item.head = head.link(&mut item.line);
                batch.push(item);
            }
        }
    }

    /// A line has been handed to the operating system, whole.
    pub(super) fn written(&mut self, item: &QueuedLine, now: Now) {
        self.head = item.head;
        match item.kind {
            LineKind::Checkpoint => {
                self.unsigned = 0;
                return;
            }
            LineKind::Opening => self.opening = None,
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

    fn opening_line(&self, opening: OpeningEvent, now: Now) -> OpeningLine {
        OpeningLine {
            ts: RecordTime::of(now.wall_ms),
            decision: "log",
            event: opening.event,
            after: self.head.to_string(),
            torn: opening.torn.then_some(true),
        }
    }
}

#[derive(Serialize)]
struct OpeningLine {
    ts: RecordTime,
    decision: &'static str,
    event: &'static str,
    after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn: Option<bool>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::audit::line::encode;

    #[test]
    fn the_first_line_of_a_chain_and_one_after_a_torn_line_read_as_published() {
        let line = |event, torn| OpeningLine {
            ts: RecordTime::of(1_750_000_000_123),
            decision: "log",
            event,
            after: ChainHead::START.to_string(),
            torn,
        };
        let text = |line: &OpeningLine| String::from_utf8(encode(line, 0).unwrap()).unwrap();
        let begin = concat!(
            r#"{"ts":"2025-06-15T15:06:40.123Z","decision":"log","event":"begin","#,
            r#""after":"0:0000000000000000000000000000000000000000000000000000000000000000"}"#,
            "\n"
        );
        assert_eq!(text(&line("begin", None)), begin);
        let torn = begin
            .replace("\"begin\"", "\"restart\"")
            .replace("00\"}", "00\",\"torn\":true}");
        assert_eq!(text(&line("restart", Some(true))), torn);
    }
}
