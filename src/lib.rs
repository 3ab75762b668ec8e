//! Countersign is a reverse-proxy gateway for backends that know only bearer tokens. Unless a route
//! says otherwise, it lets only signed requests through. One machine signs a request with its
//! Ed25519 key. The request passes once. The audit log has it under the machine's name.
//!
//! # Map
//!
//! `docs/architecture.md` numbers the steps of a request, with the file of each, and has the
//! threads, the stores and the glossary. `docs/decisions` has the choices, each with the figure
//! that decided it. In short: [`server`] accepts a connection; [`gateway`] reads the head, decides,
//! records and forwards; it asks [`registry`] for the machine, [`nonces`] for the nonce, and
//! [`audit`] for the record without which nothing is forwarded.
//!
//! The main checks form a sequence: each takes a value that only the check before it can make. See
//! [`countersign_core::decision`]. Only the last value, a recorded request, can be forwarded. A
//! refusal is a value too, of one closed enum, [`countersign_core::refusal::Refusal`]. Its code is
//! the same word in the response, the record and the metric.
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
//! A module of this crate imports only modules to its left. A test reads the next line, compares
//! the sources with it, and fails if its form changes:
//!
//! `metrics`, `yaml`, `jwt` ← `config` ← `nonces`, `registry`, `audit` ← `enrolment` ← `management` ← `gateway` ← `server` ← `cli`
//!
//! Only `gateway` and `server` know Pingora. [`cli`] is the command line, one file a command.
#![forbid(unsafe_code)]

// Short paths: `countersign_core` in this crate, `countersign::auth` in tests and benchmarks.
pub use countersign_client::{agent, clock, doctor, file, http_client, signing, watch};
pub use countersign_core as auth;

pub mod audit;
pub mod cli;
pub mod config;
pub mod enrolment;
pub mod gateway;
pub mod jwt;
pub mod management;
pub mod metrics;
pub mod nonces;
pub mod registry;
pub mod server;
pub mod yaml;
