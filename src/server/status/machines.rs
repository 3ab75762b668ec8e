//! The machines in the status: how many, and those that need a look.

use std::collections::HashSet;

use super::data::{ExpiryStatus, MachineStatus, MachinesStatus, Rows, SourceStatus};
use super::judge::Judge;
use super::text::{Moment, shown};
use super::{DAY, StatusBoard};
use crate::config::RegistrySource;
use crate::metrics::{LastUse, ListedUses};
use crate::registry::Registry;

/// Most machines of a list.
const MOST_MACHINES: usize = 20;

/// Most machines of the list of recent ones.
const MOST_RECENT: usize = 8;

/// A machine without an accepted request for so many seconds is silent: a day.
const SILENT: u64 = DAY;

/// A machine with an accepted request in so many seconds is active: an hour.
const ACTIVE: u64 = 3600;

fn source(source: &RegistrySource) -> SourceStatus {
    SourceStatus {
        kind: match source {
            RegistrySource::File(_) => "file",
            RegistrySource::Directory(_) => "directory",
            RegistrySource::Database(_) => "database",
        },
        place: shown(&source.to_string()),
    }
}

/// The machines at `now`, in Unix seconds.
pub(super) fn machines(board: &StatusBoard, now: u64, judge: &mut Judge) -> MachinesStatus {
    let registry = board.registry.current();
    let expiry = board.expiry.of(&registry);
    let (mut uses, listing) = board.metrics.machine_uses();
    // One that left the registry has nothing to be looked at.
    uses.retain(|used| registry.find(&used.id).is_some());
    uses.sort_by(|a, b| (b.at, &a.id).cmp(&(a.at, &b.id)));
    let listed = |uses: Vec<&LastUse>, most: usize| {
        let total = uses.len();
        let rows = uses.into_iter().take(most);
        Rows {
            total,
            rows: rows.map(|used| row(&registry, used)).collect(),
        }
    };
    let age = |used: &LastUse| now.saturating_sub(used.at);
    let mut skewed: Vec<_> = uses.iter().filter(|used| used.is_off()).collect();
    skewed.sort_by_key(|used| std::cmp::Reverse(used.skew.unsigned_abs()));
    let far_off = skewed.iter().filter(|used| far_off(used)).count();
    // The longest silence first.
    let silent: Vec<_> = (uses.iter().rev())
        .filter(|used| age(used) >= SILENT)
        .collect();
    let ends = expiry.ends(now, 7 * DAY);
    let status = MachinesStatus {
        source: source(&board.gateway.plan().config.registry.source),
        loaded: Moment(board.metrics.registry_loaded_at()),
        digest: hex(&registry.digest()),
        registered: registry.len(),
        disabled: expiry.disabled,
        expired: expiry.expired(now),
        active: uses.iter().filter(|used| age(used) < ACTIVE).count(),
        unused: match listing {
            ListedUses::Complete => Some(unused(&registry, &uses, expiry.disabled)),
            ListedUses::Full => None,
        },
        expiring_24h: expiry.within(now, DAY),
        expiring_7d: expiry.within(now, 7 * DAY),
        expiring: Rows {
            total: ends.len(),
            rows: (ends.iter().take(MOST_MACHINES))
                .map(|end| ExpiryStatus {
                    id: end.machine.id.to_string(),
                    name: end.machine.name.as_deref().map(shown),
                    owner: end.machine.owner.as_deref().map(shown),
                    key: end.key.as_ref().map(ToString::to_string),
                    at: Moment(end.at),
                    is_last: end.is_last,
                })
                .collect(),
        },
        skewed: listed(skewed, MOST_MACHINES),
        silent: listed(silent, MOST_MACHINES),
        recent: listed(uses.iter().collect(), MOST_RECENT),
    };
    judge.machines(&status, far_off);
    status
}

/// Whether a clock is so far off that its machine will soon be refused: as its alert.
fn far_off(used: &LastUse) -> bool {
    const FAR: u64 = 120;
    used.skew.unsigned_abs() > FAR
}

/// Enabled machines without an accepted request since the start.
fn unused(registry: &Registry, uses: &[LastUse], disabled: usize) -> usize {
    let enabled = |id: &&str| registry.find(id).is_some_and(|machine| machine.enabled);
    let used: HashSet<&str> = uses.iter().map(|used| &*used.id).filter(enabled).collect();
    (registry.len() - disabled).saturating_sub(used.len())
}

fn row(registry: &Registry, used: &LastUse) -> MachineStatus {
    let machine = registry.find(&used.id);
    let field = |field: Option<&std::sync::Arc<str>>| field.map(|text| shown(text));
    MachineStatus {
        id: used.id.clone(),
        name: field(machine.and_then(|machine| machine.name.as_ref())),
        owner: field(machine.and_then(|machine| machine.owner.as_ref())),
        vault: field(machine.and_then(|machine| machine.vault.as_ref())),
        last_used: Moment(used.at),
        skew_seconds: used.skew,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
