//! The command line: one file a command.

mod agent;
mod audit;
mod check;
mod configuration;
mod demo;
mod doctor;
mod explain;
mod health;
mod keygen;
mod logs;
mod machine;
mod machine_side;
mod reload;
mod report;
mod request;
mod serve;
mod sign;
mod since;
mod terminal;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::auth::identity::Machine;
use crate::clock::{Clock, check_after_release};
use crate::config::{self, Environment};
use crate::registry::Registry;
use crate::server::examine;

/// A reverse-proxy gateway that lets only signed requests through
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Demo(demo::DemoArgs),
    Keygen(keygen::KeygenArgs),
    Machine(machine::MachineArgs),
    Sign(sign::SignArgs),
    Request(request::RequestArgs),
    Health(health::HealthArgs),
    Reload(reload::ReloadArgs),
    Agent(agent::AgentArgs),
    Doctor(doctor::DoctorArgs),
    Audit(audit::AuditArgs),
    Report(report::ReportArgs),
}

/// Why a command ended without success, with the text for the person who ran it.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The operation failed; exit code 1.
    Operation(String),
    /// The command was called wrongly; exit code 64 (`EX_USAGE`).
    Usage(String),
    /// The configuration or the registry is wrong; exit code 78 (`EX_CONFIG`).
    Configuration(String),
}

impl Failure {
    /// The process exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Failure::Operation(_) => 1,
            Failure::Usage(_) => EX_USAGE,
            Failure::Configuration(_) => 78,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Operation(text) | Failure::Usage(text) | Failure::Configuration(text) => {
                f.write_str(text)
            }
        }
    }
}

/// `sysexits.h`: the command was used wrongly.
const EX_USAGE: u8 = 64;

/// Reads the arguments, runs one command, and says on standard error why it failed.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, and successes to a shell.
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(arguments.command, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(
            &args,
            &environment(),
            check_registry,
            |config| {
                let now = Clock::system().now();
                let mut found = examine(config, now.unix_seconds());
                let clock = check_after_release(now).err();
                found.refused.extend(clock.map(|error| error.to_string()));
                found
            },
            out,
        ),
        Command::Explain(args) => explain::run(&args, &environment(), out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Keygen(args) => keygen::run(&args, out),
        Command::Machine(args) => {
            let now = Clock::system().now().unix_seconds();
            machine::run(&args, &registry_of(&args)?, now, out)
        }
        Command::Sign(args) => sign::run(&args, out),
        Command::Request(args) => request::run(&args, out),
        Command::Health(args) => health::run(&args, &environment()),
        Command::Agent(args) => agent::run(&args),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Reload(args) => reload::run(&args, &environment(), out),
        Command::Audit(args) => {
            let now = Clock::system().now().unix_seconds();
            audit::run(&args, now, out)
        }
        Command::Report(args) => {
            let now = Clock::system().now().unix_seconds();
            report::run(&args, &environment(), now, out)
        }
    }
}

/// What a configuration is read with: this process's, now.
fn environment() -> Environment {
    Environment::of_process(Clock::system().now().unix_seconds())
}

fn check_registry(file: &Path) -> Result<check::Machines, Vec<String>> {
    let now = Clock::system().now().unix_seconds();
    let is_past = |end: Option<u64>| end.is_some_and(|end| end < now);
    let has_ended = |machine: &Machine| {
        machine
            .keys
            .iter()
            .all(|key| is_past(key.validity.not_after()))
    };
    match Registry::load(file, None) {
        Ok(registry) => Ok(check::Machines {
            count: registry.len(),
            credentials: registry
                .credentials()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            ended: registry
                .machines()
                .filter(|machine| has_ended(machine))
                .map(|machine| machine.id.to_string())
                .collect(),
        }),
        Err(mistakes) => Err(mistakes.to_string().lines().map(str::to_owned).collect()),
    }
}

/// The registry file that `machine` works on: named itself, or by a configuration.
fn registry_of(args: &machine::MachineArgs) -> Result<PathBuf, Failure> {
    if let Some(registry) = &args.registry {
        return Ok(registry.clone());
    }
    let environment = environment();
    let file = configuration::find(args.config.as_deref(), &environment).map_err(|error| {
        Failure::Usage(format!("{error}. Or name the registry: --registry FILE"))
    })?;
    match config::load(&file, &environment) {
        Ok(loaded) => Ok(loaded.config.registry),
        // Other mistakes need not keep anyone from disabling a machine.
        Err(mistakes) => {
            config::registry_file(&file).ok_or_else(|| Failure::Configuration(mistakes.to_string()))
        }
    }
}
