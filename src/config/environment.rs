//! The inputs of a configuration besides its files, handed in so that tests decide them.

use std::env::{self, VarError};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// Gives the addresses of a `host:port`. It may block as long as the system's resolver does.
pub type Resolve = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The environment variables, the name resolution and the time that a configuration is read with.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The value of an environment variable.
    pub variable: fn(&str) -> Result<String, VarError>,
    /// The resolver of names.
    pub resolve: Resolve,
    /// The time, in Unix seconds, that dates are judged by.
    pub now: u64,
}

impl Environment {
    /// The folder of the identities of SikkerKey's clients: `$SIKKERKEY_HOME`, or `.sikkerkey` in the
    /// home of the user.
    pub fn identity_home(&self) -> Option<PathBuf> {
        let named = |name| (self.variable)(name).ok().filter(|value| !value.is_empty());
        let folder = named("SIKKERKEY_HOME").map(PathBuf::from);
        folder.or_else(|| Some(PathBuf::from(named("HOME")?).join(".sikkerkey")))
    }

    /// This process's variables and the system's resolver, at `now` (Unix seconds).
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment: what a configuration names by `env:`, \
                  $STATE_DIRECTORY"
    )]
    pub fn of_process(now: u64) -> Environment {
        Environment {
            variable: |name| env::var(name),
            resolve: |authority| Ok(authority.to_socket_addrs()?.collect()),
            now,
        }
    }
}
