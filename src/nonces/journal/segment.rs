//! A segment: a file of records. It has its whole length from the start, filled with zeros on disk.
//! Writing a record therefore never runs out of disk space, and a truncated file shows.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::folder::Folder;
use super::record::{self, Position, Slot};
use super::segment_name;
use countersign_core::replay::Claim;

/// A segment that takes records.
#[derive(Debug)]
pub(super) struct Segment {
    number: u64,
    file: Arc<File>,
    next: u32,
    greatest: u64,
}

/// The damage that makes a segment unusable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {what}")]
pub(super) struct Damage {
    name: String,
    what: String,
}

/// Records of a segment: 640 KiB, written and synchronised in about ten milliseconds. Ten thousand
/// requests a second fill a segment in 1.6 s.
pub(super) const CAPACITY: u32 = 16_384;

/// Bytes before the first record: format name and version 16, number 8, checksum 8, zeros.
const HEADER: usize = 64;

const FORMAT: &[u8; 16] = b"countersign jn 1";

const FILE: usize = HEADER + CAPACITY as usize * record::LEN;

impl Segment {
    /// Creates an empty segment, synchronised to disk.
    ///
    /// # Errors
    ///
    /// An error of the operating system.
    pub(super) fn create(folder: &Folder, number: u64) -> io::Result<Segment> {
        let mut content = vec![0; FILE];
        content[..HEADER].copy_from_slice(&header(number));
        Ok(Segment {
            number,
            file: Arc::new(folder.write(&segment_name::of(number), &content)?),
            next: 0,
            greatest: 0,
        })
    }

    /// Opens a segment after its last record, and reads its claims.
    ///
    /// # Errors
    ///
    /// The outer error: the operating system cannot read the file. The inner error: the file is
    /// damaged or missing.
    pub(super) fn open(
        folder: &Folder,
        number: u64,
    ) -> io::Result<Result<(Segment, Vec<Claim>), Damage>> {
        let damage = |what: String| {
            let name = folder.file(&segment_name::of(number)).display().to_string();
            Ok(Err(Damage { name, what }))
        };
        let file = File::options()
            .read(true)
            .write(true)
            .open(folder.file(&segment_name::of(number)));
        let mut file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return damage("the file is missing".into());
            }
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        if length != FILE as u64 {
            return damage(format!("it has {length} bytes instead of {FILE}"));
        }
        let mut content = vec![0; FILE];
        file.read_exact(&mut content)?;
        let (head, records) = content.split_at(HEADER);
        if head != header(number) {
            return damage("the header is corrupt".into());
        }
        match claims(records, number) {
            Ok(claims) => {
                let segment = Segment {
                    number,
                    file: Arc::new(file),
                    next: u32::try_from(claims.len()).unwrap_or(CAPACITY),
                    greatest: claims.iter().map(Claim::unix_seconds).max().unwrap_or(0),
                };
                Ok(Ok((segment, claims)))
            }
            Err(index) => damage(format!("record {index} is corrupt")),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The greatest timestamp in the segment; zero while it is empty.
    pub(super) fn greatest(&self) -> u64 {
        self.greatest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.next >= CAPACITY
    }

    /// The file, so that the caller can synchronise it without a lock on the segment.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Writes a record into the next slot. Until the file is synchronised, the record survives a
    /// crash of the process, but not of the machine.
    ///
    /// # Errors
    ///
    /// The segment is full, or the operating system cannot write. The next record overwrites a
    /// partial one.
    pub(super) fn append(&mut self, claim: &Claim) -> io::Result<()> {
        if self.is_full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let position = Position {
            segment: self.number,
            index: self.next,
        };
        (self.file).write_all_at(&record::encode(claim, position), offset(self.next))?;
        self.next += 1;
        self.greatest = self.greatest.max(claim.unix_seconds());
        Ok(())
    }

    /// Writes zeros to the next slot, to check that the disk takes records again.
    ///
    /// # Errors
    ///
    /// The operating system cannot write.
    pub(super) fn probe(&self) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        (self.file).write_all_at(&[0; record::LEN], offset(self.next))
    }
}

