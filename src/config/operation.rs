//! The diagnostic log and the graceful shutdown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::units::duration;
use crate::yaml::{Field, Table, one_of};
use countersign_client::file::too_open;

pub(super) use countersign_client::file::path;

/// The diagnostic log, on standard error: standard output may be the audit's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level logged, default `info`.
    pub level: Level,
    /// The form of a line, default text.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: Level::INFO,
            format: Format::Text,
        }
    }
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the gateway stops on SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The time for which the gateway accepts requests after `/readyz` has turned false, default 5
    /// s: a load balancer takes that long to notice.
    pub delay: Duration,
    /// The time that in-flight requests then have, default 25 s. `delay` and `grace` together
    /// should stay below the supervisor's kill timeout (30 s in Kubernetes).
    pub grace: Duration,
}

pub(super) fn log(mut table: Table<'_>) -> Log {
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let formats = [("text", Format::Text), ("json", Format::Json)];
    let Log { level, format } = Log::default();
    Log {
        level: table.value("level", level, one_of(&levels)),
        format: table.value("format", format, one_of(&formats)),
    }
}

pub(super) fn shutdown(mut table: Table<'_>) -> Shutdown {
    let time = |table: &mut Table<'_>, key, default| {
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        table.value(key, Duration::from_secs(default), duration(bounds))
    };
    Shutdown {
        delay: time(&mut table, "delay", 5),
        grace: time(&mut table, "grace", 25),
    }
}

/// The file at a place, relative to `base`, the directory of the configuration.
pub(super) fn file(field: &Field<'_>, base: &Path) -> Option<PathBuf> {
    field.parse(|text| path(text, base))
}

/// Warns where others than the owner and the group may read the file of a secret.
pub(super) fn warn_of_mode(field: &Field<'_>, file: &Path) {
    if let Some(mode) = too_open(file) {
        field.warning(format!(
            "{} holds a secret and is open to other users (mode {mode:04o}): chmod 640, or 600",
            file.display()
        ));
    }
}
