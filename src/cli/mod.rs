//! The command line: one file a command.

mod admin;
mod admin_tls;
mod agent;
mod audit;
mod check;
mod command_error;
mod configuration;
mod demo;
mod doctor;
mod enrol;
mod explain;
mod gateway_args;
mod health;
mod keygen;
mod logs;
mod machine;
mod machine_options;
mod management_client;
mod process;
mod registry;
mod registry_change;
mod registry_summary;
mod reload;
mod report;
mod request;
mod request_body;
mod serve;
mod sign;
mod since;
mod terminal;
#[cfg(test)]
mod tests;
mod token;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::command_error::{CommandError, EX_USAGE};
use self::registry_summary::check_registry;

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
    Machine(Box<machine::MachineArgs>),
    Registry(registry::RegistryArgs),
    Token(token::TokenArgs),
    Sign(sign::SignArgs),
    Request(request::RequestArgs),
    Health(health::HealthArgs),
    Reload(reload::ReloadArgs),
    Enrol(enrol::EnrolArgs),
    Agent(agent::AgentArgs),
    Doctor(doctor::DoctorArgs),
    Audit(audit::AuditArgs),
    Report(report::ReportArgs),
}

/// The command line as clap has it, for what describes it: manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

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

fn run(command: Command, out: &mut (dyn Write + Send)) -> Result<(), CommandError> {
    let environment = configuration::environment();
    let now = environment.now;
    match command {
        Command::Serve(args) => serve::run(&args, &environment),
        Command::Check(args) => check::run(
            &args,
            &environment,
            check_registry,
            check::examine_start,
            out,
        ),
        Command::Explain(args) => explain::run(&args, &environment, out),
        Command::Demo(args) => demo::run(&args, &environment, out),
        Command::Keygen(args) => keygen::run(&args, out),
        Command::Machine(args) => machine::run_anywhere(&args, &environment, out),
        Command::Registry(args) => registry::run(&args, &environment, out),
        Command::Token(args) => token::run(&args, out),
        Command::Sign(args) => sign::run(&args, out),
        Command::Request(args) => request::run(&args, out),
        Command::Health(args) => health::run(&args, &environment),
        Command::Enrol(args) => enrol::run(&args, &environment, out),
        Command::Agent(args) => agent::run(&args),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Reload(args) => reload::run(&args, &environment, out),
        Command::Audit(args) => audit::run(&args, now, out),
        Command::Report(args) => report::run(&args, &environment, now, out),
    }
}