fn offset(index: u32) -> u64 {
    HEADER as u64 + u64::from(index) * record::LEN as u64
}

/// The claims up to the first empty or torn slot, or the index of a corrupt slot. Records are
/// written in order, so a record after an empty or a torn slot is corrupt too.
fn claims(records: &[u8], segment: u64) -> Result<Vec<Claim>, u32> {
    let mut claims = Vec::new();
    let mut ended = false;
    let (slots, _) = records.as_chunks::<{ record::LEN }>();
    for (index, slot) in (0..).zip(slots) {
        match record::decode(slot, Position { segment, index }) {
            Slot::Spent(claim) if !ended => claims.push(claim),
            Slot::Torn if !ended => ended = true,
            Slot::Empty => ended = true,
            Slot::Spent(_) | Slot::Torn | Slot::Damaged => return Err(index),
        }
    }
    Ok(claims)
}

fn header(number: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..16].copy_from_slice(FORMAT);
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    let digest = Sha256::digest(&bytes[..24]);
    bytes[24..32].copy_from_slice(&digest[..8]);
    bytes
}

#[cfg(test)]
impl Segment {
    /// Makes writes fail. Returns the file for [`Segment::take_writes`], which undoes it.
    pub(super) fn refuse_writes(&mut self, folder: &Folder) -> Arc<File> {
        let writable = self.file();
        if let Ok(read_only) = File::open(folder.file(&segment_name::of(self.number))) {
            self.file = Arc::new(read_only);
        }
        writable
    }

