//! Replay protection: the window of timestamps, the quotas of nonces, and their store.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::operation;
use super::redis::{self, Redis};
use super::units::seconds;
use crate::yaml::{Table, one_of, whole};

/// The window, the quotas and the store of the replay check. Nonces are kept in memory, and either
/// in a journal across restarts or in a store that several gateways share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The greatest age of a timestamp in seconds, inclusive; key `window`, default 300.
    pub past: u64,
    /// The greatest lead of a timestamp over the gateway's clock in seconds, inclusive; default:
    /// the value of `past`.
    pub future: u64,
    /// Most nonces remembered of one machine, default 100,000, or `quota` where that is less;
    /// beyond it, `throttled`.
    pub quota_per_machine: u32,
    /// Most nonces remembered of all machines, default 1,000,000; beyond it,
    /// `replay_unavailable`. With the retention, past + future + 60 s, it bounds the sustained
    /// rate: 1,515 requests a second by default.
    pub quota: u64,
    /// The directory of the journal; default `$STATE_DIRECTORY`, else `state` beside the
    /// configuration. `None`, written `none`: a restart forgets. A shared store takes its place.
    pub state_dir: Option<PathBuf>,
    /// The store that several gateways share, with `store: redis`; `None`: this gateway's own.
    pub redis: Option<Redis>,
}

/// The variable in which systemd gives the path of `StateDirectory=`.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// Reads the table.
///
/// With `shares_calls` the gateway manages or enrols machines in a database that others may share.
pub(super) fn read(
    mut table: Table<'_>,
    base: &Path,
    environment: &Environment,
    shares_calls: bool,
) -> Replay {
    let says_instances = table.has_any(&["instances"]);
    let (shared, redis) = store(&mut table, base, environment);
    if shares_calls && !shared && !says_instances {
        table.warning(
            "instances",
            "is missing, and nonces stay in this gateway's memory: a signed call that manages or \
             enrols machines passes once more at every other gateway with this database; use \
             `store: redis`, or write `instances: 1` if there is no other",
        );
    }
    let state_dir = match table.field("state_dir") {
        Some(field) => field.parse(|text| state_dir(text, base, shared)).flatten(),
        None if shared => None,
        None => Some(default_state_dir(base, environment)),
    };
    let past = table.value("window", 300, seconds(1..=3600));
    let future = table.value("future", past, seconds(1..=3600));
    let quota = table.whole("quota", 1_000_000, 1..=100_000_000);
    let share = u32::try_from(quota).unwrap_or(u32::MAX);
    let quota_per_machine = table.field("quota_per_machine");
    let quota_per_machine = quota_per_machine.and_then(|field| {
        field.number(|text| {
            let number = whole(1..=u32::MAX)(text)?;
            if number > share {
                return Err(format!(
                    "is more than `quota`, {quota}, the bound of all together"
                ));
            }
            Ok(number)
        })
    });
    let quota_per_machine = quota_per_machine.unwrap_or(share.min(100_000));
    Replay {
        past,
        future,
        quota_per_machine,
        quota,
        state_dir,
        redis,
    }
}

/// Reads the shared store, if one is configured. Without one, several gateways would each let the
/// same request pass once.
fn store(table: &mut Table<'_>, base: &Path, environment: &Environment) -> (bool, Option<Redis>) {
    let shared = table.value(
        "store",
        false,
        one_of(&[("memory", false), ("redis", true)]),
    );
    let instances = table.whole("instances", 1, 1..=1000);
    if instances > 1 && !shared {
        let text = "is above 1, and each gateway would remember only what it saw itself, so a \
                    request would pass once at each; use `store: redis`";
        table.mistake("instances", text);
    }
    let redis = match table.field("redis") {
        Some(field) if shared => redis::read(&field, base, environment),
        Some(field) => {
            field.mistake("needs `store: redis`; write that, or remove `redis`");
            None
        }
        None => {
            if shared {
                table.mistake("redis", "is missing; `store: redis` needs its `url`");
            }
            None
        }
    };
    (shared, redis)
}

fn state_dir(text: &str, base: &Path, shared: bool) -> Result<Option<PathBuf>, String> {
    match text {
        "none" => Ok(None),
        _ if shared => {
            Err("is not used with `store: redis`, which remembers instead; remove it".into())
        }
        _ => operation::path(text, base).map(Some),
    }
}

pub(super) fn default_state_dir(base: &Path, environment: &Environment) -> PathBuf {
    match (environment.variable)(STATE_DIRECTORY) {
        // The variable may list several directories, separated by colons; any of them will do.
        Ok(given) if given.starts_with('/') => {
            PathBuf::from(given.split(':').next().unwrap_or_default())
        }
        _ => base.join("state"),
    }
}
