//! The signals that end the gateway.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Resolves on the first SIGTERM, SIGQUIT or SIGINT. A second signal ends the process at once, with
/// exit code 1.
///
/// # Errors
///
/// That the system does not let a handler be installed.
pub fn signals() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, asked) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut first = Some(first);
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = quit.recv() => "SIGQUIT",
                _ = interrupt.recv() => "SIGINT",
            };
            let Some(first) = first.take() else {
                warn!(signal = name, "asked to stop again: ending at once");
                std::process::exit(1);
            };
            info!(signal = name, "asked to stop");
            let _ = first.send(());
        }
    });
    Ok(async move {
        let _ = asked.await;
    })
}
