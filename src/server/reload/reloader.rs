//! The reloader: the triggers of a reload, its threads, and its deadlines.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::feed::RegistryFeed;
use super::history::{LastReload, ReloadHistory};
use super::lock::ReloadLocks;
use super::parts::{ReloadedParts, name_of};
use super::result::{ReloadFailure, ReloadOutcome, ReloadResult, Trigger};
use crate::metrics::Files;
use crate::registry::{Change, Follower, Losses};
use countersign_client::watch::{RETRY, Watch, watch};

/// A longer reload is an error, because it delays a revocation in the file. A hundred thousand new
/// keys take less.
const SLOW: Duration = Duration::from_secs(5);

/// A watch without a look for this long is stuck. It looks twice a second, and waits at most ten
/// seconds for a reload.
const STILL: Duration = Duration::from_secs(11);

/// Pause before a configuration with a mistake is read again, although its file has not changed.
/// The mistake may be in another file that it names, or a server's name may not resolve yet.
const REREAD: Duration = Duration::from_secs(5);

/// Reads files again.
pub(crate) struct Reloader {
    parts: ReloadedParts,
    /// Where the machines stand in a database.
    feed: Option<RegistryFeed>,
    locks: ReloadLocks,
    history: ReloadHistory,
}

/// Reloading goes on for as long as this lives.
pub(crate) struct ReloadTasks {
    _files: Vec<Watch>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Reloader {
    pub(crate) fn new(parts: ReloadedParts, follower: Option<Follower>) -> Reloader {
        Reloader {
            parts,
            feed: follower.map(RegistryFeed::new),
            locks: ReloadLocks::default(),
            history: ReloadHistory::default(),
        }
    }

    /// Records the registry of the start, and warns of credentials that the configuration lacks.
    pub(crate) fn report_start(&self, first: &Change) {
        self.parts.report(first);
        self.parts.warn_of_missing_credentials();
    }

    /// Records the operators of the start.
    pub(crate) fn report_operators(&self, first: &Change) {
        self.parts.report_operators(first);
    }

    /// The last attempt to load each kind of file.
    pub(crate) fn last(&self) -> Vec<LastReload> {
        self.history.all()
    }

    /// The kinds of files whose file system does not answer, by name.
    pub(crate) fn stuck(&self) -> impl Iterator<Item = &'static str> {
        self.history.stuck().into_iter().map(name_of)
    }

    /// How long the longest of the running reloads has been running; zero if none is.
    pub(crate) fn running(&self) -> Duration {
        self.locks.running(self.parts.clock.now().mono)
    }

    /// Starts to watch the files and to listen for signals. If one of these fails, it logs an error
    /// and the others still work.
    pub(crate) fn start(self: &Arc<Self>) -> ReloadTasks {
        let watched = Files::ALL.map(|files| self.watched(files));
        let heard = |task: io::Result<_>| {
            task.inspect_err(|error| error!(%error, "cannot listen for a signal"))
                .ok()
        };
        let signals = [self.on_hangup(), self.on_user_signal()];
        let looks = Files::ALL.into_iter().zip(&watched);
        let looks = looks.filter_map(|(files, watch)| Some((files, watch.as_ref()?.looks())));
        let stillness = self.on_stillness(looks.collect());
        ReloadTasks {
            _tasks: (signals.into_iter().filter_map(heard))
                .chain([stillness])
                .chain(self.follow())
                .collect(),
            _files: watched.into_iter().flatten().collect(),
        }
    }

    /// Follows the database of the registry, if there is one.
    fn follow(self: &Arc<Self>) -> Vec<AbortOnDropHandle<()>> {
        let Some(feed) = &self.feed else {
            return Vec::new();
        };
        let this = Arc::clone(self);
        let following = async move {
            if let Some(feed) = &this.feed {
                feed.follow(&this.parts, this.locks.complaint(Files::Registry))
                    .await;
            }
        };
        let clock = self.parts.clock.clone();
        let tasks = [tokio::spawn(following), tokio::spawn(feed.listening())];
        (tasks.into_iter())
            .chain(feed.copying(clock).map(tokio::spawn))
            .map(AbortOnDropHandle::new)
            .collect()
    }

    /// Shows how long ago the database confirmed the registry in force.
    pub(crate) fn show_staleness(&self) {
        let now = self.parts.clock.now().mono;
        if let Some(age) = self.parts.registry.staleness(now) {
            self.parts.metrics.registry_stale(age.as_secs());
        }
    }

