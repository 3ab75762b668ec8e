//! The files of an audit log, for every command that reads one.

mod packed;
mod pattern;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use self::packed::unpacked;
use self::pattern::expand;
use super::command_error::CommandError;
use crate::audit::chain;
use crate::audit::reader::{Record, next_line};
use countersign_client::file;

#[derive(Debug, clap::Args)]
pub(super) struct LogArgs {
    /// Read these files of the audit log, in any order, rotated and .gz ones too; a quoted pattern
    /// ('audit.jsonl*'); - for standard input
    #[arg(long = "audit", alias = "log", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
}

/// Lines at the beginning of a file that are searched for its place in the chain: a crash may have
/// cut off the first one.
const FIRST_LINES: usize = 64;

const CAPACITY: usize = 256 * 1024;

impl LogArgs {
    /// The files in the order in which they were written, each once. They are opened as they are
    /// read.
    ///
    /// # Errors
    ///
    /// [`CommandError::Operation`]: a file cannot be read, or no file matches a pattern.
    pub(super) fn open(&self) -> Result<Vec<LogFile>, CommandError> {
        let mut paths = Vec::new();
        for path in &self.files {
            paths.extend(expand(path)?);
        }
        let mut logs: Vec<LogFile> = Vec::new();
        for path in paths {
            let log =
                LogFile::new(path).map_err(|error| CommandError::Operation(error.to_string()))?;
            if !logs.iter().any(|other| other.id == log.id) {
                logs.push(log);
            }
        }
        sort(&mut logs);
        Ok(logs)
    }
}

/// One file of a log, or standard input. Reads as its text, unpacked where it is packed.
pub(super) struct LogFile {
    /// Its name in messages.
    pub(super) name: String,
    /// The file; `None` for standard input.
    pub(super) path: Option<PathBuf>,
    /// Its size in bytes, unless it is compressed.
    pub(super) size: Option<u64>,
    /// Device and inode; `None` for standard input.
    id: Option<(u64, u64)>,
    first: Option<ChainPosition>,
    text: LogReader,
}

/// The place of a file in its chain, by its first record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChainPosition {
    seq: u64,
    /// RFC 3339 in UTC with milliseconds, which sorts as text.
    ts: String,
}

enum LogReader {
    Unopened,
    Open(Box<dyn BufRead>),
    Ended,
}

impl LogFile {
    fn new(path: PathBuf) -> io::Result<LogFile> {
        let is_stdin = path.as_os_str() == "-";
        let mut log = LogFile {
            name: match is_stdin {
                true => "standard input".to_owned(),
                false => path.display().to_string(),
            },
            path: (!is_stdin).then_some(path),
            size: None,
            id: None,
            first: None,
            text: LogReader::Unopened,
        };
        log.look_at_the_beginning()
            .map_err(|error| log.named(error))?;
        Ok(log)
    }

    /// Finds the place in the chain. A file is closed again; standard input keeps its lines.
    fn look_at_the_beginning(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else {
            let (mut text, _) = unpacked(io::stdin().lock())?;
            let mut lines = Vec::new();
            self.first = first(&mut text, &mut lines)?;
            self.text = LogReader::Open(Box::new(Cursor::new(lines).chain(text)));
            return Ok(());
        };
        let file = open(path)?;
        let metadata = file.metadata()?;
        self.id = Some((metadata.dev(), metadata.ino()));
        let (mut text, is_packed) = unpacked(BufReader::with_capacity(CAPACITY, file))?;
        self.size = (!is_packed).then_some(metadata.len());
        self.first = first(&mut text, &mut Vec::new())?;
        Ok(())
    }

    fn named(&self, error: io::Error) -> io::Error {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "is compressed, and its end is missing".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("{}: {why}", self.name))
    }

    fn text(&mut self) -> io::Result<Option<&mut Box<dyn BufRead>>> {
        if matches!(self.text, LogReader::Unopened)
            && let Some(path) = &self.path
        {
            let file = BufReader::with_capacity(CAPACITY, open(path)?);
            self.text = LogReader::Open(unpacked(file)?.0);
        }
        match &mut self.text {
            LogReader::Open(text) => Ok(Some(text)),
            LogReader::Unopened | LogReader::Ended => Ok(None),
        }
    }
}

impl Read for LogFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for LogFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let ended = match self.text() {
            Ok(None) => return Ok(&[]),
            Ok(Some(text)) => text.fill_buf().map(<[u8]>::is_empty),
            Err(error) => Err(error),
        };
        // A file is closed at its end: a log may have more files than the process has descriptors.
        if ended.map_err(|error| self.named(error))? {
            self.text = LogReader::Ended;
        }
        match &mut self.text {
            LogReader::Open(text) => text.fill_buf(),
            LogReader::Unopened | LogReader::Ended => Ok(&[]),
        }
    }

    fn consume(&mut self, count: usize) {
        if let LogReader::Open(text) = &mut self.text {
            text.consume(count);
        }
    }
}

/// Opens a file of a log.
///
/// # Errors
///
/// It is missing, unreadable, or no regular file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    file::open(path).map_err(io::Error::other)
}

