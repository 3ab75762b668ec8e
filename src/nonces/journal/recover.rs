//! Recovery at a start: the claims that the journal still holds, and the floor. Below the floor
//! everything is refused, because records may be missing.

use std::io;

use rayon::prelude::*;

use super::folder::Folder;
use super::reservation::Reservation;
use super::segment::Segment;
use super::segment_name;
use countersign_core::replay::{Claim, Window};

/// The state to go on from. It is in force only once a reservation of it has been written.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Accepted claims are stamped at or below it, or are in `claims`.
    pub(super) floor: u64,
    pub(super) claims: Vec<Claim>,
    /// Where the claims are, in order; at most the last ones have room.
    pub(super) segments: Vec<Segment>,
    /// The number of the next segment to be made. None that held a record has it.
    pub(super) next: u64,
    /// Claims above the floor are stamped at or below `bound`, or beyond it and at or below
    /// `ahead`.
    pub(super) bound: u64,
    pub(super) ahead: u64,
    pub(super) why: Completeness,
}

/// How much of the past is known, in words for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// Nothing has been accepted yet.
    First,
    /// All of it.
    Complete,
    /// The machine stopped without notice.
    PowerLoss,
    /// The journal cannot be believed; the text says why.
    Damaged(String),
    /// Nothing bounds what was accepted; the text says why.
    Lost(String),
}

/// Reads the folder, which has been [begun](Reservation::begin), at `now` (Unix seconds), in the boot of the machine that is named `boot`.
///
/// Any doubt raises the floor: the worst that comes of it is a wait.
///
/// # Errors
///
/// The system does not let something be read that is there. Nothing has been changed.
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
                "there is no reservation in a directory that was used".into(),
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
        // What left the window need not be known again. Never past what was accepted, lest a clock
        // that is wrong just now locks everybody out.
        true => {
            let greatest = claims.iter().map(stamp).max().unwrap_or(0);
            let passed = now.saturating_sub(window.past).saturating_sub(1);
            floor.max(passed.min(greatest))
        }
        // Records beyond `bound` were synchronised before their requests passed; of the others
        // some may be missing.
        false => floor.max(bound),
    };
    let claims: Vec<Claim> = (claims.into_iter())
        .filter(|claim| stamp(claim) > floor)
        .collect();
    let within = claims.iter().map(stamp).filter(|t| *t <= bound).max();
    Ok(Recovered {
        floor,
        bound: within.unwrap_or(0),
        claims,
        segments,
        // A file of that number was being made and held nothing yet.
        next: last.saturating_add(1),
        ahead,
        why: match complete {
            true => Completeness::Complete,
            false => Completeness::PowerLoss,
        },
    })
}

/// Every segment that the reservation names, of so many that there are, and the claims in them; or
/// what is wrong with one.
#[allow(clippy::type_complexity, reason = "it is taken apart at the one call")]
fn read_all(
    folder: &Folder,
    files: usize,
    reservation: &Reservation,
) -> io::Result<Result<(Vec<Segment>, Vec<Claim>), String>> {
    // One more than there are files is enough to miss one.
    let named = reservation.first..=reservation.last;
    let numbers: Vec<u64> = named.take(files.saturating_add(1)).collect();
    // A start waits for this; with a full store it is seconds of work for one core.
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

fn stamp(claim: &Claim) -> u64 {
    claim.timestamp.unix_seconds()
}
