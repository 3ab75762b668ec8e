//! The segment writer: appends records, and tracks the greatest timestamp of each segment.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::folder::Folder;
use super::segment::Segment;
use super::segment_name;
use countersign_core::replay::Claim;

/// Writes each record into the current segment, with a spare one ready for when it is full.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    /// Oldest first, without a gap in their numbers up to `current`.
    full: Vec<FullSegment>,
    current: Segment,
    spare: Option<Segment>,
    /// The bound of the reservation on disk: a record up to it needs no synchronisation.
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

/// A record that the operating system has accepted.
#[derive(Debug)]
pub(super) enum WrittenRecord {
    /// Its timestamp is within the reservation: the claim may succeed.
    Covered,
    /// Its timestamp is beyond the reservation. The claim may succeed once this file is
    /// synchronised and the reservation names the timestamp.
    Ahead(Arc<File>),
}

/// The reason why no record was written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The gateway is stopping.
    Closed,
    /// The next segment is not ready yet.
    NoRoom,
    /// The operating system cannot write.
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
    /// [`Unwritten`]; the caller must then refuse the claim.
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
        let stamp = claim.unix_seconds();
        if stamp <= self.reserved {
            self.greatest = self.greatest.max(stamp);
            Ok(WrittenRecord::Covered)
        } else {
            Ok(WrittenRecord::Ahead(self.current.file()))
        }
    }

    /// Checks that the disk takes records; it leaves none.
    ///
    /// # Errors
    ///
    /// The operating system cannot write.
    pub(super) fn probe(&self) -> io::Result<()> {
        self.current.probe()
    }

    pub(super) fn needs_spare(&self) -> bool {
        self.spare.is_none()
    }

    /// Provides the next segment. The reservation on disk must name it already.
    pub(super) fn put_spare(&mut self, spare: Segment) {
        self.spare = Some(spare);
    }

    /// The bound that is reserved, and the bound to reserve: `fresh`, but at least the greatest
    /// accepted timestamp. A lower bound takes effect at once, before it is on disk.
    pub(super) fn propose(&mut self, fresh: u64) -> (u64, u64) {
        let wanted = fresh.max(self.greatest);
        self.reserved = self.reserved.min(wanted);
        (self.reserved, wanted)
    }

    /// Sets the bound that the reservation on disk has.
    pub(super) fn reserve(&mut self, bound: u64) {
        self.reserved = bound;
    }

    /// The number of the first segment that has a record above `floor`, or room.
    pub(super) fn first_above(&self, floor: u64) -> u64 {
        let mut full = self.full.iter();
        full.find(|full| full.greatest > floor)
            .map_or(self.current.number(), |full| full.number)
    }

    /// Drops the segments before `first`, and returns their numbers.
    pub(super) fn drop_before(&mut self, first: u64) -> Vec<u64> {
        let dropped = |full: &mut FullSegment| full.number < first;
        (self.full.extract_if(.., dropped))
            .map(|full| full.number)
            .collect()
    }

    /// Refuses all further records, and returns the numbers of the segments with records.
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

/// Synchronises a segment's file to disk.
///
/// # Errors
///
/// An error of the operating system.
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

    /// Writes `count` records with nonces from `first` on and the timestamp `t`.
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
