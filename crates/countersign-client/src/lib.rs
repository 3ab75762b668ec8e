//! The machine's side of Countersign: its key, the signer, the agent and the doctor.
//!
//! Modules in reading order:
//!
//! - [`mod@file`]: opens the files that a configuration or a command names, and no other module
//!   does;
//! - [`listing`]: lists the files of a directory by the same rules;
//! - [`watch`]: detects changes of files;
//! - [`clock`]: reads clocks, and no other module does;
//! - [`quoted`], [`address`], [`gateway_headers`]: text that a person wrote, checked and repeated
//!   in messages;
//! - [`gateway_url`], [`settings`]: the checked options of a machine and of the agent;
//! - [`signing`]: a machine's key, and the four headers of a request;
//! - [`agent`]: a local proxy that signs for clients that cannot;
//! - [`http_client`]: one request with its answer, for commands that wait for it;
//! - [`enrolling`]: registers this machine with a key that it makes on the spot;
//! - [`doctor`]: diagnoses why a gateway refuses a machine's requests.
//!
//! The grammar, the message and the refusals are those of [`countersign_core`], which the gateway
//! checks requests with.
#![forbid(unsafe_code)]

pub mod address;
pub mod agent;
pub mod clock;
pub mod doctor;
pub mod enrolling;
pub mod file;
pub mod gateway_headers;
pub mod gateway_url;
pub mod http_client;
pub mod listing;
pub mod quoted;
pub mod settings;
pub mod signing;
pub mod watch;
