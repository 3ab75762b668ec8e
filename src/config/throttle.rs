//! The ban of a source after failed authentications.

use std::time::Duration;

use super::units::duration;
use crate::yaml::Table;

/// The limit on failures of a source, and the ban beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Bad signatures and replays that a source may have in a minute, and as many at once; default
    /// 100; 0: any number.
    pub failures_per_minute: u32,
    /// The length of the ban, with `throttled`, of a source beyond the limit; default 60 s.
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
        failures_per_minute: table.whole("failures_per_minute", 100, 0..=1_000_000),
        ban: table.value("ban", Duration::from_secs(60), duration(bans)),
    }
}
