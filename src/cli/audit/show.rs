//! `countersign audit show`: the records of a log.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use crate::audit::reader::{MAX_LINE, Record, RecordText, next_line};
use crate::cli::command_error::CommandError;
use crate::cli::logs::{self, LogArgs, LogFile};
use crate::cli::since::{Since, since};
use crate::cli::terminal::{printed, visible};

/// Show records, for people or as JSON lines
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign audit show --audit 'audit.jsonl*' --machine-id web-1 --decision refused --since 7d
  countersign audit show --audit audit.jsonl --follow --json | jq .")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    audit: LogArgs,
    /// Show records of this machine, also unproved claims to be it
    #[arg(long = "machine-id", alias = "machine", value_name = "ID")]
    machine: Option<String>,
    /// Show records of paths with this prefix
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Show this decision: accepted, refused, observed, response, registry, log, checkpoint,
    /// summary
    #[arg(long, value_name = "WORD", value_parser = DECISIONS, hide_possible_values = true)]
    decision: Option<String>,
    /// Show records of this authentication: signature, bearer, none
    #[arg(long, value_name = "WORD", value_parser = AUTHS, hide_possible_values = true)]
    auth: Option<String>,
    /// Show records of this bearer token, by its `token_hash`
    #[arg(long, value_name = "HASH")]
    token: Option<String>,
    /// Show records from this time on: 2027-01-31T08:00:00Z, 2027-01-31, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Show records before this time: a date, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    until: Option<Since>,
    /// Print the lines unchanged, as JSON
    #[arg(long)]
    json: bool,
    /// Follow the last file as it grows or is replaced, until interrupted
    #[arg(long)]
    follow: bool,
}

/// The decisions of a record, as docs/reference/audit-fields.md lists them.
const DECISIONS: [&str; 8] = [
    "accepted",
    "refused",
    "observed",
    "response",
    "registry",
    "log",
    "checkpoint",
    "summary",
];

/// The authentications of a decision record.
const AUTHS: [&str; 3] = ["signature", "bearer", "none"];

/// How often a followed file is checked.
const LOOK: Duration = Duration::from_millis(250);

/// The filter of the options.
struct RecordFilter<'a> {
    args: &'a ShowArgs,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
}

/// Shows at `now`, in Unix seconds.
///
/// # Errors
///
/// [`CommandError::Operation`]: a file cannot be read, or nothing can be printed.
/// [`CommandError::Usage`]: the followed file cannot grow.
pub(super) fn run(args: &ShowArgs, now: u64, out: &mut dyn Write) -> Result<(), CommandError> {
    let wanted = args.wanted(now);
    let mut files = args.audit.open()?;
    let followed = match args.follow {
        true => files.pop(),
        false => None,
    };
    let mut no_records = 0;
    for mut file in files {
        let name = file.name.clone();
        no_records += print_all(&wanted, &mut file, out, &name)?.no_records;
    }
    if let Some(text) = left_out(no_records) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    match followed {
        Some(file) => follow(&wanted, &file, out),
        None => Ok(()),
    }
}

/// The note at the end about lines that are no records.
fn left_out(no_records: u64) -> Option<String> {
    match no_records {
        0 => None,
        1 => Some("1 line is no record".to_owned()),
        many => Some(format!("{many} lines are no records")),
    }
}

/// What [`print_all`] found besides the records that it printed.
struct Rest {
    /// The length of an unfinished last line, in bytes.
    unfinished: usize,
    /// How many whole lines are no records.
    no_records: u64,
}

