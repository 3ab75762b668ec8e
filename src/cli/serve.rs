//! `countersign serve`: runs the gateway.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use tracing::Level;

use super::{Failure, check, check_registry, configuration};
use crate::clock::{Clock, check_after_release};
use crate::config::{self, Environment, Format, Log};
use crate::server::{Findings, GatewayServer, StartError, examine, signals};

/// Run the gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign serve --config conf/countersign.yaml

SIGHUP reads configuration, credentials, registry and certificates again; SIGUSR1 opens the audit
files again. SIGTERM, SIGQUIT and SIGINT stop the gateway in order; a second
one stops it at once.")]
pub(super) struct ServeArgs {
    /// The configuration file; default: $COUNTERSIGN_CONFIG, ./countersign.yaml,
    /// /etc/countersign/countersign.yaml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs until a signal. Bad configuration ends it before anything is bound.
///
/// # Errors
///
/// Every mistake of the configuration or of the registry; what the system refused; a clock that
/// cannot be right.
pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let clock = Clock::system();
    let environment = Environment::of_process(clock.now().unix_seconds());
    let file = configuration::find(args.config.as_deref(), &environment)?;
    let loaded = config::load(&file, &environment);
    let found = (loaded.as_ref()).map_or_else(
        |_| Findings::default(),
        |loaded| examine(&loaded.config, environment.now),
    );
    let loaded = match loaded {
        Ok(loaded) if found.is_good() => loaded,
        bad => return Err(check::failure(&bad, &found, check_registry)),
    };
    start_logging(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for warning in &found.warnings {
        tracing::warn!("{warning}");
    }
    check_after_release(clock.now()).map_err(|e| Failure::Operation(e.to_string()))?;
    let runtime = runtime(loaded.config.threads)?;
    let ended = runtime.block_on(async {
        let server = GatewayServer::bind(loaded.config, clock).await?;
        let stop = signals().map_err(|e| Failure::Operation(e.to_string()))?;
        server.run(stop).await;
        Ok(())
    });
    // A registry that is being read from a stuck disk must not keep the process.
    runtime.shutdown_background();
    ended
}

/// A runtime with `threads` workers; 0 means one a core, and at least two: a write that is stuck in
/// the disk holds up the worker that makes it, and the others must go on.
pub(super) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let cores = || available_parallelism().map_or(1, NonZero::get);
    builder.worker_threads(match threads {
        0 => cores().max(2),
        given => given,
    });
    builder
        .enable_all()
        .build()
        .map_err(|e| Failure::Operation(format!("cannot start threads: {e}")))
}

/// Modules of Pingora that warn of what a backend does, such as bytes after a complete answer.
const BACKEND_SIDE: [&str; 3] = [
    "pingora_core::protocols::http::v1::body",
    "pingora_core::connectors",
    "pingora_pool",
];

/// Which lines are logged. Of Pingora's, errors, and warnings of a backend: what it warns of on the
/// clients' side anybody can cause, as often as they like, and some of it repeats what they sent.
/// Its debug lines print whole requests, secrets among them, and are never logged.
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
    // Colours are for terminals: in a file or a journal they stand between a word and who greps for it.
    let lines = match std::io::stderr().is_terminal() {
        true => lines,
        false => lines.with_ansi(false),
    };
    // Fails only where a logger is set already, which then goes on.
    let _ = match settings.format {
        Format::Text => lines.with_target(false).try_init(),
        Format::Json => lines.json().with_target(false).try_init(),
    };
    // What the filter would drop must not even be formatted: Pingora's trace lines panic on
    // bytes that are not UTF-8.
    log::set_max_level(log::LevelFilter::Warn);
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Configuration(text) => Failure::Configuration(text),
            StartError::System(text) => Failure::Operation(text),
        }
    }
}
