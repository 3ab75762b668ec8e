//! The reservation: a small file that bounds the timestamps of all accepted requests. It holds even
//! if the journal is damaged or lost.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::folder::Folder;

/// Bounds on the requests accepted so far. They are on disk before the next request is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    /// The boot of the machine in which it was written. A journal of another boot may lack its last
    /// records.
    pub(super) boot: String,
    /// The floor: no timestamp at or below it is accepted any more. Unix seconds, as below.
    pub(super) floor: u64,
    /// Accepted timestamps above the floor are at or below it, except those that `ahead` bounds.
    pub(super) bound: u64,
    /// Accepted timestamps beyond `bound` are at or below it. Their records are synchronised one by
    /// one.
    pub(super) ahead: u64,
    /// The first and the last segment that may hold a record above the floor. All of them exist.
    pub(super) first: u64,
    pub(super) last: u64,
    /// The gateway shut down cleanly, with all of the journal on disk.
    pub(super) clean: bool,
}

pub(super) const NAME: &str = "reservation";

/// More bytes than the longest reservation has; a larger file is something else.
const MAX_FILE: u64 = 1024;

const FORMAT: &str = "countersign reservation 1";

impl Reservation {
    /// Marks an unused directory by a reservation that names no segment. The mark proves later that
    /// nothing was accepted, even if other files appear or a crash interrupts the start.
    ///
    /// `now` is in Unix seconds. The caller must hold the lock.
    ///
    /// # Errors
    ///
    /// An error of the operating system; the caller may try again.
    pub(super) fn begin(folder: &Folder, boot: &str, now: u64) -> io::Result<()> {
        if Reservation::read(folder)?.is_some() || !folder.unused()? {
            return Ok(());
        }
        let nothing_yet = Reservation {
            boot: boot.to_owned(),
            floor: now,
            bound: 0,
            ahead: 0,
            first: 1,
            last: 0,
            clean: true,
        };
        folder.write_first(NAME, nothing_yet.to_string().as_bytes())
    }

    /// Whether nothing has been accepted. Every claim needs a segment, and a reservation that names
    /// the first segment is on disk before that segment takes a record.
    pub(super) fn is_of_nothing_yet(&self) -> bool {
        self.first > self.last
    }

    /// Reads the file; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// The outer error: the operating system cannot read the file. The inner error: it is damaged.
    pub(super) fn read(folder: &Folder) -> io::Result<Option<Result<Reservation, String>>> {
        let path = folder.file(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        let parsed = String::from_utf8(bytes).ok().and_then(|t| parse(&t));
        let text = || format!("{}: the file is corrupt", path.display());
        Ok(Some(parsed.ok_or_else(text)))
    }

    /// Replaces the earlier reservation on disk.
    ///
    /// # Errors
    ///
    /// An error of the operating system; the earlier reservation or this one is then in place.
    pub(super) fn write(&self, folder: &Folder) -> io::Result<()> {
        folder.write(NAME, self.to_string().as_bytes()).map(|_| ())
    }
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reservation {
            boot,
            floor,
            bound,
            ahead,
            first,
            last,
            clean,
        } = self;
        let text = format!(
            "{FORMAT}\nboot {boot}\nfloor {floor}\nbound {bound}\nahead {ahead}\n\
             first {first}\nlast {last}\nclean {clean}\n"
        );
        writeln!(f, "{text}check {}", check(&text))
    }
}

/// Parses the one text that a reservation prints as; `None` for any other text.
fn parse(text: &str) -> Option<Reservation> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return None;
    }
    let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let read = Reservation {
        boot: value("boot")?.to_owned(),
        floor: value("floor")?.parse().ok()?,
        bound: value("bound")?.parse().ok()?,
        ahead: value("ahead")?.parse().ok()?,
        first: value("first")?.parse().ok()?,
        last: value("last")?.parse().ok()?,
        clean: value("clean")?.parse().ok()?,
    };
    (read.to_string() == text).then_some(read)
}

fn check(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest[..8].iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::fs;

    fn example() -> Reservation {
        Reservation {
            boot: "0f5c6b3e-8a1d-4f0e-9a57-0e6a4f6d1c2b".into(),
            floor: 1_800_000_000,
            bound: 1_800_000_015,
            ahead: 0,
            first: 3,
            last: 5,
            clean: false,
        }
    }

    #[test]
    fn it_prints_as_a_person_reads_it_and_reads_back() {
        let text = example().to_string();
        assert!(text.contains("floor 1800000000\nbound 1800000015\n"));
        assert_eq!(parse(&text), Some(example()));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let text = example().to_string();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = String::from_utf8(bytes).ok().and_then(|t| parse(&t));
            assert_eq!(read, None, "bit {bit}");
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_is_damage() {
        let text = example().to_string();
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), None, "after {end} bytes");
        }
        assert_eq!(parse(&(text + "\n")), None);
    }

    #[test]
    fn it_is_read_where_it_was_written_and_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        assert_eq!(Reservation::read(&folder).unwrap(), None);
        example().write(&folder).unwrap();
        let next = Reservation {
            bound: 1_800_000_020,
            clean: true,
            ..example()
        };
        next.write(&folder).unwrap();
        assert_eq!(Reservation::read(&folder).unwrap(), Some(Ok(next)));
    }

    #[test]
    fn an_unused_directory_begins_with_a_reservation_of_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("state")).unwrap();
        Reservation::begin(&folder, "one", 1_800_000_000).unwrap();
        let first = Reservation::read(&folder).unwrap().unwrap().unwrap();
        assert!(first.is_of_nothing_yet());
        Reservation::begin(&folder, "another", 1_900_000_000).unwrap();
        assert_eq!(Reservation::read(&folder).unwrap(), Some(Ok(first)));
    }

    #[test]
    fn a_used_directory_that_lost_its_reservation_does_not_begin_anew() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("state")).unwrap();
        fs::write(folder.file("journal-00000000000000000001"), "").unwrap();
        Reservation::begin(&folder, "one", 1_800_000_000).unwrap();
        assert_eq!(Reservation::read(&folder).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_something_else_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        for content in [&b""[..], b"\xff\xfe", &[b'a'; 5000]] {
            fs::write(folder.file(NAME), content).unwrap();
            let text = Reservation::read(&folder).unwrap().unwrap().unwrap_err();
            assert!(text.contains("/reservation: "), "{text}");
        }
    }

    #[test]
    fn the_longest_one_fits() {
        let longest = Reservation {
            boot: "x".repeat(36),
            floor: u64::MAX,
            bound: u64::MAX,
            ahead: u64::MAX,
            first: u64::MAX,
            last: u64::MAX,
            clean: false,
        };
        assert!((longest.to_string().len() as u64) < MAX_FILE);
        assert_eq!(parse(&longest.to_string()), Some(longest));
    }
}
