//! The segment writer: appends records, and tracks what each segment holds.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::folder::Folder;
use super::segment::Segment;
use super::segment_name;
use countersign_core::replay::Claim;

/// Writes each record into the current segment; the next one lies ready.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    /// Oldest first, without a gap in their numbers up to `current`.
    full: Vec<FullSegment>,
    current: Segment,
    spare: Option<Segment>,
    /// What the reservation on disk allows without further ado.
    reserved: u64,
    /// The greatest timestamp accepted under `reserved`.
    greatest: u64,
    closed: bool,
}

/// A segment that takes no more records.
#[derive(Clone, Copy, Debug)]
struct FullSegment {
    number: u64,
    greatest: u64,
}

/// A record that has been handed to the operating system.
#[derive(Debug)]
pub(super) enum WrittenRecord {
    /// The reservation covers it: it counts.
    Covered,
    /// It is stamped beyond the reservation: it counts once this file is synchronised and the
    /// stamp is in the reservation.
    Ahead(Arc<File>),
}

/// Why no record was written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The gateway is stopping.
    Closed,
    /// The next segment is not ready yet.
    NoRoom,
    /// The system refused.
    Failed,
}

impl SegmentWriter {
    pub(super) fn new(segments: Vec<Segment>, current: Segment, greatest: u64) -> SegmentWriter {
        SegmentWriter {
            full: segments.iter().map(FullSegment::of).collect(),
            current,
            spare: None,
            reserved: 0,
            greatest,
            closed: false,
        }
    }

    /// Writes the record of a claim that is fresh in memory.
    ///
    /// # Errors
    ///
    /// [`Unwritten`]; the claim must not succeed then.
    pub(super) fn write(&mut self, claim: &Claim) -> Result<WrittenRecord, Unwritten> {
        if self.closed {
            return Err(Unwritten::Closed);
        }
        if self.current.is_full() {
            let next = self.spare.take().ok_or(Unwritten::NoRoom)?;
            let done = std::mem::replace(&mut self.current, next);
            self.full.push(FullSegment::of(&done));
        }
        (self.current.append(claim)).map_err(|_| Unwritten::Failed)?;
        let stamp = claim.timestamp.unix_seconds();
        if stamp <= self.reserved {
            self.greatest = self.greatest.max(stamp);
            Ok(WrittenRecord::Covered)
        } else {
            Ok(WrittenRecord::Ahead(self.current.file()))
        }
    }

    /// Tries to write, without leaving a record.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(super) fn probe(&self) -> io::Result<()> {
        self.current.probe()
    }

    pub(super) fn needs_spare(&self) -> bool {
        self.spare.is_none()
    }

    /// Gives it the next segment. The reservation on disk names it already.
    pub(super) fn put_spare(&mut self, spare: Segment) {
        self.spare = Some(spare);
    }

    /// What is reserved now, and what should be: `fresh`, but never less than what was accepted.
    /// If that is less than now, nothing beyond it passes from here on.
    pub(super) fn propose(&mut self, fresh: u64) -> (u64, u64) {
        let wanted = fresh.max(self.greatest);
        self.reserved = self.reserved.min(wanted);
        (self.reserved, wanted)
    }

    /// The reservation on disk says `bound` now.
    pub(super) fn reserve(&mut self, bound: u64) {
        self.reserved = bound;
    }

    /// The first segment with a record above `floor`, or with room.
    pub(super) fn first_above(&self, floor: u64) -> u64 {
        let mut full = self.full.iter();
        full.find(|full| full.greatest > floor)
            .map_or(self.current.number(), |full| full.number)
    }

    /// Forgets the segments before `first`, and gives their numbers.
    pub(super) fn drop_before(&mut self, first: u64) -> Vec<u64> {
        let dropped = |full: &mut FullSegment| full.number < first;
        (self.full.extract_if(.., dropped))
            .map(|full| full.number)
            .collect()
    }

    /// Lets no more records in, and gives the segments that hold some.
    pub(super) fn close(&mut self) -> Vec<u64> {
        self.closed = true;
        let full = self.full.iter().map(|full| full.number);
        full.chain([self.current.number()]).collect()
    }
}

impl FullSegment {
    fn of(segment: &Segment) -> FullSegment {
        FullSegment {
            number: segment.number(),
            greatest: segment.greatest(),
        }
    }
}

