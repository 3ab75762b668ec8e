//! When a source that fails is turned away.

use std::time::Duration;

use super::units::{duration, whole};
use crate::yaml::Table;

/// How many failures a source may have, and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Bad signatures and replays that a source may have in a minute, and as many at once; default
    /// 100; 0: any number.
    pub failures_per_minute: u32,
    /// For how long a source that has more is turned away with `throttled`, default 60 s.
    pub ban: Duration,
}

impl ThrottleSettings {
    /// Whether there is a limit.
    pub fn is_on(&self) -> bool {
        self.failures_per_minute > 0
    }
}

pub(super) fn read(mut table: Table<'_>) -> ThrottleSettings {
    let bans = Duration::from_secs(1)..=Duration::from_secs(3600);
    ThrottleSettings {
        failures_per_minute: table.value("failures_per_minute", 100, whole(0..=1_000_000)),
        ban: table.value("ban", Duration::from_secs(60), duration(bans)),
    }
}
