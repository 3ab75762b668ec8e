//! Name resolution: the names of servers are looked up again while the gateway runs.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::server_set::ServerSet;
use crate::config::Resolve;

/// Time between two lookups of a name that resolves. With the lookup it stays below 30 s.
const AGAIN: Duration = Duration::from_secs(20);

/// Time between two lookups of a name that does not resolve.
const SOON: Duration = Duration::from_secs(2);

/// The least time between two lookups of a name, however many connections fail.
const REST: Duration = Duration::from_secs(1);

/// Looks the names of the servers up again, until the handles are dropped. Each has a task of its
/// own, and one lookup at a time: a resolver that hangs on one name does not delay another.
pub(super) fn start(set: &Arc<ServerSet>) -> Vec<AbortOnDropHandle<()>> {
    let runtime = &set.context.runtime;
    let names = set.upstream.servers.iter().enumerate();
    names
        .filter_map(|(index, server)| Some((index, server.authority.clone(), server.resolve?)))
        .map(|(index, authority, resolve)| {
            let (set, nudge) = (Arc::downgrade(set), Arc::clone(&set.resolve_now[index]));
            let task = keep_resolved(set, index, authority, resolve, nudge);
            AbortOnDropHandle::new(runtime.spawn(task))
        })
        .collect()
}

/// Looks one name up again and again: at once if it has no address or a connection failed, else
/// after a while.
async fn keep_resolved(
    set: Weak<ServerSet>,
    index: usize,
    authority: String,
    resolve: Resolve,
    nudge: Arc<Notify>,
) {
    let listed = |set: &ServerSet| set.current.load().addresses[index].clone();
    // Reading the configuration has logged the names that did not resolve then.
    let Some(mut failing) = set.upgrade().map(|it| listed(&it).is_empty()) else {
        return;
    };
    loop {
        let wait = if failing { SOON } else { AGAIN };
        let _ = tokio::time::timeout(wait, nudge.notified()).await;
        let name = authority.clone();
        let looked_up = tokio::task::spawn_blocking(move || resolve(&name)).await;
        let Some(set) = set.upgrade() else {
            return;
        };
        let upstream = &set.upstream.name;
        // A lookup that panicked has found nothing.
        match looked_up.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(found) if !found.is_empty() => {
                let addresses = shown(&found);
                let was_empty = listed(&set).is_empty();
                let moved = set.moved(index, found);
                if was_empty {
                    info!(%upstream, server = %authority, %addresses, "a server's name resolves now: it is in service");
                } else if moved {
                    info!(%upstream, server = %authority, %addresses, "a server's name has other addresses now");
                } else if failing {
                    info!(%upstream, server = %authority, %addresses, "a server's name resolves again");
                }
                failing = false;
            }
            looked_up if !failing => {
                let error = looked_up
                    .err()
                    .map_or("no address".into(), |e| e.to_string());
                warn!(
                    %upstream, server = %authority, %error,
                    "a server's name does not resolve any more: its last addresses stay in use"
                );
                failing = true;
            }
            _ => {}
        }
        drop(set);
        tokio::time::sleep(REST).await;
    }
}

/// Text for the log. It is bounded, because a name can have any number of addresses.
fn shown(addresses: &[SocketAddr]) -> String {
    const MOST: usize = 8;
    let first: Vec<_> = (addresses.iter().take(MOST))
        .map(ToString::to_string)
        .collect();
    match addresses.len() {
        0..=MOST => first.join(", "),
        more => format!("{} and {} more", first.join(", "), more - MOST),
    }
}