/// Prints the records of a file, and then those that are added, without end.
fn follow(
    wanted: &RecordFilter<'_>,
    log: &LogFile,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let (Some(path), Some(_)) = (&log.path, log.size) else {
        let text = format!(
            "--follow: {} cannot grow: it is standard input or compressed. Follow the file that the gateway writes",
            log.name
        );
        return Err(CommandError::Usage(text));
    };
    let name = &*log.name;
    let failed = |error| CommandError::Operation(format!("{name}: {error}"));
    let mut file = open(path)?;
    loop {
        print_added(wanted, &mut file, out, name)?;
        printed(out.flush())?;
        std::thread::sleep(LOOK);
        let there = std::fs::metadata(path).ok();
        let id = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
        let held = file.get_ref().metadata().map_err(failed)?;
        if there.is_some_and(|there| id(&there) != id(&held)) {
            // Lines that came into the old file before it was put aside.
            print_added(wanted, &mut file, out, name)?;
            file = open(path)?;
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>, CommandError> {
    let failed = |error| CommandError::Operation(format!("{}: {error}", path.display()));
    Ok(BufReader::new(logs::open(path).map_err(failed)?))
}

/// Prints the whole lines that are there. The rest, an unfinished line, is read again.
fn print_added(
    wanted: &RecordFilter<'_>,
    file: &mut BufReader<File>,
    out: &mut dyn Write,
    name: &str,
) -> Result<(), CommandError> {
    let left = print_all(wanted, file, out, name)?.unfinished;
    let back = i64::try_from(left).unwrap_or(0);
    let moved = file.seek(SeekFrom::Current(-back));
    moved.map_err(|error| CommandError::Operation(format!("{name}: {error}")))?;
    Ok(())
}

/// Prints the records among the whole lines that are there.
fn print_all(
    wanted: &RecordFilter<'_>,
    file: &mut impl BufRead,
    out: &mut dyn Write,
    name: &str,
) -> Result<Rest, CommandError> {
    let mut no_records = 0;
    loop {
        let mut line = Vec::new();
        let read = next_line(file, &mut line)
            .map_err(|error| CommandError::Operation(error.to_string()))?;
        if read as u64 == MAX_LINE {
            // No record is so long. The rest of the line is no record either.
            let _ = writeln!(
                std::io::stderr(),
                "{name}: a line of more than 4 MiB is left out"
            );
            continue;
        }
        if line.last() != Some(&b'\n') {
            return Ok(Rest {
                unfinished: read,
                no_records,
            });
        }
        let Some(record) = Record::parse(&line) else {
            no_records += 1;
            continue;
        };
        if !wanted.takes(&record) {
            continue;
        }
        match wanted.args.json {
            true => printed(out.write_all(&line))?,
            false => printed(writeln!(out, "{}", for_people(&record)))?,
        }
    }
}

impl ShowArgs {
    fn wanted(&self, now: u64) -> RecordFilter<'_> {
        RecordFilter {
            args: self,
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
        }
    }
}

impl RecordFilter<'_> {
    fn takes(&self, record: &Record<'_>) -> bool {
        let args = self.args;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            (wanted.as_deref()).is_none_or(|wanted| found == Some(wanted))
        };
        let signer = record.machine.as_ref().map(|machine| &*machine.id);
        let path = record.path.as_deref();
        (is(&args.machine, signer) || is(&args.machine, record.claimed_machine.as_deref()))
            && (args.path.as_deref())
                .is_none_or(|prefix| path.is_some_and(|path| path.starts_with(prefix)))
            && is(&args.decision, Some(&*record.decision))
            && is(&args.auth, record.auth.as_deref())
            && is(&args.token, record.token_hash.as_deref())
            && (self.since).is_none_or(|since| record.time().is_some_and(|time| time >= since))
            && (self.until).is_none_or(|until| record.time().is_some_and(|time| time < until))
    }
}

