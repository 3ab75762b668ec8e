//! What is read again while the gateway runs: configuration, credentials, registry and TLS files,
//! when a file changes, on SIGHUP, and when the admin listener is told to; and the files of the
//! audit log, on SIGUSR1.
//!
//! Each is read and checked whole before it is put in force; what is not good leaves the last good
//! one as it is, and the others go on.
//!
//! Nothing delays a revocation: each kind of file has a watch, a turn and a thread of its own, the registry is read
//! first where all are, and a file that cannot be read is tried again until it can.

mod certificates;
mod configuration;
mod machines;
mod turn;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

pub(crate) use self::turn::Turns;
use super::listen::tls::Tls;
use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::gateway::Gateway;
use crate::metrics::{Files, Metrics};
use crate::registry::{Losses, RegistryStore};
use crate::watch::{RETRY, Watch, watch};

/// A reload that takes longer is an error: a revocation in the file counts that much later. A hundred thousand new
/// keys take less.
const SLOW: Duration = Duration::from_secs(5);

/// A watch that has not looked for so long is stuck: it looks every second, and a reload ends after ten.
const STILL: Duration = Duration::from_secs(11);

/// When a configuration with a mistake is read again, though the file has not changed: what is wrong may lie in
/// another file that it names, or with a server's name.
const REREAD: Duration = Duration::from_secs(5);

/// What a reload touches.
pub(crate) struct Reloading {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) registry: Arc<RegistryStore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) clock: Clock,
    pub(crate) tls: Vec<Arc<Tls>>,
    pub(crate) turns: Turns,
}

/// Reloading goes on for as long as this lives.
pub(crate) struct Watching {
    _files: Vec<Watch>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// Why something is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It may have been written between the first load and the start of the watches.
    Start,
    /// A file changed.
    Change,
    /// SIGHUP.
    Hangup,
    /// The admin listener was told to.
    Order,
}

/// What came of reading everything again: a line or more for each part, and whether all of it is
/// in force.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) is_good: bool,
}

/// What came of one part: in words, `Ok(None)` where there is nothing to say.
type Told = Result<Option<String>, Failed>;

/// Why a part is not in force as its files are.
#[derive(Debug)]
struct Failed {
    text: String,
    /// A file could not be read: the next attempt may succeed.
    may_pass: bool,
}

impl Why {
    /// Whether somebody asked, and so should hear of it also where nothing changed.
    fn is_asked(self) -> bool {
        matches!(self, Why::Hangup | Why::Order)
    }

    fn as_str(self) -> &'static str {
        match self {
            Why::Start => "the file changed during the start",
            Why::Change => "the file changed",
            Why::Hangup => "SIGHUP",
            Why::Order => "reload",
        }
    }
}

impl Reloading {
    /// Starts to watch the files and to listen for signals. Where something cannot be had, the
    /// rest still works, and the log says so.
    pub(crate) fn start(self: &Arc<Self>) -> Watching {
        let watched = Files::ALL.map(|files| self.watched(files));
        let heard = |task: io::Result<_>| {
            task.inspect_err(|error| error!(%error, "cannot listen for a signal"))
                .ok()
        };
        let signals = [self.on_hangup(), self.on_user_signal()];
        let looks = Files::ALL.into_iter().zip(&watched);
        let looks = looks.filter_map(|(files, watch)| Some((files, watch.as_ref()?.looks())));
        let stillness = self.on_stillness(looks.collect());
        Watching {
            _tasks: (signals.into_iter().filter_map(heard))
                .chain([stillness])
                .collect(),
            _files: watched.into_iter().flatten().collect(),
        }
    }

