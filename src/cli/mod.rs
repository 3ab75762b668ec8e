//! The command line: one file a command.

mod admin;
mod agent;
mod audit;
mod check;
mod command_error;
mod configuration;
mod demo;
mod doctor;
mod explain;
mod health;
mod keygen;
mod logs;
mod machine;
mod machine_options;
mod process;
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
        Command::Machine(args) => machine::run(&args, &args.registry(&environment)?, now, out),
        Command::Sign(args) => sign::run(&args, out),
        Command::Request(args) => request::run(&args, out),
        Command::Health(args) => health::run(&args, &environment),
        Command::Agent(args) => agent::run(&args),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Reload(args) => reload::run(&args, &environment, out),
        Command::Audit(args) => audit::run(&args, now, out),
        Command::Report(args) => report::run(&args, &environment, now, out),
    }
}
