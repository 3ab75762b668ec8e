//! The limit of file descriptors: each connection takes one, and another while its request is with
//! the backend. A process without free descriptors can neither log nor read that a machine was
//! disabled.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use countersign_client::file;

/// Descriptors besides those of connections: files, health checks, scrapes, the replay cache.
const OTHERS: u64 = 256;

/// Raises the soft limit as far as the system allows, and keeps some descriptors in reserve for
/// reading files. Returns the most client connections: `connections`, or as many as leave room for
/// the rest.
pub(crate) fn provide(connections: usize) -> usize {
    file::keep_in_reserve();
    let needed = 2 * connections as u64 + OTHERS;
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            warn!(%error, "cannot tell how many descriptors the process may have");
            return connections;
        }
    };
    let wanted = needed.min(hard);
    let mut limit = soft;
    if soft < wanted {
        match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            Ok(()) => {
                info!(from = soft, to = wanted, "raised the limit of descriptors");
                limit = wanted;
            }
            Err(error) => warn!(%error, soft, "cannot raise the limit of descriptors"),
        }
    }
    let room = room(limit);
    if room < connections {
        warn!(
            limit,
            needed,
            connections = room,
            "limits.connections needs more descriptors than the process may have, so fewer connections are taken: \
             raise LimitNOFILE= (systemd) or ulimit -n, or lower limits.connections"
        );
    }
    room.min(connections)
}

/// Returns the connections for which `limit` descriptors suffice. Of very few, half stay in
/// reserve.
fn room(limit: u64) -> usize {
    let others = OTHERS.min(limit / 2);
    usize::try_from((limit - others) / 2)
        .unwrap_or(usize::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_files_also_where_there_are_few_descriptors() {
        for (limit, connections) in [
            (40_256, 20_000),
            (4096, 1920),
            (1024, 384),
            (512, 128),
            (120, 30),
            (1, 1),
        ] {
            assert_eq!(room(limit), connections, "{limit}");
        }
    }
}
