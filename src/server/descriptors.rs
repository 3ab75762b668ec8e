//! How many descriptors the process may have: each connection takes one, and another while its
//! request is with the backend. A process that has none left cannot even log why.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

/// Besides those of connections: files, the connections of checks, scrapes, the nonce store.
const OTHERS: u64 = 256;

/// Raises the soft limit as far as the system lets it, and says so where that is not enough for
/// this many connections.
pub(super) fn provide(connections: usize) {
    let needed = 2 * connections as u64 + OTHERS;
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            warn!(%error, "cannot tell how many descriptors the process may have");
            return;
        }
    };
    let wanted = needed.min(hard);
    if soft < wanted {
        match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            Ok(()) => info!(from = soft, to = wanted, "raised the limit of descriptors"),
            Err(error) => warn!(%error, soft, "cannot raise the limit of descriptors"),
        }
    }
    if hard < needed {
        warn!(
            limit = hard,
            needed,
            "limits.connections needs more descriptors than the process may have: raise LimitNOFILE= \
             (systemd) or ulimit -n, or lower limits.connections"
        );
    }
}
