//! The time, as it is handed around.

use std::time::Duration;

/// One reading: what the calendar says, and how long the clock has been running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix time in milliseconds. It may step either way when the machine's clock is set; zero
    /// if that clock stands before 1970.
    pub wall_ms: u64,
    /// Time since the [`Clock`](super::Clock) was made. It never steps back.
    pub mono: Duration,
}

impl Now {
    /// Unix time in whole seconds, rounded down: the unit of `X-Timestamp`.
    pub const fn unix_seconds(self) -> u64 {
        self.wall_ms / 1000
    }
}
