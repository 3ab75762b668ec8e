//! `countersign report`: how far the move from bearer credentials to signatures has come.

mod json;
mod text;

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::terminal::printed;
use crate::audit::report::Tally;
use crate::config::{self, Environment, Mode, Route, instant};
use crate::file;
use crate::registry::Registry;

/// Report who signs, who still sends bearer tokens, and whom enforcing would refuse
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign report --audit audit.jsonl.1 audit.jsonl --config countersign.yaml --since 7d
  zcat audit.jsonl.*.gz | countersign report --audit - --registry machines.yaml --json

Each route ends in a verdict: whether it can stop observing, or taking bearer tokens, without a loss to
anybody who was seen. The report believes the files; countersign audit verify checks them.")]
pub(super) struct ReportArgs {
    /// Files of the audit log, oldest first, rotated ones and the file of refusals too; - is standard
    /// input
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    audit: Vec<PathBuf>,
    /// The registry: names its enabled machines that have not signed
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// The configuration: its registry, and what its routes ask for now
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only requests from this moment on (2027-01-31T08:00:00Z, 2027-01-31), or of the last 7d, 12h, 30m
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// How many segments of a path tell two apart
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    segments: u8,
    /// Most rows of each table; JSON has them all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A beginning, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Of Unix time.
    Moment(u64),
    /// Before now.
    Ago(u64),
}

impl Since {
    fn at(self, now: u64) -> u64 {
        match self {
            Since::Moment(at) => at,
            Since::Ago(ago) => now.saturating_sub(ago),
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Some(at) = instant::to_unix_seconds(text) {
        return Ok(Since::Moment(at));
    }
    let ago = || {
        let unit = text.chars().last()?;
        let seconds = match unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        let number = text.strip_suffix(unit)?;
        // Digits alone: a number may otherwise have a sign.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = digits.then(|| number.parse().ok())??;
        number.checked_mul(seconds)
    };
    let ago = ago().ok_or(
        "is neither a moment (2027-01-31T08:00:00Z, 2027-01-31) nor a time such as 7d, 12h or 30m",
    )?;
    Ok(Since::Ago(ago))
}

/// A route of the configuration, and what it asks for.
struct Asks {
    path: String,
    /// `enforce`, or the mode that ends, and when.
    now: String,
}

/// Reports at `now`, in Unix seconds.
///
/// # Errors
///
/// [`Failure::Operation`]: a file cannot be read, or nothing can be printed;
/// [`Failure::Configuration`]: the configuration or the registry has mistakes.
pub(super) fn run(
    args: &ReportArgs,
    environment: &Environment,
    now: u64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let since = args.since.map(|since| since.at(now));
    let mut tally = Tally::new(since, args.segments.into());
    let (registry, asks) = match &args.config {
        Some(file) => configured(file, environment, now)?,
        None => (None, Vec::new()),
    };
    if let Some(file) = args.registry.as_ref().or(registry.as_ref()) {
        let registry = Registry::load(file, None)
            .map_err(|mistakes| Failure::Configuration(mistakes.to_string()))?;
        let enabled = registry.machines().filter(|machine| machine.enabled);
        tally.expect_machines(enabled.map(|machine| &machine.id));
    }
    for route in &asks {
        tally.expect_route(&route.path);
    }
    for path in &args.audit {
        read(&mut tally, path)?;
    }
    let report = tally.finish();
    let text = match args.json {
        true => format!("{}\n", json::of(&report, since, &asks)),
        false => text::of(&report, since, &asks, args.top),
    };
    printed(out.write_all(text.as_bytes()))
}

/// The registry of a configuration, and what its routes ask for. Where it has mistakes, which is also so
/// where the gateway's credentials cannot be read here, its registry is still worth something.
fn configured(
    file: &Path,
    environment: &Environment,
    now: u64,
) -> Result<(Option<PathBuf>, Vec<Asks>), Failure> {
    match config::load(file, environment) {
        Ok(loaded) => {
            let asks = |route: &Route| Asks {
                path: route.path.clone(),
                now: asked_at(route.mode, now),
            };
            let asks = loaded.config.routes.iter().map(asks).collect();
            Ok((Some(loaded.config.registry), asks))
        }
        Err(mistakes) if mistakes.registry.is_some() => {
            let _ = writeln!(
                io::stderr(),
                "what the routes ask for now is left out of the report:\n{mistakes}"
            );
            Ok((mistakes.registry, Vec::new()))
        }
        Err(mistakes) => Err(Failure::Configuration(mistakes.to_string())),
    }
}

fn read(tally: &mut Tally, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Operation(format!("{}: {error}", path.display()));
    let (name, file): (_, Box<dyn Read>) = match path.to_str() {
        Some("-") => ("standard input".to_owned(), Box::new(io::stdin().lock())),
        _ => (
            path.display().to_string(),
            Box::new(
                file::open(path).map_err(|fault| Failure::Operation(fault.of(path).to_string()))?,
            ),
        ),
    };
    let mut file = BufReader::with_capacity(256 * 1024, file);
    tally.read(&name, &mut file).map_err(failed)
}

/// What a route asks for at `now`, in the words of the configuration.
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
    fn since_is_a_moment_a_date_or_so_long_ago() {
        let at = |text| since(text).map(|since| since.at(2_000_000_000));
        assert_eq!(at("2027-01-15T08:00:01Z"), Ok(1_800_000_001));
        assert_eq!(at("2027-01-15"), Ok(1_799_971_200));
        assert_eq!(at("7d"), Ok(2_000_000_000 - 7 * 86_400));
        assert_eq!(at("12h"), Ok(2_000_000_000 - 43_200));
        assert_eq!(at("30m"), Ok(2_000_000_000 - 1_800));
        assert_eq!(at("5s"), Ok(2_000_000_000 - 5));
        assert_eq!(at("99999999d"), Ok(0), "before 1970 is the beginning");
    }

    #[test]
    fn since_is_nothing_else() {
        for text in [
            "",
            "d",
            "7",
            "7w",
            "-7d",
            "+7d",
            " 7d",
            "7 d",
            "7.5d",
            "99999999999999999999d",
            "999999999999999999d",
            "yesterday",
            "7\u{e9}",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }

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
