//! Requests by the code of a refusal: those that were refused, and those that would have been.

use prometheus::{IntCounter, Result};

use super::declare::Declare;
use countersign_core::refusal::Code;

pub(super) struct CodeCounters {
    refused: [IntCounter; Code::ALL.len()],
    observed: [IntCounter; Code::ALL.len()],
}

impl CodeCounters {
    pub(super) fn declare(declare: &Declare) -> Result<CodeCounters> {
        let by_code = |name, help| -> Result<_> {
            let counters = declare.counters(name, help, &["code"])?;
            Ok(Code::ALL.map(|code| counters.with_label_values(&[code.as_str()])))
        };
        Ok(CodeCounters {
            refused: by_code(
                "refusals_total",
                "Refused requests, by the code in the body of the refusal.",
            )?,
            observed: by_code(
                "observed_total",
                "Requests that passed on observed routes and that enforcing would have refused, by the code it would have given.",
            )?,
        })
    }

    pub(super) fn refused(&self, code: Code) {
        self.refused[code as usize].inc();
    }

    /// The refusals so far, in the order of [`Code::ALL`].
    pub(super) fn refusals(&self) -> [u64; Code::ALL.len()] {
        self.refused.each_ref().map(IntCounter::get)
    }

    pub(super) fn observed(&self, code: Code) {
        self.observed[code as usize].inc();
    }
}
