//! Countersign is a reverse-proxy gateway that lets only signed requests through. It stands in
//! front of a backend that knows bearer tokens and nothing else, and turns every access into a
//! request that one machine signed with its Ed25519 key, that happens once, and that is on record
//! under that machine's name.
//!
//! # A request's way
//!
//! 1. [`server`] accepts the connection, with TLS where the listener has it, and gives it to the
//!    gateway's edge.
//! 2. [`gateway`] reads the head, within a deadline, and refuses what has two readings: framing,
//!    host, method, target.
//! 3. The route is found ([`config`]), and with it what becomes of a query, which methods there
//!    are, and how large a body may be.
//! 4. [`auth`] parses the four signing headers and checks the time. These checks, all of them
//!    cheap, come first, so that nonsense costs little.
//! 5. The machine is looked up ([`registry`]). An unknown one goes on like a known one, so that
//!    nobody can ask which machines exist.
//! 6. The body is read whole, under the route's limit, a deadline, and a budget of memory.
//! 7. [`auth`] verifies the signature over method, target, time, nonce and body; then the
//!    machine's state.
//! 8. The nonce is spent ([`nonces`]): of any number of copies one passes. Only a verified request
//!    can spend one.
//! 9. The decision is written down ([`audit`]). What cannot be written does not happen.
//! 10. Only now is the backend spoken to. The request for it is built anew, from what was verified
//!     and what the gateway itself knows: the machine's identity, the backend's own credential,
//!     and a short list of the client's headers.
//! 11. The answer streams back, less what only the gateway may say; how it went is written down
//!     and counted ([`metrics`]).
//!
//! Each step makes the value that the next one takes, and only it can: see [`auth::decision`] for
//! the line of proofs, which ends in a permit that alone can forward. A refusal is a value too, of
//! one closed enum, [`auth::refusal::Refusal`]; its code is the same word in the answer, the
//! record and the metric.
//!
//! # Crates and modules
//!
//! Three crates, each of which knows only those before it; Cargo holds this:
//!
//! - [`countersign_core`]: grammar, message, signature, policy, refusals. It is pure: no socket, no
//!   clock, no file, no log; time is an argument.
//! - [`countersign_client`]: the machine's side. Its key and the signer, the agent, the doctor, and
//!   the modules that both sides need: files, watches, clocks.
//! - `countersign`: this crate, the gateway and the command line.
//!
//! A module of this crate imports only modules left of it here; a test reads the sources and holds
//! this:
//!
//! `metrics`, `yaml` ← `config` ← `nonces`, `registry`, `audit` ← `gateway` ← `server` ← `cli` ← the binary
//!
//! Only `gateway` and `server` know Pingora. [`cli`] is the command line, one file a command.
#![forbid(unsafe_code)]

// Short paths: `crate::auth` in this crate, `countersign::auth` in tests and benchmarks.
pub use countersign_client::{agent, clock, doctor, file, signing, watch};
pub use countersign_core as auth;

pub mod audit;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod metrics;
pub mod nonces;
pub mod registry;
pub mod server;
pub mod yaml;