    /// Says that a watch does not look any more: its file system does not even tell what a file is.
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
                    if *before == now {
                        this.slow(*files);
                    }
                    *before = now;
                }
            }
        }))
    }

    /// Reads everything again because the admin listener was told to. It blocks, for seconds with
    /// a hundred thousand new keys.
    pub(crate) fn on_order(self: &Arc<Self>, losses: Losses) -> Outcome {
        self.everything(Why::Order, losses)
    }

    /// The registry first: a revocation waits for nothing else.
    fn everything(self: &Arc<Self>, why: Why, losses: Losses) -> Outcome {
        let told = Files::ALL.map(|files| self.reload(files, why, losses));
        Outcome {
            is_good: told.iter().all(Result::is_ok),
            lines: (told.into_iter())
                .filter_map(|told| told.unwrap_or_else(|failed| Some(failed.text)))
                .collect(),
        }
    }

    fn watched(self: &Arc<Self>, files: Files) -> Option<Watch> {
        let (this, listed) = (Arc::clone(self), Arc::clone(self));
        let mut why = Why::Start;
        let read = move || {
            let told = this.reload(files, why, Losses::Few);
            why = Why::Change;
            match told {
                Err(failed) if failed.may_pass => Some(RETRY),
                Err(_) if files == Files::Configuration => Some(REREAD),
                _ => None,
            }
        };
        watch(move || listed.files(files), read)
            .inspect_err(|error| error!(%error, "cannot watch files; use SIGHUP"))
            .ok()
    }

    fn files(&self, files: Files) -> Vec<PathBuf> {
        match files {
            Files::Registry => vec![self.registry.file().to_owned()],
            Files::Configuration => vec![self.gateway.plan().config().file.clone()],
            Files::Credentials => self.credential_files(),
            Files::Tls => {
                let tls = self.tls.iter().flat_map(|tls| tls.files());
                tls.map(Path::to_owned).collect()
            }
        }
    }

    /// Reads one kind of files again, on a thread of its own: nobody waits longer than twice [`SLOW`] for a disk, or
    /// for whatever else does not answer. The thread that was left goes on, and logs what it came to.
    fn reload(self: &Arc<Self>, files: Files, why: Why, losses: Losses) -> Told {
        let Some(turn) = self.turns.take(files, SLOW) else {
            return Err(self.slow(files));
        };
        let (tell, told) = mpsc::channel();
        let this = Arc::clone(self);
        let started = thread::Builder::new().name("reload".into()).spawn(move || {
            let told = match files {
                Files::Registry => this.registry(why, losses),
                Files::Configuration => this.configuration(why),
                Files::Credentials => this.credentials(),
                Files::Tls => this.tls(why),
            };
            this.log(files, why, &told);
            drop(turn);
            let is_replaced = files == Files::Configuration && matches!(told, Ok(Some(_)));
            let _ = tell.send(told);
            if is_replaced {
                // The secrets of a new configuration are those of when its reading began. One that was
                // replaced or withdrawn since then must not come back.
                let _ = this.reload(Files::Credentials, why, Losses::Few);
            }
        });
        if let Err(error) = started {
            let failed = Failed {
                text: format!("{} cannot be read again: {error}", named(files)),
                may_pass: true,
            };
            warn!(why = why.as_str(), "{}", failed.text);
            return Err(failed);
        }
        match told.recv_timeout(SLOW) {
            Ok(told) => told,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(self.slow(files)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failed {
                text: format!(
                    "{} cannot be read again: the reload ended in a bug",
                    named(files)
                ),
                may_pass: false,
            }),
        }
    }

    fn slow(&self, files: Files) -> Failed {
        self.metrics.reload_slow(files);
        let text = format!(
            "reading {} takes longer than {} s; what was read before stays in force until it is done. Does the file \
             system answer?",
            named(files),
            SLOW.as_secs()
        );
        error!("{text}");
        Failed {
            text,
            may_pass: true,
        }
    }

    /// Logs what came of an attempt; of one that is repeated by itself only what is new.
    fn log(&self, files: Files, why: Why, told: &Told) {
        let complaint = self.turns.complaint(files);
        match told {
            Ok(text) => {
                if complaint.is_over() && text.is_none() {
                    info!("{} can be read again, and is in force", named(files));
                }
                if let Some(text) = text {
                    info!(why = why.as_str(), "{text}");
                }
            }
            Err(Failed { text, .. }) if complaint.is_new(text) || why.is_asked() => {
                for line in text.lines() {
                    warn!(why = why.as_str(), "{line}");
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
                let reload = move || this.everything(Why::Hangup, Losses::Few);
                let _ = tokio::task::spawn_blocking(reload).await;
            }
        })))
    }

    fn on_user_signal(&self) -> io::Result<AbortOnDropHandle<()>> {
        let mut rotated = signal(SignalKind::user_defined1())?;
        let audit = Arc::clone(&self.audit);
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while rotated.recv().await.is_some() {
                info!("SIGUSR1: opening the audit files again");
                audit.reopen();
            }
        })))
    }
}

/// What is wrong with several files of a kind.
#[derive(Debug, Default)]
struct Wrong {
    lines: Vec<String>,
    may_pass: bool,
}

impl Wrong {
    fn add(&mut self, line: String, may_pass: bool) {
        self.lines.push(line);
        self.may_pass |= may_pass;
    }

    fn conclude(self) -> Result<(), Failed> {
        match self.lines.is_empty() {
            true => Ok(()),
            false => Err(Failed {
                text: self.lines.join("\n"),
                may_pass: self.may_pass,
            }),
        }
    }
}

fn named(files: Files) -> &'static str {
    match files {
        Files::Registry => "the registry",
        Files::Configuration => "the configuration",
        Files::Credentials => "the files of the credentials",
        Files::Tls => "the certificates",
    }
}
