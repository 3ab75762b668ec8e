//! Recovery at a start: reads the claims from the journal, and sets the floor. Timestamps at or
//! below the floor are refused, because their records may be missing.

use std::io;

use rayon::prelude::*;

use super::folder::Folder;
use super::reservation::Reservation;
use super::segment::Segment;
use super::segment_name;
use countersign_core::replay::{Claim, Window};

/// The recovered state. It takes effect once a reservation of it is on disk.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Every accepted timestamp is at or below it, or its claim is in `claims`.
    pub(super) floor: u64,
    pub(super) claims: Vec<Claim>,
    /// The segments of the claims, in order. Only the last ones may have free slots.
    pub(super) segments: Vec<Segment>,
    /// The number of the next segment to create. No segment with a record ever had it.
    pub(super) next: u64,
    /// Timestamps of claims above the floor are at or below `bound`, or between `bound` and
    /// `ahead`.
    pub(super) bound: u64,
    pub(super) ahead: u64,
    pub(super) why: Completeness,
}

/// How complete the journal is, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// No request has been accepted yet.
    First,
    /// Every record is there.
    Complete,
    /// The machine stopped without notice: the last records may be missing.
    PowerLoss,
    /// A file of the journal is damaged; the text says which one and how.
    Damaged(String),
    /// The reservation is lost, and nothing bounds the accepted timestamps; the text says why.
    Lost(String),
}

/// Reads the folder at `now` (Unix seconds), in the boot of the machine that is named `boot`. The
/// caller has [marked](Reservation::begin) an unused folder before.
///
/// It fails closed: any doubt raises the floor, and honest machines wait until time has passed it.
///
/// # Errors
///
/// The operating system cannot read a file that exists. Nothing has been changed.
pub(super) fn recover(
    folder: &Folder,
    boot: &str,
    now: u64,
    window: Window,
) -> io::Result<Recovered> {
    let numbers: Vec<u64> = (folder.names()?.iter())
        .filter_map(|name| segment_name::number(name))
        .collect();
    let newest = numbers.iter().copied().max().unwrap_or(0);
    let afresh = |floor: u64, last: u64, why: Completeness| Recovered {
        floor,
        claims: Vec::new(),
        segments: Vec::new(),
        next: newest.max(last).saturating_add(1),
        bound: 0,
        ahead: 0,
        why,
    };
    let lost = |why: String| {
        afresh(
            now.saturating_add(window.future),
            0,
            Completeness::Lost(why),
        )
    };

    let reservation = match Reservation::read(folder)? {
        Some(Ok(first)) if first.is_of_nothing_yet() => {
            return Ok(afresh(now, 0, Completeness::First));
        }
        Some(Ok(reservation)) => reservation,
        Some(Err(damage)) => return Ok(lost(damage)),
        None => {
            return Ok(lost(
                "the file `reservation` is missing from a directory that was in use".into(),
            ));
        }
    };
    let Reservation {
        floor,
        bound,
        ahead,
        last,
        ..
    } = reservation;
    let (segments, claims) = match read_all(folder, numbers.len(), &reservation)? {
        Ok(read) => read,
        Err(damage) => {
            let floor = floor.max(bound).max(ahead);
            return Ok(afresh(floor, last, Completeness::Damaged(damage)));
        }
    };
    let complete = reservation.clean || reservation.boot == boot;
    let floor = match complete {
        // Claims that have left the window need no entry. The floor never passes the greatest
        // accepted timestamp, so that a clock that is wrong now cannot lock out honest machines.
        true => {
            let greatest = claims.iter().map(Claim::unix_seconds).max().unwrap_or(0);
            let passed = now.saturating_sub(window.past).saturating_sub(1);
            floor.max(passed.min(greatest))
        }
        // Records beyond `bound` were synchronised before their requests passed. Records up to
        // `bound` may be missing.
        false => floor.max(bound),
    };
    let claims: Vec<Claim> = (claims.into_iter())
        .filter(|claim| claim.unix_seconds() > floor)
        .collect();
    let within = claims
        .iter()
        .map(Claim::unix_seconds)
        .filter(|t| *t <= bound)
        .max();
    Ok(Recovered {
        floor,
        bound: within.unwrap_or(0),
        claims,
        segments,
        // The file of that number was unfinished and held no record.
        next: last.saturating_add(1),
        ahead,
        why: match complete {
            true => Completeness::Complete,
            false => Completeness::PowerLoss,
        },
    })
}

/// Reads every segment that the reservation names, in a folder of `files` segments. The inner error
/// describes the damage to one of them.
#[allow(clippy::type_complexity, reason = "its only caller destructures it")]
fn read_all(
    folder: &Folder,
    files: usize,
    reservation: &Reservation,
) -> io::Result<Result<(Vec<Segment>, Vec<Claim>), String>> {
    // A damaged reservation could name any number; one more than the files is enough to miss one.
    let named = reservation.first..=reservation.last;
    let numbers: Vec<u64> = named.take(files.saturating_add(1)).collect();
    // A start waits for this, and a full store takes one core seconds.
    let opened: Vec<_> = (numbers.par_iter())
        .map(|number| Segment::open(folder, *number))
        .collect();
    let (mut segments, mut claims) = (Vec::<Segment>::new(), Vec::new());
    for (number, opened) in numbers.into_iter().zip(opened) {
        let (segment, found) = match opened? {
            Ok(read) => read,
            Err(damage) => return Ok(Err(damage.to_string())),
        };
        if !segment.is_empty() && segments.last().is_some_and(|before| !before.is_full()) {
            let path = folder.file(&segment_name::of(number - 1));
            let text = format!("{}: records are missing at its end", path.display());
            return Ok(Err(text));
        }
        claims.extend(found);
        segments.push(segment);
    }
    Ok(Ok((segments, claims)))
}
