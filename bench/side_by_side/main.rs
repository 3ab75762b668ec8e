//! The gateway beside what people would build instead, in one run: CPU time per request, latency,
//! requests a second, memory.
//!
//!     make bench            about a quarter of an hour; writes bench/RESULTS.md
//!     make bench QUICK=1    two minutes, to see that it works
//!     make bench-memory     memory under a long load
//!
//! The benchmark is also the bare proxy and the verifier that it measures, as processes of their
//! own.
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may panic"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures time, and lives in it"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod backend;
mod contender;
mod load;
mod machine;
mod measure;
mod memory;
mod process;
mod report;
mod requests;
mod run;
mod signature;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod verdicts;
mod verifier;

use run::{Extent, Run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    /// Two minutes, to see that it works; the figures say little
    #[arg(long)]
    quick: bool,
    /// Of the open loop, for each contender
    #[arg(long)]
    seconds: Option<u64>,
    /// Envoy's program; without it Envoy is left out
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Where the report goes, besides standard output
    #[arg(long)]
    out: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Memory of the gateway under so many requests
    Memory {
        requests: u64,
        #[arg(long, hide = true)]
        bench: bool,
    },
    #[command(hide = true)]
    Bare {
        plain: SocketAddr,
        tls: SocketAddr,
        backend: SocketAddr,
        folder: PathBuf,
    },
    #[command(hide = true)]
    Verifier { address: SocketAddr },
}

const FULL: Extent = Extent {
    rounds: 5,
    side_rounds: 5,
    requests: 20_000,
    seconds: 60,
};

const QUICK: Extent = Extent {
    rounds: 2,
    side_rounds: 1,
    requests: 4_000,
    seconds: 5,
};

fn main() {
    let arguments = Arguments::parse();
    match &arguments.role {
        None => side_by_side(&arguments),
        Some(Role::Memory { requests, .. }) => memory::watch(*requests),
        Some(Role::Bare {
            plain,
            tls,
            backend,
            folder,
        }) => support::bare::serve(*plain, Some((*tls, folder)), *backend),
        Some(Role::Verifier { address }) => verifier::serve(*address),
    }
}

fn side_by_side(arguments: &Arguments) {
    let envoy = arguments.envoy.clone().filter(|envoy| envoy.exists());
    if envoy.is_none() {
        eprintln!("There is no Envoy here: it is LEFT OUT, and so are the targets beside it");
    }
    let machine = machine::description(envoy.as_deref());
    let mut extent = if arguments.quick { QUICK } else { FULL };
    extent.seconds = arguments.seconds.unwrap_or(extent.seconds);
    let run = Run::start(extent, envoy);
    let results = run.all();
    let report = report::report(&machine, &run, &results);
    println!("{report}");
    if let Some(out) = &arguments.out {
        fs::write(out, report).unwrap();
    }
}
