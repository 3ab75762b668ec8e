//! Hot reload: configuration, credentials, registry and TLS files are read again when a file
//! changes, on SIGHUP, and on an order to the admin listener. SIGUSR1 opens the files of the audit
//! log again.
//!
//! Each file is read and checked whole before it is put in force. A file with a mistake changes
//! nothing, and does not delay the others.
//!
//! Nothing delays a revocation: each kind of file has its own watch, lock and thread. A reload of
//! all files reads the registry first. A file that cannot be read is tried again until it can.

mod certificates;
mod configuration;
mod feed;
mod history;
mod lock;
mod machines;
mod operators;
mod parts;
mod reloader;
mod result;

pub(crate) use self::history::LastReload;
pub(crate) use self::parts::ReloadedParts;
pub(crate) use self::reloader::Reloader;
