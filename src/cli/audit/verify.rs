//! `countersign audit verify`: checks that a log is unchanged since a gateway wrote it.

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use ed25519_dalek::VerifyingKey;
use serde_json::json;

use crate::audit::chain::{ChainHead, InvalidChainHead};
use crate::audit::checkpoint::Domain;
use crate::audit::verify::{LogFinding, Verification, VerifyOptions, verify};
use crate::cli::command_error::CommandError;
use crate::cli::logs::LogArgs;
use crate::cli::terminal::printed;
use crate::registry::{Registry, key_format};

/// Check the chain, the checkpoints and the signature of every accepted request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign audit verify --audit 'audit.jsonl*' --registry machines.yaml \\
      --gateway-key MCowBQYDK2VwAyEA... --head \"$(cat head.txt)\"

Exits with 0 if the log has no fault, and with 1 otherwise. Faults are listed in the order of the log.
The last line is the head of the log. Keep it in another place, and give it to the next run with --head
to find an end that was cut off. The registry records in the log are trusted: they say which keys each
machine has from their place on. With --registry-only they are not trusted.")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    audit: LogArgs,
    /// Take the keys of the machines, and their ends, from this registry; name older registries
    /// before it
    #[arg(long = "registry", value_name = "FILE")]
    registries: Vec<PathBuf>,
    /// Trust only these registries, and no registry record of the log
    #[arg(long, requires = "registries")]
    registry_only: bool,
    /// Verify a refusals file (audit.refusals.file): its checkpoints differ from the log's
    #[arg(long)]
    refusals: bool,
    /// Check the checkpoints with this public key of the gateway, as keygen printed it
    #[arg(long, value_name = "KEY", value_parser = key)]
    gateway_key: Option<VerifyingKey>,
    /// Require this head, as an earlier run printed it, to be in the log
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    head: Option<ChainHead>,
    /// Continue after the record with this hash, or after the head that an earlier run printed
    #[arg(long, value_name = "HASH", value_parser = hash)]
    continues: Option<Hash>,
    /// Accept chains that begin again, as at each start of a gateway that logs to standard output
    #[arg(long)]
    restarts: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

type Hash = [u8; 32];

/// Most faults that are listed. Further ones are counted.
const NAMED: usize = 100;

fn key(text: &str) -> Result<VerifyingKey, String> {
    let bytes = key_format::parse(text).map_err(|error| error.to_string())?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| "is not an Ed25519 public key".to_owned())
}

/// Takes the whole last line of the output, too.
fn head(text: &str) -> Result<ChainHead, String> {
    let text = text.trim();
    let text = text.strip_prefix("head ").unwrap_or(text);
    text.parse()
        .map_err(|error: InvalidChainHead| error.to_string())
}

fn hash(text: &str) -> Result<Hash, String> {
    let found = head(text).or_else(|_| head(&format!("1:{}", text.trim())));
    let found =
        found.map_err(|_| "is neither 64 hexadecimal digits nor a head such as 28:8c8c...")?;
    Ok(found.hash)
}

/// # Errors
///
/// [`CommandError::Operation`]: the log has faults, or a file cannot be read.
/// [`CommandError::Configuration`]: a registry has mistakes.
pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let files = args.audit.open()?;
    // Progress needs the sizes of all files.
    let size: Option<u64> = files.iter().map(|file| file.size).sum();
    let files = files.into_iter().map(|file| (file.name.clone(), file));
    let KeyOwners { keys, ends } = owners(&args.registries)?;
    let believed = VerifyOptions {
        keys,
        ends,
        gateway_key: args.gateway_key,
        continues: args.continues,
        head: args.head,
        restarts: args.restarts,
        trusts_log: !args.registry_only,
        domain: match args.refusals {
            true => Domain::Refusals,
            false => Domain::Trail,
        },
    };
    let mut findings = Vec::new();
    let mut count = 0usize;
    let mut progress = Progress::new(size.unwrap_or(0));
    let report = |finding| {
        count += 1;
        if findings.len() < NAMED {
            findings.push(finding);
        }
    };
    let verdict = verify(files, believed, report, |read| progress.at(read))
        .map_err(|error| CommandError::Operation(error.to_string()))?;
    progress.done();
    let text = match args.json {
        true => as_json(&findings, count, &verdict),
        false => as_text(&findings, count, &verdict, args.gateway_key.is_some()),
    };
    printed(out.write_all(text.as_bytes()))?;
    match count {
        0 => Ok(()),
        1 => Err(CommandError::Operation("the log has 1 fault".into())),
        _ => Err(CommandError::Operation(format!(
            "the log has {count} faults"
        ))),
    }
}

