//! The audit log of a server, by its configuration.

use std::io;
use std::sync::Arc;

use super::start_error::StartError;
use crate::audit::checkpoint::CheckpointSigner;
use crate::audit::{AuditLog, Bounds, Checkpoints, Sink, TokenNames, UnauthenticatedSink};
use crate::config::{Audit, AuditSink, Config, GatewayKey};
use crate::metrics::Metrics;
use countersign_client::clock::Clock;

/// Opens the audit log.
///
/// # Errors
///
/// [`StartError`]: a file that is no place for an audit log, or that the system refuses.
pub(super) fn open(
    audit: &Audit,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<AuditLog, StartError> {
    start(audit, clock, metrics).map_err(|error| {
        let text = format!("the audit log: {error}");
        match error.kind() {
            // Another start would fail in the same way.
            io::ErrorKind::InvalidInput => StartError::Configuration(text),
            _ => StartError::System(text),
        }
    })
}

fn start(audit: &Audit, clock: &Clock, metrics: &Arc<Metrics>) -> io::Result<AuditLog> {
    let rotate = Bounds {
        size: audit.rotate.size,
        age: audit.rotate.age,
        keep_one: false,
    };
    let trail = match &audit.sink {
        AuditSink::Stdout => Sink::stdout()?,
        AuditSink::File(path) => Sink::file(path, rotate)?,
    };
    let refusals = &audit.refusals;
    let bounded = Bounds {
        size: Some(refusals.size),
        age: None,
        keep_one: true,
    };
    let own = refusals.file.as_ref();
    let strangers = UnauthenticatedSink {
        sink: own.map(|path| Sink::file(path, bounded)).transpose()?,
        per_second: refusals.per_second,
    };
    let signer = |key: &GatewayKey| Arc::new(CheckpointSigner::new(key.reveal().clone()));
    let checkpoints = Checkpoints {
        signer: audit.signing_key.as_ref().map(signer),
        records: audit.checkpoint_records,
        interval: audit.checkpoint_interval,
    };
    AuditLog::start(
        trail,
        strangers,
        checkpoints,
        audit.deadline,
        clock.clone(),
        Arc::clone(metrics),
    )
}

/// The names of bearer tokens, by the key file of the configuration, or else by one beside the
/// journal.
pub(super) fn token_names(config: &Config) -> TokenNames {
    let beside_the_journal = || Some(config.replay.state_dir.as_ref()?.join("token-hash.key"));
    TokenNames::new(config.audit.token_key.clone().or_else(beside_the_journal))
}
