//! The journal worker: the thread that waits for the disk, so that requests do not. It takes the
//! lock, reads the journal, raises the reservation ahead of need, and makes and deletes segments.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::folder::Folder;
use super::recover::{Completeness, Recovered, recover};
use super::reservation::Reservation;
use super::segment::Segment;
use super::segment_name;
use super::segment_writer::{self, SegmentWriter};
use super::{JournalState, OpenJournal, WorkerCommand, lock};
use crate::nonces::memory::MemoryNonces;
use crate::nonces::quota::NonceQuotas;
use countersign_core::replay::Window;

pub(super) struct JournalWorker {
    folder: Folder,
    boot: String,
    window: Window,
    quotas: NonceQuotas,
    shared: Arc<JournalState>,
    /// What is on disk.
    reservation: Option<Reservation>,
}

/// How often the worker goes round: a small part of the time in which a segment fills.
const ROUND: Duration = Duration::from_millis(250);

/// Seconds beyond the clock that are reserved: the quarantine after power loss, and how far a
/// machine's clock may be ahead before each of its requests waits for the disk.
const HORIZON: u64 = 15;

/// Seconds of it that may pass before it is reserved anew, which synchronises a file.
const STALE: u64 = 5;

/// What ends the thread.
struct Ended;

impl JournalWorker {
    pub(super) fn new(
        folder: Folder,
        boot: &str,
        window: Window,
        quotas: NonceQuotas,
        shared: Arc<JournalState>,
    ) -> JournalWorker {
        JournalWorker {
            folder,
            boot: boot.to_owned(),
            window,
            quotas,
            shared,
            reservation: None,
        }
    }

    /// Works until it is told to close, or nobody is left to tell.
    pub(super) fn run(mut self, commands: &Receiver<WorkerCommand>) {
        if self.take_over(commands).is_err() {
            return;
        }
        while let Ok(waiting) = next(commands) {
            let kept = self.keep(waiting);
            self.report(kept);
        }
        if let Err(error) = self.close() {
            let path = self.folder.path().display();
            warn!("{path}: {error}; the next start will treat this one as a crash");
        }
    }

    /// Waits for the lock and reads the folder, again and again until it succeeds.
    fn take_over(&mut self, commands: &Receiver<WorkerCommand>) -> Result<(), Ended> {
        loop {
            let path = self.folder.path().display();
            match self.folder.try_lock() {
                Ok(true) => break,
                Ok(false) => {
                    self.trouble(format!(
                        "{path}: another process holds it, and one gateway at a time can know \
                         which nonces are spent; waiting for that one to end"
                    ));
                }
                Err(error) => self.trouble(format!("{path}: cannot be locked: {error}")),
            }
            next(commands)?;
        }
        loop {
            let opened = self.open();
            let done = opened.is_ok();
            self.report(opened);
            if done {
                return Ok(());
            }
            next(commands)?;
        }
    }

    /// Reads the folder, and opens the journal for claims.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let now = self.now();
        self.folder.check()?;
        Reservation::begin(&self.folder, &self.boot, now)?;
        self.folder.remove_unfinished()?;
        let recovered = recover(&self.folder, &self.boot, now, self.window)?;
        self.tell(&recovered, now);
        let Recovered {
            floor,
            claims,
            mut segments,
            mut next,
            bound,
            ahead,
            ..
        } = recovered;

        let first = segments.first().map_or(next, Segment::number);
        let full = segments.iter().take_while(|s| s.is_full()).count();
        let mut with_room = segments.drain(full..);
        let mut following = || match with_room.next() {
            Some(segment) => Ok(segment),
            None => {
                next += 1;
                Segment::create(&self.folder, next - 1)
            }
        };
        let (current, spare) = (following()?, following()?);
        drop(with_room);

        let reservation = Reservation {
            boot: self.boot.clone(),
            floor,
            bound: bound.max(now.saturating_add(HORIZON)),
            ahead,
            first,
            last: spare.number(),
            clean: false,
        };
        reservation.write(&self.folder)?;
        self.remove_strays(&reservation)?;

