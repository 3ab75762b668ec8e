//! The agent's listener: a TCP address, or a Unix socket that only its owner may use.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::exchange::AgentExchange;
use super::stall::StallTimeout;
use crate::settings::Listen;

/// Deadline for the head of a request, and longest idle time of a connection.
const HEAD: Duration = Duration::from_secs(60);

/// Largest head of a request, equal to the gateway's limit.
const MAX_HEAD: usize = crate::gateway_headers::HEADER_BYTES;

/// The pause after a failed accept. The process has no descriptors left, so the next accept would
/// fail at once.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A bound listener.
pub(super) enum AgentListener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, Socket),
}

/// The file of a Unix socket, removed on drop.
pub(super) struct Socket {
    path: PathBuf,
    inode: u64,
}

impl AgentListener {
    /// Binds the address.
    ///
    /// # Errors
    ///
    /// Why the address cannot be bound.
    pub(super) async fn bind(listen: &Listen) -> Result<AgentListener, String> {
        match listen {
            Listen::Tcp(address) => {
                let fail = |error: io::Error| format!("cannot listen on {address}: {error}");
                let listener = TcpListener::bind(address).await.map_err(fail)?;
                let bound = listener.local_addr().map_err(fail)?;
                Ok(AgentListener::Tcp(listener, bound))
            }
            Listen::Unix(path) => {
                let fail =
                    |error: io::Error| format!("cannot listen on {}: {error}", path.display());
                if UnixStream::connect(path).await.is_ok() {
                    return Err(format!("{} is in use by another process", path.display()));
                }
                let listener = bind_private(path).map_err(fail)?;
                let inode = fs::symlink_metadata(path).map_err(fail)?.ino();
                let path = path.clone();
                Ok(AgentListener::Unix(listener, Socket { path, inode }))
            }
        }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            AgentListener::Tcp(_, address) => Some(*address),
            AgentListener::Unix(..) => None,
        }
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.address().map(|address| address.port())
    }

    /// Serves until `stop`, then lets in-flight requests finish within `grace`.
    pub(super) async fn serve(
        self,
        exchange: Arc<AgentExchange>,
        connections: usize,
        grace: Duration,
        stop: impl Future<Output = ()>,
    ) {
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let room = Arc::new(Semaphore::new(connections));
        tokio::pin!(stop);
        loop {
            // Further connections wait in the kernel's accept queue. Local clients are few, and a
            // wait is better for them than an error.
            let accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (self.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut stop => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let serving = converse(stream, Arc::clone(&exchange), stopping.clone());
                    tasks.spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        drop(self);
        stopping.cancel();
        tasks.close();
        if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
            warn!(
                connections = tasks.len(),
                "requests were still in flight at the end of the grace"
            );
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            AgentListener::Tcp(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            AgentListener::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// A TCP or Unix connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn converse(
    stream: Box<dyn Stream>,
    exchange: Arc<AgentExchange>,
    stopping: CancellationToken,
) {
    let service = service_fn(move |request| {
        let exchange = Arc::clone(&exchange);
        async move { exchange.answer(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(StallTimeout::new(stream)), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!("a client's connection ended: {error}");
    }
}

/// Binds a Unix socket of mode 0600. The socket is created in a directory of mode 0700 and then
/// moved into place, so that no other user can connect before its mode is set. A stale socket of a
/// dead process is replaced.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if fs::symlink_metadata(path).is_ok_and(|it| !is_socket(&it)) {
        return Err(io::Error::other("there is something else of that name"));
    }
    let workshop = parent.join(format!(".{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&workshop)?;
    let made = workshop.join("s");
    let bound = UnixListener::bind(&made).and_then(|listener| {
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
        fs::rename(&made, path)?;
        Ok(listener)
    });
    if bound.is_err() {
        let _ = fs::remove_file(&made);
    }
    let _ = fs::remove_dir(&workshop);
    bound
}

fn is_socket(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket()
}

impl Drop for Socket {
    /// Keeps a socket that another process has put in its place.
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Display for AgentListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentListener::Tcp(_, address) => write!(f, "http://{address}"),
            AgentListener::Unix(_, socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listener = AgentListener::bind(&Listen::Unix(path.clone()))
            .await
            .unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_in_use_is_left_alone_and_one_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listen = Listen::Unix(path.clone());
        let abandoned = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(AgentListener::bind(&listen).await.is_err());
        drop(abandoned);
        assert!(AgentListener::bind(&listen).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_of_that_name_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "x").unwrap();
        assert!(
            AgentListener::bind(&Listen::Unix(path.clone()))
                .await
                .is_err()
        );
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }
}
