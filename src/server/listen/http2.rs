//! One HTTP/2 connection, from its preface to its end. Pingora's own loop waits for the preface
//! without a deadline, does not hear of a shutdown while it does, and answers malformed heads by
//! itself.

use std::sync::Arc;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::handshake;
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::connection_timeouts::ConnectionTimeouts;
use super::http2_stream::Http2Stream;

/// Serves the connection until it ends, each stream in a task of its own. A shutdown lets the
/// streams that are open finish (GOAWAY, RFC 9113, section 6.8).
pub(super) async fn serve<A>(
    app: &Arc<A>,
    stream: Stream,
    timeouts: ConnectionTimeouts,
    shutdown: &ShutdownWatch,
    tasks: &TaskTracker,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut stop = shutdown.clone();
    let connection = tokio::select! {
        made = tokio::time::timeout(timeouts.handshake, handshake(stream, app.h2_options())) => made,
        _ = stop.wait_for(|&stop| stop) => return,
    };
    let Ok(Ok(mut connection)) = connection else {
        return;
    };

    let mut streams = JoinSet::new();
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop), if !draining => {
                connection.graceful_shutdown();
                draining = true;
            }
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else {
                    break;
                };
                let (app, shutdown) = (Arc::clone(app), shutdown.clone());
                let stream = Http2Stream::new(request, respond, Arc::clone(&digest));
                streams.spawn(tasks.track_future(async move {
                    let session = ServerSession::new_custom(Box::new(stream));
                    app.process_new_http(session, &shutdown).await;
                }));
            }
            Some(_) = streams.join_next() => {}
            () = tokio::time::sleep(timeouts.idle), if streams.is_empty() => break,
        }
    }
    // Requests that were forwarded still get their response record, though no client is left.
    streams.detach_all();
}
