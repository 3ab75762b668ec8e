//! The mode of a route: whether it requires signatures, and until when it lets unsigned requests
//! pass.

use super::instant;
use crate::yaml::{Field, Table, one_of, quoted};

/// The requirements of a route for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A signature, a fresh nonce, and a machine that may act.
    Enforce {
        /// First second (Unix) in which requests with a bearer credential and without signing
        /// headers stop passing. Default: they never pass.
        bearer_until: Option<u64>,
    },
    /// Requests are checked and recorded as under `enforce`. A request that fails a check passes if
    /// the refusal [judges the caller](countersign_core::refusal::Refusal::judges_the_caller). It
    /// keeps the client's headers, except those that only the gateway sets.
    Observe {
        /// First second (Unix) in which the route enforces.
        until: u64,
    },
    /// A well-formed request, for example a health check. It reaches the backend without an
    /// identity and without a credential.
    Open,
}

/// The requirements of a [`Mode`] at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A signature.
    Signature,
    /// A signature, or a bearer credential without any signing header.
    SignatureOrBearer,
    /// No signature, but the record has the code with which [`Gate::Signature`] would refuse.
    Observed,
    /// Nothing: every well-formed request passes.
    Nothing,
}

impl Mode {
    /// Only signed requests pass.
    pub const ENFORCE: Mode = Mode::Enforce { bearer_until: None };

    /// The gate at `now`, in Unix seconds. After its date every mode but `open` enforces.
    pub const fn at(self, now: u64) -> Gate {
        match self {
            Mode::Enforce {
                bearer_until: Some(end),
            } if now < end => Gate::SignatureOrBearer,
            Mode::Observe { until } if now < until => Gate::Observed,
            Mode::Enforce { .. } | Mode::Observe { .. } => Gate::Signature,
            Mode::Open => Gate::Nothing,
        }
    }

    /// The end of the time in which unsigned requests pass, in Unix seconds, and its label in the
    /// metric and the log. `None` for a route on which they never or always pass.
    pub const fn open_until(self) -> Option<(u64, &'static str)> {
        match self {
            Mode::Enforce { bearer_until } => match bearer_until {
                Some(end) => Some((end, "bearer")),
                None => None,
            },
            Mode::Observe { until } => Some((until, "observe")),
            Mode::Open => None,
        }
    }
}

/// The word in the file, before its date is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Enforce,
    Observe,
    Open,
}

/// Furthest `observe_until`, in days and seconds. A route that lets every request pass must be
/// temporary.
const OBSERVE_DAYS: u64 = 30;
const OBSERVE_SECONDS: u64 = OBSERVE_DAYS * 86_400;

/// Reads `mode`, `observe_until` and `bearer_until`, at `now` (Unix seconds).
pub(super) fn read(table: &mut Table<'_>, now: u64) -> Mode {
    let words = [
        ("enforce", Word::Enforce),
        ("observe", Word::Observe),
        ("open", Word::Open),
    ];
    let word = table.value("mode", Word::Enforce, one_of(&words));
    let observe = table.field("observe_until");
    let bearer = table.field("bearer_until");
    match word {
        Word::Enforce => {
            misplaced(observe, "belongs to `mode: observe`; remove it, or observe");
            Mode::Enforce {
                bearer_until: bearer.and_then(|field| bearer_until(&field, now)),
            }
        }
        Word::Observe => {
            misplaced(
                bearer,
                "has no meaning beside `mode: observe`, which lets bearer credentials pass \
                 already; remove it until the route enforces",
            );
            if observe.is_none() {
                table.mistake(
                    "observe_until",
                    format!(
                        "is missing: `mode: observe` lets every request through, and has to end; \
                         name a day, at most {OBSERVE_DAYS} days ahead"
                    ),
                );
            }
            Mode::Observe {
                until: observe.map_or(0, |field| observe_until(&field, now)),
            }
        }
        Word::Open => {
            for field in [observe, bearer] {
                misplaced(field, "has no meaning on an open route; remove it");
            }
            Mode::Open
        }
    }
}

fn misplaced(field: Option<Field<'_>>, text: &str) {
    if let Some(field) = field {
        field.mistake(text);
    }
}

fn observe_until(field: &Field<'_>, now: u64) -> u64 {
    let end = field.parse(|text| match instant(text)? {
        end if end.saturating_sub(now) > OBSERVE_SECONDS => Err(format!(
            "is more than {OBSERVE_DAYS} days ahead; observe for a shorter time, and again if need \
             be"
        )),
        end => Ok(end),
    });
    if end.is_some_and(|end| end <= now) {
        field.warning("is past: the route enforces; write `mode: enforce`");
    }
    end.unwrap_or(0)
}

fn bearer_until(field: &Field<'_>, now: u64) -> Option<u64> {
    let end = field.parse(instant)?;
    if end <= now {
        field.warning("is past: bearer credentials do not pass any more; remove it");
    }
    Some(end)
}

fn instant(text: &str) -> Result<u64, String> {
    instant::to_unix_seconds(text)
        .ok_or_else(|| format!("{} is not {}", quoted(text), instant::EXPECTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_ends_in_the_second_of_its_date() {
        let bearer = Mode::Enforce {
            bearer_until: Some(100),
        };
        assert_eq!(bearer.at(99), Gate::SignatureOrBearer);
        assert_eq!(bearer.at(100), Gate::Signature);
        let observe = Mode::Observe { until: 100 };
        assert_eq!(observe.at(99), Gate::Observed);
        assert_eq!(observe.at(100), Gate::Signature);
    }

    #[test]
    fn without_a_date_a_mode_does_not_change() {
        for now in [0, u64::MAX] {
            assert_eq!(Mode::ENFORCE.at(now), Gate::Signature);
            assert_eq!(Mode::Open.at(now), Gate::Nothing);
        }
    }
}