        let memory =
            MemoryNonces::above(floor, self.window, self.quotas, self.shared.clock.clone())?;
        memory.restore(claims);
        let mut writer = SegmentWriter::new(segments, current, bound);
        writer.put_spare(spare);
        writer.reserve(reservation.bound);
        self.reservation = Some(reservation);
        self.beat();
        let opened = OpenJournal {
            memory,
            writer: writer.into(),
            failing: false.into(),
        };
        // There is one worker, and it opens once.
        let _ = self.shared.opened.set(opened);
        Ok(())
    }

    /// One round: whatever has to be on disk is, then the requests that wait for it go on.
    pub(super) fn keep(&mut self, waiting: Vec<WorkerCommand>) -> io::Result<()> {
        let (Some(opened), Some(old)) = (self.shared.opened.get(), &self.reservation) else {
            return Ok(());
        };
        self.folder.check()?;
        let mut new = old.clone();
        new.ahead = new.ahead.max(synchronise(&waiting)?);
        let spare = match lock(&opened.writer).needs_spare() {
            true => {
                new.last += 1;
                Some(Segment::create(&self.folder, new.last)?)
            }
            false => None,
        };
        let floor = opened.memory.level();
        let (reserved, wanted) = {
            let mut writer = lock(&opened.writer);
            if opened.failing.load(Ordering::Relaxed) {
                writer.probe()?;
                opened.failing.store(false, Ordering::Relaxed);
            }
            new.first = writer.first_above(floor);
            writer.propose(self.now().saturating_add(HORIZON))
        };
        new.bound = match wanted > reserved.saturating_add(STALE) {
            true => wanted,
            false => reserved,
        };
        if new != *old {
            // With the first segment the floor goes: what was in the segments before lies under it.
            new.floor = floor;
            if new.ahead <= floor {
                new.ahead = 0;
            }
            new.write(&self.folder)?;
        }
        let dropped = {
            let mut writer = lock(&opened.writer);
            writer.reserve(new.bound);
            if let Some(spare) = spare {
                writer.put_spare(spare);
            }
            writer.drop_before(new.first)
        };
        self.reservation = Some(new);
        self.beat();
        for command in waiting {
            if let WorkerCommand::Synchronise { done, .. } = command {
                // Whoever has stopped waiting has refused the request.
                let _ = done.send(());
            }
        }
        for number in dropped {
            self.folder.remove(&segment_name::of(number))?;
        }
        Ok(())
    }

    /// Ends in order: with all of the journal on disk, and a word that it is.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let (Some(opened), Some(reservation)) = (self.shared.opened.get(), &self.reservation)
        else {
            return Ok(());
        };
        let written = lock(&opened.writer).close();
        self.folder.check()?;
        for number in written {
            segment_writer::synchronise(&self.folder, number)?;
        }
        let clean = Reservation {
            clean: true,
            ..reservation.clone()
        };
        clean.write(&self.folder)
    }

    /// Deletes the segments that the reservation does not name.
    fn remove_strays(&self, reservation: &Reservation) -> io::Result<()> {
        let named = reservation.first..=reservation.last;
        for name in self.folder.names()? {
            if segment_name::number(&name).is_some_and(|number| !named.contains(&number)) {
                self.folder.remove(&name)?;
            }
        }
        Ok(())
    }

    fn tell(&self, recovered: &Recovered, now: u64) {
        let path = self.folder.path().display();
        let (floor, wait) = (recovered.floor, recovered.floor.saturating_sub(now));
        let nonces = recovered.claims.len();
        let until = format!(
            "so that nothing passes twice, requests stamped at or before Unix time {floor} are \
             refused, which ends by itself in {wait} s"
        );
        match &recovered.why {
            Completeness::First => info!("{path}: a new journal of nonces"),
            Completeness::Complete => info!("{path}: {nonces} nonces are known from before"),
            Completeness::PowerLoss => warn!(
                "{path}: the machine stopped without notice, and the last records of the journal \
                 may be missing; {until}"
            ),
            Completeness::Damaged(what) => {
                error!("the journal of nonces is damaged: {what}; {until}")
            }
            Completeness::Lost(what) => {
                error!("{path}: what was accepted is not known: {what}; {until}")
            }
        }
    }

    /// Says what has changed about the worker's work.
    fn report(&self, result: io::Result<()>) {
        match result {
            Err(error) => {
                let path = self.folder.path().display();
                self.trouble(format!("{path}: the journal of nonces: {error}"));
            }
            Ok(()) => {
                if lock(&self.shared.trouble).take().is_some() {
                    info!(
                        "{}: the journal of nonces is open",
                        self.folder.path().display()
                    );
                }
            }
        }
    }

    /// Not ready, for this reason; said once.
    fn trouble(&self, text: String) {
        let mut trouble = lock(&self.shared.trouble);
        if trouble.as_ref() != Some(&text) {
            warn!("{text}");
            *trouble = Some(text);
        }
    }

    fn beat(&self) {
        self.shared
            .beat
            .store(self.shared.mono(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.shared.clock.now().unix_seconds()
    }
}

/// Has the records that are waited for on disk, and gives the greatest of their timestamps.
fn synchronise(waiting: &[WorkerCommand]) -> io::Result<u64> {
    let mut greatest = 0;
    let mut last: Option<&Arc<File>> = None;
    for command in waiting {
        let WorkerCommand::Synchronise { file, stamp, .. } = command else {
            continue;
        };
        // Nearly always they are all in one file.
        if !last.is_some_and(|last| Arc::ptr_eq(last, file)) {
            file.sync_data()?;
            last = Some(file);
        }
        greatest = greatest.max(*stamp);
    }
    Ok(greatest)
}

/// Everybody who waits, after a round's time at most.
fn next(commands: &Receiver<WorkerCommand>) -> Result<Vec<WorkerCommand>, Ended> {
    let mut waiting = match commands.recv_timeout(ROUND) {
        Ok(WorkerCommand::Close) | Err(RecvTimeoutError::Disconnected) => return Err(Ended),
        Ok(command) => vec![command],
        Err(RecvTimeoutError::Timeout) => return Ok(Vec::new()),
    };
    for command in commands.try_iter() {
        match command {
            WorkerCommand::Close => return Err(Ended),
            command => waiting.push(command),
        }
    }
    Ok(waiting)
}