/// Has a segment's records on disk.
///
/// # Errors
///
/// Whatever the system refuses.
pub(super) fn synchronise(folder: &Folder, number: u64) -> io::Result<()> {
    File::open(folder.file(&segment_name::of(number)))?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::segment::CAPACITY;
    use super::super::testing::claim;
    use super::*;

    const T: u64 = 1_800_000_000;

    fn writer() -> (tempfile::TempDir, Folder, SegmentWriter) {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let writer = SegmentWriter::new(Vec::new(), Segment::create(&folder, 1).unwrap(), 0);
        (parent, folder, writer)
    }

    /// Writes so many records, of nonces from `first` on, all stamped `t`.
    fn fill(writer: &mut SegmentWriter, first: u32, count: u32, t: u64) {
        for n in first..first + count {
            writer.write(&claim(n, t)).unwrap();
        }
    }

    #[test]
    fn what_the_reservation_covers_counts_and_the_rest_waits() {
        let (_parent, _folder, mut writer) = writer();
        writer.reserve(T);
        assert!(matches!(
            writer.write(&claim(1, T)),
            Ok(WrittenRecord::Covered)
        ));
        assert!(matches!(
            writer.write(&claim(2, T + 1)),
            Ok(WrittenRecord::Ahead(_))
        ));
    }

    #[test]
    fn without_a_spare_a_full_segment_is_the_end() {
        let (_parent, folder, mut writer) = writer();
        fill(&mut writer, 0, CAPACITY, T);
        let refused = writer.write(&claim(1, T));
        assert!(matches!(refused, Err(Unwritten::NoRoom)));
        writer.put_spare(Segment::create(&folder, 2).unwrap());
        writer.write(&claim(1, T)).unwrap();
        assert!(writer.needs_spare());
    }

    #[test]
    fn segments_are_dropped_in_order_and_only_below_the_floor() {
        let (_parent, folder, mut writer) = writer();
        for (number, t) in [(2, T + 5), (3, T + 1), (4, T)] {
            fill(&mut writer, 0, CAPACITY - 1, t - 1);
            fill(&mut writer, 0, 1, t);
            writer.put_spare(Segment::create(&folder, number).unwrap());
        }
        writer.write(&claim(0, T)).unwrap();
        assert_eq!(writer.first_above(T), 1);
        assert_eq!(writer.first_above(T + 4), 1);
        assert_eq!(writer.first_above(T + 5), 4);
        assert_eq!(writer.drop_before(1), [0u64; 0]);
        assert_eq!(writer.drop_before(3), [1, 2]);
        assert_eq!(writer.first_above(0), 3);
    }

    #[test]
    fn the_reservation_falls_at_once_and_rises_only_when_it_is_on_disk() {
        let (_parent, _folder, mut writer) = writer();
        writer.reserve(T + 100);
        assert_eq!(writer.propose(T + 15), (T + 15, T + 15));
        assert!(matches!(
            writer.write(&claim(1, T + 16)),
            Ok(WrittenRecord::Ahead(_))
        ));
        assert_eq!(writer.propose(T + 30), (T + 15, T + 30));
        assert!(matches!(
            writer.write(&claim(2, T + 16)),
            Ok(WrittenRecord::Ahead(_))
        ));
        writer.reserve(T + 30);
        assert!(matches!(
            writer.write(&claim(3, T + 16)),
            Ok(WrittenRecord::Covered)
        ));
    }

    #[test]
    fn it_does_not_fall_below_what_was_accepted() {
        let (_parent, _folder, mut writer) = writer();
        writer.reserve(T + 100);
        fill(&mut writer, 0, 1, T + 90);
        assert_eq!(writer.propose(T), (T + 90, T + 90));
    }

    #[test]
    fn a_closed_one_writes_nothing() {
        let (_parent, _folder, mut writer) = writer();
        assert_eq!(writer.close(), [1]);
        let refused = writer.write(&claim(1, T));
        assert!(matches!(refused, Err(Unwritten::Closed)));
    }

    #[test]
    fn what_the_system_refuses_is_not_written_and_the_next_goes_in_its_place() {
        let (_parent, folder, mut writer) = writer();
        writer.write(&claim(1, T)).unwrap();
        let writable = writer.current.refuse_writes(&folder);
        assert!(matches!(writer.write(&claim(2, T)), Err(Unwritten::Failed)));
        writer.probe().unwrap_err();
        writer.current.take_writes(writable);
        writer.probe().unwrap();
        writer.write(&claim(3, T)).unwrap();
        let (_, claims) = Segment::open(&folder, 1).unwrap().unwrap();
        assert_eq!(claims, [claim(1, T), claim(3, T)]);
    }
}
