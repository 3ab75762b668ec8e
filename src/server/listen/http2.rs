//! One HTTP/2 connection, from its preface to its end. Pingora's own loop waits for the preface
//! without a deadline, does not hear of a shutdown while it does, and answers malformed heads by
//! itself.

use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::handshake;
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::http2_stream::Http2Stream;

/// What a connection is served with.
pub(crate) struct Terms<'a> {
    /// Longest wait for the preface.
    pub(crate) preface: Duration,
    /// Longest time without a stream.
    pub(crate) idle: Duration,
    pub(crate) shutdown: &'a ShutdownWatch,
    /// Where the streams' tasks are kept track of.
    pub(crate) tasks: &'a TaskTracker,
}

/// Serves the connection until it ends, each stream in a task of its own. A shutdown lets the
/// streams that are open finish (GOAWAY, RFC 9113, section 6.8).
pub(crate) async fn serve<A>(app: &Arc<A>, stream: Stream, terms: Terms<'_>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut stop = terms.shutdown.clone();
    let connection = tokio::select! {
        made = tokio::time::timeout(terms.preface, handshake(stream, app.h2_options())) => made,
        _ = stop.wait_for(|&stop| stop) => return,
    };
    let Ok(Ok(mut connection)) = connection else {
        return;
    };

    let mut streams = JoinSet::new();
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop), if !leaving => {
                connection.graceful_shutdown();
                leaving = true;
            }
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else {
                    break;
                };
                let (app, shutdown) = (Arc::clone(app), terms.shutdown.clone());
                let stream = Http2Stream::new(request, respond, Arc::clone(&digest));
                streams.spawn(terms.tasks.track_future(async move {
                    let session = ServerSession::new_custom(Box::new(stream));
                    app.process_new_http(session, &shutdown).await;
                }));
            }
            Some(_) = streams.join_next() => {}
            () = tokio::time::sleep(terms.idle), if streams.is_empty() => break,
        }
    }
    // What was forwarded is still accounted for, though nobody will hear the answer.
    streams.detach_all();
}
