//! How long a signed request stays good, and how many of them are remembered.

use std::path::Path;

use super::environment::Environment;
use super::reader::{Table, one_of};
use super::redis::{self, Redis};
use super::units::{seconds, whole};

/// The window and the quotas of the replay check. A journal across restarts is not in this
/// version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// How old a timestamp may be, in seconds, inclusive; key `window`, default 300.
    pub past: u64,
    /// How far ahead of the gateway's clock a timestamp may be, in seconds, inclusive; default:
    /// the same as `past`.
    pub future: u64,
    /// Most nonces remembered of one machine, default 100,000, or `quota` where that is less;
    /// beyond it, `throttled`.
    pub quota_per_machine: u32,
    /// Most nonces remembered of all machines, default 1,000,000; beyond it,
    /// `replay_unavailable`. With the retention, past + future + 60 s, it bounds the sustained
    /// rate: 1,515 requests a second by default.
    pub quota: u64,
    /// The store that several gateways share, with `store: redis`; `None`: this one's memory alone.
    pub redis: Option<Redis>,
}

/// Reads the table.
pub(super) fn read(mut table: Table<'_>, base: &Path, environment: &Environment) -> Replay {
    let redis = store(&mut table, base, environment);
    table.value("state_dir", (), state_dir);
    let past = table.value("window", 300, seconds(1..=3600));
    let future = table.value("future", past, seconds(1..=3600));
    let quota = table.value("quota", 1_000_000, whole(1..=100_000_000));
    let share = u32::try_from(quota).unwrap_or(u32::MAX);
    let quota_per_machine = table.value("quota_per_machine", share.min(100_000), |text| {
        let number = whole(1..=u32::MAX)(text)?;
        if number > share {
            return Err(format!(
                "is more than `quota`, {quota}, the bound of all together"
            ));
        }
        Ok(number)
    });
    Replay {
        past,
        future,
        quota_per_machine,
        quota,
        redis,
    }
}

/// The shared store, where there is one: several gateways that each remember alone would each
/// let a request pass once.
fn store(table: &mut Table<'_>, base: &Path, environment: &Environment) -> Option<Redis> {
    let shared = table.value(
        "store",
        false,
        one_of(&[("memory", false), ("redis", true)], &[]),
    );
    let instances = table.value("instances", 1, whole(1..=1000));
    if instances > 1 && !shared {
        let text = "is above 1, and each gateway would remember only what it saw itself, so a \
                    request would pass once at each; use `store: redis`";
        table.mistake("instances", text);
    }
    match table.place("redis") {
        Some(place) if shared => redis::read(&place, base, environment),
        Some(place) => {
            place.mistake("stands beside `store: memory`; write `store: redis`, or remove it");
            None
        }
        None => {
            if shared {
                table.mistake("redis", "is missing; `store: redis` needs its `url`");
            }
            None
        }
    }
}

fn state_dir(text: &str) -> Result<(), String> {
    match text {
        "none" => Ok(()),
        _ => Err("a journal is not available in this version; use none, or remove it".into()),
    }
}
