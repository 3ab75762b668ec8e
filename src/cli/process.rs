//! The threads and the log of a command that runs until a signal.

use std::num::NonZero;
use std::thread::available_parallelism;

use tracing::Level;

use super::command_error::CommandError;
use crate::config::{Format, Log};
use crate::server::StartError;

/// A runtime with `threads` workers. 0 means one for each core, and at least two: a write that
/// hangs on the disk blocks its worker, and the others must go on.
pub(super) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, CommandError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let cores = || available_parallelism().map_or(1, NonZero::get);
    builder.worker_threads(match threads {
        0 => cores().max(2),
        given => given,
    });
    builder
        .enable_all()
        .build()
        .map_err(|e| CommandError::Operation(format!("cannot start threads: {e}")))
}

/// Modules of Pingora that warn of what a backend does, such as bytes after a complete answer.
const BACKEND_SIDE: [&str; 3] = [
    "pingora_core::protocols::http::v1::body",
    "pingora_core::connectors",
    "pingora_pool",
];

/// The filter of log lines. Of Pingora it lets errors pass, and warnings about a backend: any
/// client can cause Pingora's other warnings as often as it likes, and some repeat the client's
/// bytes. Pingora's debug lines print whole requests, secrets among them, and are never logged.
fn filter(level: Level) -> String {
    let mut filter = format!("off,countersign={level},pingora=error");
    for module in BACKEND_SIDE {
        let level = level.min(Level::WARN);
        filter += &format!(",{module}={level}");
    }
    filter
}

/// Logs go to standard error: standard output may be the audit stream.
pub(super) fn start_logging(settings: &Log) {
    use std::io::IsTerminal;

    use tracing_subscriber::EnvFilter;

    let filter = EnvFilter::new(filter(settings.level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Colours are for terminals: in a file or a journal they keep grep from finding a word.
    let lines = match std::io::stderr().is_terminal() {
        true => lines,
        false => lines.with_ansi(false),
    };
    // Fails only where a logger is set already, which then stays.
    let _ = match settings.format {
        Format::Text => lines.with_target(false).try_init(),
        Format::Json => lines.json().with_target(false).try_init(),
    };
    // Lines that the filter drops must not even be formatted: Pingora's trace lines panic on bytes
    // that are not UTF-8.
    log::set_max_level(log::LevelFilter::Warn);
}

impl From<StartError> for CommandError {
    fn from(error: StartError) -> CommandError {
        match error {
            StartError::Configuration(text) => CommandError::Configuration(text),
            StartError::System(text) => CommandError::Operation(text),
        }
    }
}