    /// Logs an error when a watch is stuck: its file system does not answer.
    fn on_stillness(
        self: &Arc<Self>,
        watches: Vec<(Files, Arc<AtomicU64>)>,
    ) -> AbortOnDropHandle<()> {
        let this = Arc::clone(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut before = vec![None; watches.len()];
            loop {
                tokio::time::sleep(STILL).await;
                for ((files, looks), before) in watches.iter().zip(&mut before) {
                    let now = Some(looks.load(Ordering::Relaxed));
                    let is_stuck = *before == now;
                    this.history.set_stuck(*files, is_stuck);
                    if is_stuck {
                        this.slow(*files);
                    }
                    *before = now;
                }
            }
        }))
    }

    /// Reads everything again on an order to the admin listener. It blocks, for seconds with a
    /// hundred thousand new keys.
    pub(crate) fn on_order(self: &Arc<Self>, losses: Losses) -> ReloadOutcome {
        self.everything(Trigger::Order, losses)
    }

    /// The registry comes first: a revocation waits for nothing else.
    fn everything(self: &Arc<Self>, trigger: Trigger, losses: Losses) -> ReloadOutcome {
        let results = Files::ALL.map(|files| self.reload(files, trigger, losses));
        ReloadOutcome {
            is_good: results.iter().all(Result::is_ok),
            lines: (results.into_iter())
                .filter_map(|result| result.unwrap_or_else(|failure| Some(failure.text)))
                .collect(),
        }
    }

    fn watched(self: &Arc<Self>, files: Files) -> Option<Watch> {
        let (this, listed) = (Arc::clone(self), Arc::clone(self));
        let mut trigger = Trigger::Start;
        let read = move || {
            let result = this.reload(files, trigger, Losses::Few);
            trigger = Trigger::Change;
            match result {
                Err(failure) if failure.may_pass => Some(RETRY),
                Err(_) if files == Files::Configuration => Some(REREAD),
                _ => None,
            }
        };
        watch(move || listed.parts.files(files), read)
            .inspect_err(|error| error!(%error, "cannot watch files; use SIGHUP"))
            .ok()
    }

    /// Reads one kind of file again, on a thread of its own: the caller waits at most twice
    /// [`SLOW`] for a disk that does not answer. The thread continues, and logs its result.
    fn reload(self: &Arc<Self>, files: Files, trigger: Trigger, losses: Losses) -> ReloadResult {
        let now = self.parts.clock.now();
        let Some(guard) = self.locks.take(files, SLOW, now.mono) else {
            return self.noted(files, trigger, Err(self.slow(files)));
        };
        let (sender, receiver) = mpsc::channel();
        let this = Arc::clone(self);
        let started = thread::Builder::new().name("reload".into()).spawn(move || {
            let result = match files {
                Files::Registry => match &this.feed {
                    Some(feed) => feed.reload(&this.parts, trigger, losses),
                    None => this.parts.registry(trigger, losses),
                },
                Files::Operators => this.parts.operators(trigger),
                Files::Configuration => this.parts.configuration(trigger),
                Files::Credentials => this.parts.credentials(),
                Files::Tls => this.parts.tls(trigger),
            };
            this.log(files, trigger, &result);
            let result = this.noted(files, trigger, result);
            drop(guard);
            let is_replaced = files == Files::Configuration && matches!(result, Ok(Some(_)));
            let _ = sender.send(result);
            if is_replaced {
                // The new configuration has the secrets from when its reading began. A secret that
                // was replaced or withdrawn since then must not come back.
                let _ = this.reload(Files::Credentials, trigger, Losses::Few);
            }
        });
        if let Err(error) = started {
            let failure = ReloadFailure {
                text: format!(
                    "cannot reload {}: no thread can be started: {error}",
                    name_of(files)
                ),
                may_pass: true,
            };
            warn!(why = trigger.as_str(), "{}", failure.text);
            return self.noted(files, trigger, Err(failure));
        }
        match receiver.recv_timeout(SLOW) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(self.slow(files)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let text = format!(
                    "cannot reload {}: a bug ended the reload; report it with the log",
                    name_of(files)
                );
                let may_pass = false;
                self.noted(files, trigger, Err(ReloadFailure { text, may_pass }))
            }
        }
    }

    /// Notes the result in the history.
    fn noted(&self, files: Files, trigger: Trigger, result: ReloadResult) -> ReloadResult {
        let now = self.parts.clock.now().unix_seconds();
        self.history.note(files, trigger, &result, now);
        result
    }

    fn slow(&self, files: Files) -> ReloadFailure {
        self.parts.metrics.reload_slow(files);
        let text = format!(
            "reading {} takes longer than {} s; the last good version stays in force until it is \
             done. Does the file system answer?",
            name_of(files),
            SLOW.as_secs()
        );
        error!("{text}");
        ReloadFailure {
            text,
            may_pass: true,
        }
    }

    /// Logs the result of an attempt. A failure that repeats is logged once, unless an operator
    /// asked.
    fn log(&self, files: Files, trigger: Trigger, result: &ReloadResult) {
        let complaint = self.locks.complaint(files);
        match result {
            Ok(text) => {
                if complaint.is_over() && text.is_none() {
                    info!("{} can be read again, and is in force", name_of(files));
                }
                if let Some(text) = text {
                    info!(why = trigger.as_str(), "{text}");
                }
            }
            Err(ReloadFailure { text, .. }) if complaint.is_new(text) || trigger.is_asked() => {
                for line in text.lines() {
                    warn!(why = trigger.as_str(), "{line}");
                }
            }
            Err(_) => {}
        }
    }

    fn on_hangup(self: &Arc<Self>) -> io::Result<AbortOnDropHandle<()>> {
        let mut hangup = signal(SignalKind::hangup())?;
        let this = Arc::clone(self);
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let this = Arc::clone(&this);
                // Key checks take a while, and must not hold up requests.
                let reload = move || this.everything(Trigger::Hangup, Losses::Few);
                let _ = tokio::task::spawn_blocking(reload).await;
            }
        })))
    }

    fn on_user_signal(&self) -> io::Result<AbortOnDropHandle<()>> {
        let mut rotated = signal(SignalKind::user_defined1())?;
        let audit = Arc::clone(&self.parts.audit);
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while rotated.recv().await.is_some() {
                info!("SIGUSR1: opening the audit files again");
                audit.reopen();
            }
        })))
    }
}
