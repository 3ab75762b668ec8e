//! Countersign: a reverse-proxy gateway that lets only signed requests through.
#![forbid(unsafe_code)]

pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod metrics;
pub mod nonces;
pub mod registry;
pub mod server;
