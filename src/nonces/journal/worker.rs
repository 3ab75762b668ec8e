//! The journal worker: the thread that waits for the disk, so that requests do not. It takes the
//! lock, reads the journal, raises the reservation ahead of need, and creates and deletes segments.

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
    /// The reservation on disk.
    reservation: Option<Reservation>,
}

/// The interval between rounds of the worker: a small part of the time in which a segment fills.
const ROUND: Duration = Duration::from_millis(250);

/// Seconds beyond the clock that the worker reserves. They are the length of the quarantine after
/// power loss. A request of a machine whose clock is further ahead waits for the disk.
const HORIZON: u64 = 15;

/// Seconds of the horizon that may pass before the worker reserves anew, which synchronises a file.
const STALE: u64 = 5;

/// The command to end the thread, or the end of all senders.
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

    /// Works until a close command comes, or all senders of commands are dropped.
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
            warn!("cannot close {path}: {error}; the next start treats this as a crash");
        }
    }

    /// Waits for the lock and reads the folder. It tries again until it succeeds.
    fn take_over(&mut self, commands: &Receiver<WorkerCommand>) -> Result<(), Ended> {
        loop {
            let path = self.folder.path().display();
            match self.folder.try_lock() {
                Ok(true) => break,
                Ok(false) => {
                    self.trouble(format!(
                        "cannot lock the journal directory {path}: another process holds it, and \
                         only one gateway at a time can use a journal; waiting for that process \
                         to end"
                    ));
                }
                Err(error) => {
                    self.trouble(format!("cannot lock the journal directory {path}: {error}"))
                }
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
        // The one worker opens the journal once.
        let _ = self.shared.opened.set(opened);
        Ok(())
    }

    /// One round: synchronises what has to be on disk, then lets the waiting requests go on.
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
            // The floor moves with the first segment: records of earlier segments lie below it.
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
                // A claim that has stopped waiting has been refused.
                let _ = done.send(());
            }
        }
        for number in dropped {
            self.folder.remove(&segment_name::of(number))?;
        }
        Ok(())
    }

    /// Shuts down cleanly: synchronises the journal, and marks the reservation as clean.
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
            "to prevent replays, requests with a timestamp up to Unix time {floor} are refused; \
             this quarantine ends by itself in {wait} s"
        );
        match &recovered.why {
            Completeness::First => info!("{path}: started a new journal of nonces"),
            Completeness::Complete => info!("{path}: restored {nonces} nonces from the journal"),
            Completeness::PowerLoss => warn!(
                "{path}: the machine stopped without notice (power loss, or a crash of the \
                 system), so the last records of the journal may be missing; {until}"
            ),
            Completeness::Damaged(what) => {
                error!("the journal of nonces is damaged: {what}; {until}")
            }
            Completeness::Lost(what) => {
                error!("{path}: the accepted requests are unknown: {what}; {until}")
            }
        }
    }

    /// Logs a failed round, and the first good one after it.
    fn report(&self, result: io::Result<()>) {
        let path = self.folder.path().display();
        match result {
            Err(error) => self.trouble(format!("cannot use the journal in {path}: {error}")),
            Ok(()) => {
                if lock(&self.shared.trouble).take().is_some() {
                    info!("{path}: the journal of nonces is open");
                }
            }
        }
    }

    /// Makes the store not ready for this reason, and logs a reason once.
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

/// Synchronises the records that requests wait for, and returns their greatest timestamp.
fn synchronise(waiting: &[WorkerCommand]) -> io::Result<u64> {
    let mut greatest = 0;
    let mut last: Option<&Arc<File>> = None;
    for command in waiting {
        let WorkerCommand::Synchronise { file, stamp, .. } = command else {
            continue;
        };
        // The records are nearly always all in one file.
        if !last.is_some_and(|last| Arc::ptr_eq(last, file)) {
            file.sync_data()?;
            last = Some(file);
        }
        greatest = greatest.max(*stamp);
    }
    Ok(greatest)
}

/// The commands of the waiting requests; returns after at most [`ROUND`].
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
