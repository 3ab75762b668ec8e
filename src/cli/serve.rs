//! `countersign serve`: runs the gateway.

use super::check;
use super::command_error::CommandError;
use super::configuration::ConfigArgs;
use super::process::{runtime, start_logging};
use super::registry_summary::check_registry;
use crate::config::{self, Environment};
use crate::server::{Findings, GatewayServer, examine, signals};
use countersign_client::clock::{Clock, check_after_release};

/// Run the gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign serve --config conf/countersign.yaml

SIGHUP reloads configuration, credentials, registry and certificates. SIGUSR1 reopens the audit files.
SIGTERM, SIGQUIT and SIGINT stop the gateway gracefully; a second signal stops it at once.")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs until a signal. Bad configuration ends it before anything is bound.
///
/// # Errors
///
/// The configuration or the registry has mistakes, which are all listed; the operating system
/// reports an error; the clock is wrong.
pub(super) fn run(args: &ServeArgs, environment: &Environment) -> Result<(), CommandError> {
    let clock = Clock::system();
    let file = args.config.find(environment)?;
    let loaded = config::load(&file, environment);
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
    check_after_release(clock.now()).map_err(|e| CommandError::Operation(e.to_string()))?;
    let runtime = runtime(loaded.config.threads)?;
    let ended = runtime.block_on(async {
        let server = GatewayServer::bind(loaded.config, clock).await?;
        let stop = signals().map_err(|e| CommandError::Operation(e.to_string()))?;
        server.run(stop).await;
        Ok(())
    });
    // A registry read that hangs on a stuck disk must not keep the process alive.
    runtime.shutdown_background();
    ended
}