    pub(super) fn take_writes(&mut self, file: Arc<File>) {
        self.file = file;
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests {
    use super::super::testing::claim;
    use super::*;
    use std::fs;

    const T: u64 = 1_800_000_000;

    /// A folder with segment 5, which holds `count` claims.
    fn written(count: u32) -> (tempfile::TempDir, Folder, Segment) {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let mut segment = Segment::create(&folder, 5).unwrap();
        for n in 0..count {
            segment.append(&claim(n, T + u64::from(n))).unwrap();
        }
        (parent, folder, segment)
    }

    fn open(folder: &Folder) -> Result<Vec<Claim>, String> {
        let opened = Segment::open(folder, 5).unwrap();
        opened
            .map(|(_, claims)| claims)
            .map_err(|damage| damage.to_string())
    }

    fn change(folder: &Folder, change: impl FnOnce(&mut Vec<u8>)) {
        let path = folder.file(&segment_name::of(5));
        let mut content = fs::read(&path).unwrap();
        change(&mut content);
        fs::write(path, content).unwrap();
    }

    #[test]
    fn it_has_its_whole_length_from_the_start() {
        let (_parent, folder, _) = written(0);
        let length = fs::metadata(folder.file(&segment_name::of(5)))
            .unwrap()
            .len();
        assert_eq!(length, FILE as u64);
        assert_eq!(open(&folder), Ok(vec![]));
    }

    #[test]
    fn what_was_written_is_read_and_goes_on_where_it_was_left() {
        let (_parent, folder, _) = written(3);
        let (mut segment, claims) = Segment::open(&folder, 5).unwrap().unwrap();
        assert_eq!(claims, [claim(0, T), claim(1, T + 1), claim(2, T + 2)]);
        assert_eq!(segment.greatest(), T + 2);
        segment.append(&claim(3, T)).unwrap();
        assert_eq!(open(&folder).unwrap().len(), 4);
    }

    #[test]
    fn a_full_one_takes_no_more() {
        let (_parent, folder, mut segment) = written(CAPACITY);
        assert!(segment.is_full());
        assert!(segment.append(&claim(0, T)).is_err());
        assert_eq!(open(&folder).unwrap().len(), CAPACITY as usize);
        assert!(Segment::open(&folder, 5).unwrap().unwrap().0.is_full());
    }

    #[test]
    fn a_torn_tail_at_every_byte_loses_that_record_alone_and_is_written_over() {
        for end in 1..record::LEN {
            let (_parent, folder, _) = written(3);
            change(&folder, |content| {
                let last = offset(2) as usize;
                content[last + end..last + record::LEN].fill(0);
            });
            let (mut segment, claims) = Segment::open(&folder, 5).unwrap().unwrap();
            assert_eq!(claims.len(), 2, "cut after {end} bytes");
            segment.append(&claim(9, T)).unwrap();
            assert_eq!(open(&folder).unwrap()[2], claim(9, T));
        }
    }

    #[test]
    fn a_file_cut_at_any_length_is_damage() {
        for length in [
            0,
            1,
            HEADER,
            HEADER + 1,
            offset(2) as usize,
            FILE - 1,
            FILE + 1,
        ] {
            let (_parent, folder, _) = written(3);
            change(&folder, |content| content.resize(length, 0));
            let text = open(&folder).unwrap_err();
            assert!(text.contains(&format!("it has {length} bytes")), "{text}");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_header_is_damage() {
        for bit in 0..HEADER * 8 {
            let (_parent, folder, _) = written(1);
            change(&folder, |content| content[bit / 8] ^= 1 << (bit % 8));
            assert!(open(&folder).unwrap_err().contains("header"), "bit {bit}");
        }
    }

    #[test]
    fn a_flipped_bit_in_any_record_is_damage() {
        let (_parent, folder, _) = written(3);
        let whole = fs::read(folder.file(&segment_name::of(5))).unwrap();
        for byte in HEADER..HEADER + 3 * record::LEN {
            let mut content = whole.clone();
            content[byte] ^= 0x10;
            fs::write(folder.file(&segment_name::of(5)), &content).unwrap();
            let index = (byte - HEADER) / record::LEN;
            let text = open(&folder).unwrap_err();
            assert!(text.contains(&format!("record {index} ")), "{text}");
        }
    }

    #[test]
    fn a_flipped_bit_in_what_was_never_written_is_damage_or_a_torn_record() {
        let (_parent, folder, _) = written(1);
        change(&folder, |content| content[offset(1) as usize] ^= 1);
        assert_eq!(open(&folder).unwrap().len(), 1);
        change(&folder, |content| content[offset(3) as usize] ^= 1);
        assert!(open(&folder).is_err());
    }

    #[test]
    fn a_hole_is_damage() {
        let (_parent, folder, _) = written(3);
        change(&folder, |content| {
            content[offset(1) as usize..offset(2) as usize].fill(0);
        });
        assert!(open(&folder).unwrap_err().contains("record 2"));
    }

    #[test]
    fn a_torn_record_in_the_middle_is_damage() {
        let (_parent, folder, _) = written(3);
        change(&folder, |content| content[offset(2) as usize - 1] = 0);
        assert!(open(&folder).is_err());
    }

    #[test]
    fn a_segment_under_another_name_is_damage() {
        let (_parent, folder, _) = written(1);
        fs::rename(
            folder.file(&segment_name::of(5)),
            folder.file(&segment_name::of(6)),
        )
        .unwrap();
        assert!(open(&folder).unwrap_err().contains("missing"));
        assert!(Segment::open(&folder, 6).unwrap().is_err());
    }

    #[test]
    fn damage_names_the_file() {
        let (_parent, folder, _) = written(1);
        change(&folder, |content| content.truncate(3));
        assert!(
            open(&folder)
                .unwrap_err()
                .contains("journal-00000000000000000005")
        );
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let (_parent, folder, segment) = written(2);
        segment.probe().unwrap();
        assert_eq!(open(&folder).unwrap().len(), 2);
    }
}
