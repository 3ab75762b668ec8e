//! What reading a configuration takes from outside its files, handed in so that tests decide it.

use std::env::{self, VarError};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The environment variables and the name resolution that a configuration is read with.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The value of an environment variable.
    pub variable: fn(&str) -> Result<String, VarError>,
    /// The addresses of a `host:port`. May block for as long as the system's resolver does.
    pub resolve: fn(&str) -> io::Result<Vec<SocketAddr>>,
}

impl Environment {
    /// This process's variables and the system's resolver.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment: what a configuration names by `env:`, and \
                  $STATE_DIRECTORY"
    )]
    pub fn of_process() -> Environment {
        Environment {
            variable: |name| env::var(name),
            resolve: |authority| Ok(authority.to_socket_addrs()?.collect()),
        }
    }
}