/// The keys of each machine, and the ends of keys that have one.
#[derive(Default)]
struct KeyOwners {
    keys: HashMap<String, HashSet<Hash>>,
    ends: HashMap<Hash, u64>,
}

/// Reads the registries. A removed machine had its keys until its removal. If two registries give a
/// key different ends, the later named one counts.
fn owners(registries: &[PathBuf]) -> Result<KeyOwners, CommandError> {
    let mut owners = KeyOwners::default();
    for path in registries {
        let registry = Registry::load(path, None)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
        for machine in registry.machines() {
            for key in &machine.keys {
                let end = key.validity.not_after();
                owners.add(machine.id.as_str(), *key.public.as_bytes(), end);
            }
        }
        for gone in registry.removed() {
            for key in &gone.keys {
                owners.add(gone.id.as_str(), *key, Some(gone.at));
            }
        }
    }
    Ok(owners)
}

impl KeyOwners {
    fn add(&mut self, machine: &str, key: Hash, end: Option<u64>) {
        self.keys.entry(machine.to_owned()).or_default().insert(key);
        match end {
            Some(end) => self.ends.insert(key, end),
            None => self.ends.remove(&key),
        };
    }
}

fn as_text(findings: &[LogFinding], count: usize, verdict: &Verification, signed: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{finding}\n");
    }
    if count > findings.len() {
        text += &format!("and {} more\n", count - findings.len());
    }
    let Verification {
        lines,
        accepted,
        checkpoints,
        unsigned,
        torn,
        head,
    } = verdict;
    text += &format!("{lines} records, {accepted} accepted requests, {checkpoints} checkpoints\n");
    if *torn > 0 {
        text +=
            &format!("{torn} lines were cut off by a crash or a full disk, as the gateway noted\n");
    }
    match signed {
        true => text += &format!("{unsigned} records since the last checkpoint\n"),
        false => {
            text += "checkpoints were not checked: add --gateway-key with the public key of the gateway\n"
        }
    }
    if let Some(head) = head {
        text += &format!("head {head}\n");
    }
    text
}

fn as_json(findings: &[LogFinding], count: usize, verdict: &Verification) -> String {
    let finding = |finding: &LogFinding| {
        json!({
            "file": finding.file,
            "line": finding.line,
            "fault": finding.fault.word(),
            "text": finding.fault.to_string(),
        })
    };
    let value = json!({
        "good": count == 0,
        "faults": count,
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "records": verdict.lines,
        "accepted": verdict.accepted,
        "checkpoints": verdict.checkpoints,
        "unsigned": verdict.unsigned,
        "torn": verdict.torn,
        "head": verdict.head.map(|head| head.to_string()),
    });
    format!("{value}\n")
}

/// A progress bar on a terminal.
struct Progress {
    size: u64,
    shown: Option<u64>,
}

impl Progress {
    fn new(size: u64) -> Progress {
        let shown = (io::stderr().is_terminal() && size > 0).then_some(0);
        Progress { size, shown }
    }

    fn at(&mut self, read: u64) {
        let percent = read.saturating_mul(100) / self.size.max(1);
        if self.shown.is_some_and(|shown| percent > shown) {
            self.shown = Some(percent);
            let bar = "#".repeat(usize::try_from(percent / 2).unwrap_or(0).min(50));
            let _ = write!(io::stderr(), "\r[{bar:<50}] {percent:>3} %");
        }
    }

    fn done(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r{:60}\r", "");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_as_it_is_printed() {
        let (hex, expected) = ("8c".repeat(32), [0x8c; 32]);
        for text in [
            format!("28:{hex}"),
            format!("head 28:{hex}"),
            format!("head 28:{hex}\n"),
        ] {
            let found = head(&text).unwrap();
            assert_eq!((found.seq, found.hash), (28, expected));
            assert_eq!(hash(&text), Ok(expected));
        }
        assert_eq!(hash(&hex), Ok(expected));
        for text in ["head", "tail 28:8c", "head head 1:8c", "28"] {
            assert!(head(text).is_err() && hash(text).is_err(), "{text}");
        }
    }
}
