//! Countersign: a reverse-proxy gateway that lets only signed requests through.
#![forbid(unsafe_code)]

pub mod auth;
pub mod cli;
pub mod config;
