//! How long a signed request stays good, and how many of them are remembered, and where.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::operation;
use super::reader::{Table, one_of};
use super::units::{seconds, whole};

/// The window and the quotas of the replay check. Nonces are kept in memory, and in a journal
/// across restarts; a store across gateways is not in this version.
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
    /// The directory of the journal; default `$STATE_DIRECTORY`, else `state` beside the
    /// configuration. `None`, written `none`: a restart forgets.
    pub state_dir: Option<PathBuf>,
}

/// What systemd names the directory of its `StateDirectory=` by.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// Reads the table.
pub(super) fn read(mut table: Table<'_>, base: &Path, environment: &Environment) -> Replay {
    table.not_yet(&["redis"]);
    table.value("store", (), one_of(&[("memory", ())], &["redis"]));
    let state_dir = match table.place("state_dir") {
        Some(place) => place.parse(|text| state_dir(text, base)).flatten(),
        None => Some(default_state_dir(base, environment)),
    };
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
        state_dir,
    }
}

fn state_dir(text: &str, base: &Path) -> Result<Option<PathBuf>, String> {
    match text {
        "none" => Ok(None),
        _ => operation::path(text, base).map(Some),
    }
}

fn default_state_dir(base: &Path, environment: &Environment) -> PathBuf {
    match (environment.variable)(STATE_DIRECTORY) {
        // Several are separated by colons; the first is as good as any.
        Ok(given) if given.starts_with('/') => {
            PathBuf::from(given.split(':').next().unwrap_or_default())
        }
        _ => base.join("state"),
    }
}
