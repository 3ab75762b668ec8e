//! Messages in the service log about writes that fail.

use std::io;
use std::time::Duration;

/// The least time between two messages that writing fails: one for each request would fill the
/// service log.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Reports in the service log that writing fails, and that it works again.
#[derive(Debug, Default)]
pub(super) struct WriteFailures {
    failing: bool,
    last: Option<Duration>,
    lost: u64,
}

impl WriteFailures {
    pub(super) fn note(
        &mut self,
        sink: &str,
        error: Option<&io::Error>,
        lost: u64,
        mono: Duration,
    ) {
        self.lost += lost;
        let Some(error) = error else {
            if std::mem::take(&mut self.failing) {
                tracing::info!(sink, lost = self.lost, "audit records are written again");
                *self = WriteFailures {
                    last: self.last,
                    ..WriteFailures::default()
                };
            }
            return;
        };
        self.failing = true;
        let quiet = self
            .last
            .is_some_and(|last| mono.saturating_sub(last) < COMPLAINT_INTERVAL);
        if !quiet {
            self.last = Some(mono);
            tracing::error!(
                sink, %error, lost = self.lost,
                "audit records cannot be written; requests are refused until they can"
            );
        }
    }
}
