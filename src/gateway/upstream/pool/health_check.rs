//! Active health checks: one task a server, which connects as a request would, TLS included. A
//! check carries no credential: no signed request asked for it.
//!
//! Not Pingora's load-balancing crate: its checks bring their own lists of servers and their own
//! choice among them, know neither back-off nor files that change, and need no fewer lines.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Method;
use http::header::{HOST, USER_AGENT};
use pingora::Error;
use pingora::connectors::TransportConnector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::connect_error;
use super::server::UpstreamServer;
use crate::config::Health;
use countersign_client::clock::Clock;

/// Makes connections, and keeps none: a check finds out whether connections can be made.
static CONNECTOR: LazyLock<TransportConnector> = LazyLock::new(|| TransportConnector::new(None));

/// Most heads that are read of one response, interim ones (RFC 9110, section 15.2) included.
const MOST_HEADS: usize = 8;

/// Checks the server until the handle is dropped.
pub(super) fn start(
    server: &Arc<UpstreamServer>,
    health: &Health,
    clock: &Clock,
    runtime: &Handle,
) -> AbortOnDropHandle<()> {
    let (server, health, clock) = (Arc::clone(server), health.clone(), clock.clone());
    AbortOnDropHandle::new(runtime.spawn(async move {
        loop {
            let result = tokio::time::timeout(health.timeout, check(&server, &health)).await;
            let result = result.unwrap_or_else(|_| Err("no answer to its health check".into()));
            server.checked(result, clock.now().mono, &health);
            tokio::time::sleep(jittered(health.interval)).await;
        }
    }))
}

/// One check, on a connection of its own. The body of the answer is not read: the connection is
/// closed behind the head, whose size Pingora bounds.
async fn check(server: &UpstreamServer, health: &Health) -> Result<(), String> {
    let failed = |error: Box<Error>| {
        format!(
            "its health check fails: {}",
            connect_error::describe(&error)
        )
    };
    let peer = server.peer();
    let stream = CONNECTOR.new_stream(&*peer).await.map_err(failed)?;
    let mut session = HttpSession::new_with_options(stream, &*peer);
    let request = request(server, health).map_err(failed)?;
    session
        .write_request_header(Box::new(request))
        .await
        .map_err(failed)?;
    for _ in 0..MOST_HEADS {
        session.read_response().await.map_err(failed)?;
        match session.get_status().map(|status| status.as_u16()) {
            Some(100..=199) => {}
            Some(status) if health.expect.contains(&status) => {
                session.shutdown().await;
                return Ok(());
            }
            status => {
                let status = status.unwrap_or_default();
                return Err(format!("its health check is answered with {status}"));
            }
        }
    }
    Err("its health check gets interim answers only".into())
}

fn request(server: &UpstreamServer, health: &Health) -> pingora::Result<RequestHeader> {
    let mut request = RequestHeader::build(Method::GET, health.path.as_bytes(), Some(2))?;
    request.insert_header(HOST, server.host.clone())?;
    request.insert_header(USER_AGENT, "countersign-health-check")?;
    Ok(request)
}

/// The interval, a tenth more or less, so that gateways that were started together do not ask
/// together for ever.
fn jittered(interval: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter, and nothing is lost but that.
    let _ = getrandom::fill(&mut byte);
    interval.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jitter_is_a_tenth_and_not_the_same_each_time() {
        let interval = Duration::from_secs(10);
        let all: Vec<_> = (0..64).map(|_| jittered(interval)).collect();
        let bounds = Duration::from_millis(8_999)..Duration::from_millis(11_001);
        assert!(all.iter().all(|one| bounds.contains(one)), "{all:?}");
        assert!(all.iter().any(|one| *one != all[0]));
    }
}
