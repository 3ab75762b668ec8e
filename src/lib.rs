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
//! # What may know what
//!
//! A module imports only what stands left of it here; a test reads the sources and holds this.
//!
//! `auth`, `file`, `watch`, `yaml` ← `clock`, `metrics`, `config` ← `nonces`, `registry`, `audit` ← `gateway` ← `server` ←
//! `cli` ← the binary
//!
//! A machine's side stands beside the gateway's and knows nothing of it:
//!
//! `auth`, `file`, `watch`, `yaml` ← `clock`, `config`, `signing` ← `agent` ← `doctor` ← `cli`
//!
//! `auth` is pure: no socket, no clock, no file, no log; time is an argument. [`mod@file`] alone opens the files that a
//! configuration or a command names. Only `gateway` and
//! `server` know Pingora. [`signing`] is a machine's key and the four headers; [`agent`] a proxy beside
//! a machine that signs for clients that cannot; [`doctor`] finds out from there what is wrong. [`cli`] is the
//! command line, one file a command.
#![forbid(unsafe_code)]

pub mod agent;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod file;
pub mod gateway;
pub mod metrics;
pub mod nonces;
pub mod registry;
pub mod server;
pub mod signing;
pub mod watch;
pub mod yaml;
