//! The mistakes that a start would find, without a start: `check` and `serve` report the same.

use super::listen::tls::{Tls, TlsPurpose};
use crate::audit::Sink;
use crate::config::{AuditSink, Config};
use crate::nonces::{JournaledNonces, SharedNonces};
use crate::registry::watched_paths;
use countersign_client::file::open_to_writers;

/// The findings about the files and directories that a configuration names, except the registry:
/// one line each.
#[derive(Debug, Default)]
pub struct Findings {
    /// Mistakes in files.
    pub mistakes: Vec<String>,
    /// System errors: a directory that is missing or not writable. It may be there later.
    pub refused: Vec<String>,
    /// Settings that are suspicious and not wrong.
    pub warnings: Vec<String>,
}

impl Findings {
    /// Whether a start would succeed, as far as these go.
    pub fn is_good(&self) -> bool {
        self.mistakes.is_empty() && self.refused.is_empty()
    }
}

/// Examines what a start reads and writes, at `now` (Unix seconds), and creates nothing. It checks
/// neither whether an address is free nor what standard output is: a running gateway has both.
pub fn examine(config: &Config, now: u64) -> Findings {
    let mut found = Findings::default();
    let machines = watched_paths(&config.registry.source);
    for path in [&config.file].into_iter().chain(&machines) {
        if let Some(mode) = open_to_writers(path) {
            found.warnings.push(format!(
                "{} is open to writers (mode {mode:04o}): every user of this machine can decide who passes; \
                 chmod o-w",
                path.display()
            ));
        }
    }
    let data = config.listeners.iter();
    let data = data.filter_map(|listener| Some((listener.address, listener.tls.as_ref()?)));
    let admin = config.admin_tls.as_ref();
    for (address, files) in data.chain(admin.map(|tls| (config.admin, &tls.files))) {
        match Tls::load(&address.to_string(), files, TlsPurpose::Data) {
            Ok(tls) => found.warnings.extend(tls.warnings(now)),
            Err(why) => found.mistakes.push(why.to_string()),
        }
    }
    if let Some(redis) = &config.replay.redis {
        let checked = SharedNonces::check(redis);
        found.mistakes.extend(checked.err());
    } else if let Some(path) = &config.replay.state_dir {
        let checked = JournaledNonces::check(path);
        let line = |error| {
            format!(
                "{}: replay.state_dir: {error}; name a directory that this user may write to",
                config.file.display()
            )
        };
        found.refused.extend(checked.err().map(line));
    }
    let trail = match &config.audit.sink {
        AuditSink::Stdout => None,
        AuditSink::File(path) => Some(("audit.file", path)),
    };
    let refusals = config.audit.refusals.file.as_ref();
    let refusals = refusals.map(|path| ("audit.refusals.file", path));
    for (key, path) in trail.into_iter().chain(refusals) {
        if let Err(error) = Sink::check(path) {
            let line = format!("{}: {key}: {error}", config.file.display());
            match error.kind() {
                std::io::ErrorKind::InvalidInput => found.mistakes.push(line),
                _ => found.refused.push(line),
            }
        }
    }
    found
}
