//! `countersign report`: the progress of the migration from bearer credentials to signatures.

mod json;
mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use super::logs::LogArgs;
use super::since::{Since, since};
use super::terminal::printed;
use crate::audit::report::Tally;
use crate::config::{self, Environment, Mode, Route, instant};
use crate::registry::Registry;

/// Report which machines sign, which clients send bearer tokens, and which requests `mode: enforce`
/// would refuse
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign report --audit 'audit.jsonl*' --config countersign.yaml --since 7d
  ssh gateway cat audit.jsonl | countersign report --audit - --registry machines.yaml --json

Each route has a verdict: whether it can enforce signatures without breaking a client in the log. The
report trusts the files; check them with countersign audit verify.")]
pub(super) struct ReportArgs {
    #[command(flatten)]
    audit: LogArgs,
    /// List the enabled machines of this registry that have not signed
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// Take the registry and the modes of the routes from this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Count requests from this time on: 2027-01-31T08:00:00Z, 2027-01-31, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Group paths by this number of segments
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    segments: u8,
    /// Print at most this number of rows of each table; JSON has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A route of the configuration, and its mode.
struct RouteMode {
    path: String,
    /// `enforce`, or the mode that ends, and when.
    now: String,
}

/// Reports at `now`, in Unix seconds.
///
/// # Errors
///
/// [`CommandError::Operation`]: a file cannot be read, or nothing can be printed.
/// [`CommandError::Configuration`]: the configuration or the registry has mistakes.
pub(super) fn run(
    args: &ReportArgs,
    environment: &Environment,
    now: u64,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let since = args.since.map(|since| since.at(now).unix_timestamp());
    let since = since.map(|since| u64::try_from(since).unwrap_or(0));
    let mut tally = Tally::new(since, args.segments.into());
    let (registry, asks) = match &args.config {
        Some(file) => configured(file, environment, now)?,
        None => (None, Vec::new()),
    };
    if let Some(file) = args.registry.as_ref().or(registry.as_ref()) {
        let registry = Registry::load(file, None)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
        let enabled = registry.machines().filter(|machine| machine.enabled);
        tally.expect_machines(enabled.map(|machine| &machine.id));
    }
    for route in &asks {
        tally.expect_route(&route.path);
    }
    for mut log in args.audit.open()? {
        let name = log.name.clone();
        (tally.read(&name, &mut log))
            .map_err(|error| CommandError::Operation(error.to_string()))?;
    }
    let report = tally.finish();
    let text = match args.json {
        true => format!("{}\n", json::of(&report, since, &asks)),
        false => text::of(&report, since, &asks, args.top),
    };
    printed(out.write_all(text.as_bytes()))
}

/// The registry of a configuration, and the modes of its routes. A configuration with mistakes
/// still gives its registry: on this machine the credentials of the gateway may be unreadable.
fn configured(
    file: &Path,
    environment: &Environment,
    now: u64,
) -> Result<(Option<PathBuf>, Vec<RouteMode>), CommandError> {
    match config::load(file, environment) {
        Ok(loaded) => {
            let asks = |route: &Route| RouteMode {
                path: route.path.clone(),
                now: asked_at(route.mode, now),
            };
            let asks = loaded.config.routes.iter().map(asks).collect();
            Ok((loaded.config.registry.path().map(Path::to_owned), asks))
        }
        Err(mistakes) => {
            let Some(registry) = config::registry_file(file) else {
                return Err(CommandError::Configuration(mistakes.to_string()));
            };
            let _ = writeln!(
                io::stderr(),
                "the modes of the routes are left out of the report, because the configuration has mistakes:\n{mistakes}"
            );
            Ok((Some(registry), Vec::new()))
        }
    }
}

/// The mode of a route at `now`, in the words of the configuration.
fn asked_at(mode: Mode, now: u64) -> String {
    match (mode, mode.open_until()) {
        (Mode::Open, _) => "open".to_owned(),
        (_, Some((until, word))) if now < until => {
            format!("{word} until {}", instant::to_text(until))
        }
        (_, Some((until, word))) => format!("enforce, {word} ended {}", instant::to_text(until)),
        (_, None) => "enforce".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_told_with_its_date() {
        let observe = Mode::Observe {
            until: 1_800_000_000,
        };
        let bearer = Mode::Enforce {
            bearer_until: Some(1_800_000_000),
        };
        for (mode, now, expected) in [
            (Mode::ENFORCE, 0, "enforce"),
            (Mode::Open, 0, "open"),
            (observe, 1, "observe until 2027-01-15T08:00:00Z"),
            (bearer, 1, "bearer until 2027-01-15T08:00:00Z"),
            (
                bearer,
                1_800_000_000,
                "enforce, bearer ended 2027-01-15T08:00:00Z",
            ),
        ] {
            assert_eq!(asked_at(mode, now), expected);
        }
    }
}