/// The place in the chain of the first line that has one. The lines read are added to `lines`.
fn first(text: &mut Box<dyn BufRead>, lines: &mut Vec<u8>) -> io::Result<Option<ChainPosition>> {
    let mut line = Vec::new();
    for _ in 0..FIRST_LINES {
        if next_line(text, &mut line)? == 0 {
            return Ok(None);
        }
        lines.extend_from_slice(&line);
        let whole = line.trim_ascii_end();
        if let Some((_, head)) = chain::claimed(whole) {
            let ts = Record::parse(whole).and_then(|record| record.ts);
            let ts = ts.map_or_else(String::new, |ts| ts.to_string());
            return Ok(Some(ChainPosition { seq: head.seq, ts }));
        }
    }
    Ok(None)
}

/// Sorts the files of one chain by its order. Files of several chains go by the time of their first
/// record. Files without a record come last.
fn sort(logs: &mut [LogFile]) {
    let begins = |log: &&LogFile| log.first.as_ref().is_some_and(|first| first.seq == 1);
    let is_one_chain = logs.iter().filter(begins).count() <= 1;
    logs.sort_by_cached_key(|log| {
        let first = log.first.clone();
        let ts = (first.as_ref())
            .filter(|_| !is_one_chain)
            .map(|first| first.ts.clone());
        (first.is_none(), ts, first)
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A record of that number in a chain, as far as the order goes by it.
    fn record(seq: u64, ts: &str) -> String {
        let hash = "0a".repeat(32);
        format!("{{\"ts\":\"{ts}\",\"decision\":\"log\",\"seq\":{seq},\"hash\":\"{hash}\"}}\n")
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn opened(files: &[PathBuf]) -> Result<Vec<LogFile>, CommandError> {
        let files = files.to_vec();
        LogArgs { files }.open()
    }

    fn text(log: &mut LogFile) -> io::Result<String> {
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn files_are_read_in_the_order_of_their_chain_whatever_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // Rotated as logrotate does it: the greater the number, the older. Some are packed.
        let (one, two, three) = (record(1, "c"), record(40, "b"), record(90, "a"));
        fs::write(at("audit.jsonl.2.gz"), packed(&one)).unwrap();
        fs::write(at("audit.jsonl.1"), format!("{{\"cut off\n{two}")).unwrap();
        fs::write(at("audit.jsonl"), &three).unwrap();
        fs::write(at("audit.jsonl.new"), "").unwrap();
        fs::write(at("other"), "x").unwrap();
        let pattern = [at("audit.*"), at("audit.jsonl.1"), at("./audit.jsonl")];
        let mut logs = opened(&pattern).unwrap();
        let texts: Vec<String> = logs.iter_mut().map(|log| text(log).unwrap()).collect();
        assert_eq!(texts.concat(), format!("{one}{{\"cut off\n{two}{three}"));
        assert_eq!(logs.len(), 4, "each file once, the empty one last");
        assert_eq!(logs[0].size, None);
        assert_eq!(logs[2].size, Some(three.len() as u64));
    }

    #[test]
    fn files_of_several_chains_go_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let of = [
            ("d", record(700, "2026-02-01T00:00:00.000Z")),
            ("c", record(1, "2026-03-01T00:00:00.000Z")),
            ("b", record(1, "2026-01-01T00:00:00.000Z")),
        ];
        for (name, text) in &of {
            fs::write(at(name), text).unwrap();
        }
        let logs = opened(&[at("c"), at("d"), at("b")]).unwrap();
        let names: Vec<_> = logs.iter().map(|log| log.path.clone().unwrap()).collect();
        assert_eq!(names, [at("b"), at("d"), at("c")]);
    }

    #[test]
    fn packed_members_that_were_put_together_are_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.gz");
        fs::write(&file, [packed("a\n"), packed("b\n")].concat()).unwrap();
        let mut logs = opened(&[file]).unwrap();
        assert_eq!(text(&mut logs[0]).unwrap(), "a\nb\n");
    }

    #[test]
    fn what_is_packed_and_cut_off_is_named_and_not_taken_for_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cut.gz");
        let long: String = (1..2000).map(|seq| record(seq, &seq.to_string())).collect();
        let whole = packed(&long);
        fs::write(&file, &whole[..whole.len() - 20]).unwrap();
        let error = opened(&[file])
            .map(|mut logs| text(&mut logs[0]).unwrap_err().to_string())
            .unwrap_or_else(|failure| failure.to_string());
        assert!(
            error.contains("cut.gz: is compressed, and its end is missing"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_unpacks_to_more_than_any_log_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bomb.gz");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let lines = format!("{}\n", "0".repeat(1023)).repeat(1024);
        for _ in 0..128 {
            encoder.write_all(lines.as_bytes()).unwrap();
        }
        fs::write(&file, encoder.finish().unwrap()).unwrap();
        let mut log = opened(&[file]).unwrap().remove(0);
        let error = io::copy(&mut log, &mut io::sink()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("bomb.gz: decompresses to more than"),
            "{error}"
        );
    }

    #[test]
    fn a_pattern_without_a_file_a_folder_and_a_missing_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (path, says) in [
            (at("none*"), "no file matches"),
            (at("none"), "No such file"),
            (at("*/audit.jsonl"), "only in the file name"),
            (at(""), "not a regular file"),
        ] {
            let failure = opened(&[path]).err().unwrap().to_string();
            assert!(failure.contains(says), "{failure}");
        }
    }
}