/// One line: the time, the decision, and what matters most in such a record.
fn for_people(record: &Record<'_>) -> String {
    fn shown<'r>(text: &'r Option<RecordText<'_>>) -> &'r str {
        text.as_deref().unwrap_or("-")
    }
    let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |n| n.to_string());
    let details = match &*record.decision {
        "accepted" | "refused" | "observed" => {
            let signer = (record.machine.as_ref()).map(|machine| machine.id.to_string());
            let token = (record.token_hash.as_ref()).map(|hash| format!("token:{hash}"));
            let claimed = (record.claimed_machine.as_ref()).map(|id| format!("({id})"));
            format!(
                "{:<24} {:<15} {:<6} {}{}",
                signer.or(token).or(claimed).unwrap_or_else(|| "-".into()),
                shown(&record.client_ip),
                shown(&record.method),
                shown(&record.path),
                (record.code.as_ref()).map_or_else(String::new, |code| format!("  {code}")),
            )
        }
        "response" => {
            let status = number(record.status.map(u64::from));
            format!("{status} {}", shown(&record.request_id))
        }
        "registry" if record.by.is_some() => format!(
            "{} by {} {}",
            shown(&record.call),
            shown(&record.by),
            shown(&record.request_id)
        ),
        "registry" => format!(
            "{} machines, file {}",
            number(record.machines),
            shown(&record.digest)
        ),
        "log" => format!("{} after {}", shown(&record.event), shown(&record.after)),
        "checkpoint" => shown(&record.head).to_owned(),
        "summary" => format!("left out: {}", json!(record.left_out)),
        _ => String::new(),
    };
    let (time, decision) = (shown(&record.ts), &record.decision);
    // The file may not be a gateway's: only visible characters reach the terminal.
    visible(&format!("{time} {decision:<10} {details}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde_json::Value;

    use super::*;

    fn shown(record: &Value) -> String {
        for_people(&Record::parse(record.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn a_line_for_people_names_when_what_who_and_where() {
        let record = json!({
            "ts": "2026-01-31T08:00:00.000Z", "decision": "refused", "code": "replayed",
            "machine": {"id": "web-1"}, "client_ip": "192.0.2.7", "method": "GET", "path": "/a",
        });
        let line = shown(&record);
        let words: Vec<&str> = line.split_whitespace().collect();
        let expected = [
            "2026-01-31T08:00:00.000Z",
            "refused",
            "web-1",
            "192.0.2.7",
            "GET",
            "/a",
            "replayed",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_machine_that_is_only_claimed_stands_in_brackets() {
        let record = json!({"decision": "refused", "claimed_machine": "web-1"});
        assert!(shown(&record).contains("(web-1)"));
    }

    #[test]
    fn who_sent_a_bearer_token_is_named_by_its_hash() {
        let record = json!({
            "decision": "observed", "auth": "bearer", "token_hash": "5bdc", "code": "missing_header",
            "claimed_machine": "web-1", "path": "/a",
        });
        let line = shown(&record);
        assert!(
            line.contains("token:5bdc") && line.ends_with("missing_header"),
            "{line}"
        );
    }

    #[test]
    fn a_change_of_the_registry_names_the_call_and_its_author() {
        let record = json!({"decision": "registry", "call": "remove_machine", "by": "alice",
            "request_id": "r-1"});
        assert!(shown(&record).ends_with("remove_machine by alice r-1"));
        let loaded = json!({"decision": "registry", "machines": 3, "digest": "ab"});
        assert!(shown(&loaded).ends_with("3 machines, file ab"));
    }

    #[derive(clap::Parser)]
    struct TestArgs {
        #[command(flatten)]
        args: ShowArgs,
    }

    fn args(flags: &[&str]) -> Result<ShowArgs, clap::Error> {
        let line = ["show", "--audit", "x"].iter().chain(flags);
        <TestArgs as clap::Parser>::try_parse_from(line).map(|line| line.args)
    }

    #[test]
    fn an_unknown_decision_or_authentication_is_refused_with_the_words() {
        for (flag, words) in [("--decision", &DECISIONS[..]), ("--auth", &AUTHS[..])] {
            let told = args(&[flag, "nope"]).map(|_| ()).unwrap_err().to_string();
            for word in words {
                assert!(told.contains(word), "{word}: {told}");
                assert!(args(&[flag, word]).is_ok(), "{word}");
            }
        }
    }

    #[test]
    fn lines_that_are_no_records_are_counted() {
        let log = b"{\"decision\":\"log\"}\nnone\n{}\n[1]\n{\"decision\":\"log\"}\nunfin";
        let args = args(&[]).unwrap();
        let (mut out, mut file) = (Vec::new(), &log[..]);
        let rest = print_all(&args.wanted(0), &mut file, &mut out, "x").unwrap();
        assert_eq!((rest.no_records, rest.unfinished), (3, 5));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
        assert_eq!(left_out(3).unwrap(), "3 lines are no records");
        assert_eq!(left_out(0), None);
    }

    #[test]
    fn records_are_chosen_by_auth_and_token() {
        let wants = |flags: &[&str], record: &Value| {
            let args = args(flags).unwrap();
            let text = record.to_string();
            let record = Record::parse(text.as_bytes()).unwrap();
            args.wanted(0).takes(&record)
        };
        let bearer = json!({"decision": "accepted", "auth": "bearer", "token_hash": "5bdc"});
        let signed = json!({"decision": "accepted", "auth": "signature"});
        for flags in [["--auth", "bearer"], ["--token", "5bdc"]] {
            assert!(wants(&flags, &bearer), "{flags:?}");
            assert!(!wants(&flags, &signed), "{flags:?}");
        }
        assert!(!wants(&["--token", "5bd"], &bearer));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let record = json!({"decision": "refused", "path": "/\u{1b}[2J\u{202e}"});
        assert!(shown(&record).contains("/\\u{1b}[2J\\u{202e}"));
    }
}
