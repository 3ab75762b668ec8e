//! Countersign is a reverse-proxy gateway that lets only signed requests through. It stands in
//! front of a backend that knows bearer tokens and nothing else, and turns every access into a
//! request that one machine signed with its Ed25519 key, that happens once, and that is on record
//! under that machine's name.
//!
//! # Map
//!
//! `docs/architecture.md` numbers the way of a request, with the file of each step, and has the
//! threads, the stores and the glossary. `docs/decisions` has the choices, each with the figure
//! that decided it. In short: [`server`] accepts a connection; [`gateway`] reads the head, decides,
//! records and forwards; it asks [`registry`] for the machine, [`nonces`] for the nonce, and
//! [`audit`] for the record without which nothing is forwarded.
//!
//! Each step makes the value that the next one takes, and only it can: see
//! [`countersign_core::decision`] for the line of proofs. Its last value alone can forward. A
//! refusal is a value too, of one closed enum, [`countersign_core::refusal::Refusal`]; its code is
//! the same word in the answer, the record and the metric.
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
//! A module of this crate imports only modules to its left; a test reads the sources and holds
//! this:
//!
//! `metrics`, `yaml` ← `config` ← `nonces`, `registry`, `audit` ← `gateway` ← `server` ← `cli`
//!
//! Only `gateway` and `server` know Pingora. [`cli`] is the command line, one file a command.
#![forbid(unsafe_code)]

// Short paths: `countersign_core` in this crate, `countersign::auth` in tests and benchmarks.
pub use countersign_client::{agent, clock, doctor, file, http_client, signing, watch};
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
