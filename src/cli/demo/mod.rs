//! `countersign demo`: a backend, the gateway and a machine in one process, and a tour of the
//! gateway's decisions.

mod backend;
mod openbao;
mod stage;

use std::io::{self, Write};

use super::command_error::CommandError;
use super::process::runtime;
use crate::config::{self, Environment};
use crate::server::{GatewayServer, signals};
use countersign_client::clock::Clock;

use self::openbao::OpenBao;
use self::stage::{DemoAnswer, Stage};

/// Run a demo: a backend, the gateway and one machine in one process
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign demo               show the steps, and stay up until Ctrl-C to try commands by hand
  countersign demo --once        show the steps and exit
  countersign demo --openbao     log the machine in at an OpenBao (needs `bao` on the PATH)")]
pub(super) struct DemoArgs {
    /// Exit after the last step
    #[arg(long)]
    once: bool,
    /// Put the gateway before an OpenBao in development mode, started from `bao` on the PATH
    #[arg(long)]
    openbao: bool,
}

/// Runs the demo and prints its steps.
///
/// # Errors
///
/// A step did not end as the demo says, or the operating system reports an error.
pub(super) fn run(
    args: &DemoArgs,
    environment: &Environment,
    out: &mut (dyn Write + Send),
) -> Result<(), CommandError> {
    let (bao, stage) = match args.openbao {
        true => OpenBao::set().map(|(bao, stage)| (Some(bao), stage))?,
        false => (None, Stage::set()?),
    };
    let clock = Clock::system();
    let loaded = config::load(&stage.configuration(), environment)
        .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?;
    let runtime = runtime(0)?;
    let server = runtime.block_on(GatewayServer::bind(loaded.config, clock))?;
    let gateway = format!("http://{}", server.addresses()[0]);
    let admin = format!("http://{}", server.admin_address());

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = runtime.spawn(server.run(async {
        let _ = stopped.await;
    }));
    let told = match &bao {
        Some(bao) => bao.tell(&stage, &gateway, &admin, out),
        None => tell(&stage, &gateway, &admin, out),
    };
    let told = told.and_then(|()| {
        if args.once {
            return Ok(());
        }
        let secret = match &bao {
            Some(_) => format!("/v1/secret/data/{}/db", stage::MACHINE),
            None => "/v1/secret/sk_smtp".to_owned(),
        };
        commands_to_try(&stage, &gateway, &admin, &secret, out).map_err(broken)?;
        runtime
            .block_on(async { signals().map(|signal| runtime.spawn(signal)) })
            .map_err(broken)
            .map(|signal| {
                let _ = runtime.block_on(signal);
            })
    });
    let _ = stop.send(());
    let _ = runtime.block_on(running);
    told
}

/// The steps. Each checks its own result, so that the demo cannot show anything untrue.
fn tell(
    stage: &Stage,
    gateway: &str,
    admin: &str,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    const SECRET: &str = "/v1/secret/sk_database";
    stage.wait_until_ready(admin)?;
    let before = stage.metrics(admin)?;
    introduce(stage, gateway, out).map_err(broken)?;

    let signed = stage.sign(SECRET)?;
    let read = stage.get(gateway, SECRET, Some(&signed))?;
    let record = stage.record_of(&read)?;
    step(
        out,
        "1. A signed read",
        "The machine signs GET:/v1/secret/sk_database:<time>:<nonce>:<hash of the empty body>\n\
         with its Ed25519 key. The gateway verifies, and only then asks the backend, with the\n\
         token that the machine never sees and with X-Machine-Identity set.",
        &read,
        200,
    )?;
    say(
        out,
        &format!("   its audit record, written before the backend was asked:\n   {record}\n\n"),
    )?;

    let replayed = stage.get(gateway, SECRET, Some(&signed))?;
    step(
        out,
        "2. A replay: the same request again, byte for byte",
        "A captured request is of no use: its nonce has been used, so the gateway refuses it.",
        &replayed,
        401,
    )?;

    let fresh = stage.sign(SECRET)?;
    let tampered = stage.get(gateway, "/v1/secret/sk_api", Some(&fresh))?;
    step(
        out,
        "3. A fresh signature, moved to another path",
        "The signature covers the path. The refusal does not reveal which paths exist.",
        &tampered,
        401,
    )?;

    let unsigned = stage.get(gateway, SECRET, None)?;
    step(
        out,
        "4. A request without a signature",
        "The gateway refuses it and does not even connect to the backend.",
        &unsigned,
        401,
    )?;

    let signed = stage.sign(SECRET)?;
    let stripped = stage.get(gateway, &format!("{SECRET}?redirect=evil"), Some(&signed))?;
    step(
        out,
        "5. A query appended to a signed path",
        "The signature does not cover the query, so the gateway drops it and serves the read.",
        &stripped,
        200,
    )?;

    // The gateway counts a request after it has sent the answer; its reader may be faster.
    let after = stage.wait_for_metric(
        admin,
        "countersign_requests_total{auth=\"signature\",outcome=\"forwarded\",route=\"/\"} 2",
    )?;
    say(out, "6. The metrics that moved\n")?;
    for line in after.iter().filter(|line| !before.contains(line)) {
        if [
            "requests_total",
            "refusals_total",
            "queries_stripped",
            "audit_records",
            "nonces",
        ]
        .iter()
        .any(|name| line.starts_with(&format!("countersign_{name}")))
        {
            say(out, &format!("   {line}\n"))?;
        }
    }
    say(out, "\n")
}

fn introduce(stage: &Stage, gateway: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "Countersign: a backend that only knows a bearer token, behind signatures.\n"
    )?;
    writeln!(
        out,
        "  backend   http://{}   three secrets; wants {}",
        stage.backend(),
        backend::TOKEN_HEADER
    )?;
    writeln!(
        out,
        "  gateway   {gateway}   holds that token, and public keys only"
    )?;
    writeln!(
        out,
        "  machine   {}   its private key: {}\n",
        stage::MACHINE,
        stage.key().display()
    )
}

fn step(
    out: &mut dyn Write,
    title: &str,
    words: &str,
    answer: &DemoAnswer,
    expected: u16,
) -> Result<(), CommandError> {
    let words = words.replace('\n', "\n   ");
    say(
        out,
        &format!(
            "{title}\n   {words}\n   -> {} {}\n\n",
            answer.status, answer.body
        ),
    )?;
    if answer.status == expected {
        Ok(())
    } else {
        Err(CommandError::Operation(format!(
            "the demo expected status {expected} in this step and got {}",
            answer.status
        )))
    }
}

fn commands_to_try(
    stage: &Stage,
    gateway: &str,
    admin: &str,
    secret: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let key = stage.key();
    let (key, machine) = (key.display(), stage::MACHINE);
    let registry = stage.registry();
    writeln!(
        out,
        "The demo stays up until Ctrl-C. Try in another terminal:\n"
    )?;
    writeln!(
        out,
        "  countersign request --key {key} --machine-id {machine} GET {gateway}{secret}"
    )?;
    writeln!(
        out,
        "  countersign sign --key {key} --machine-id {machine} GET {secret} \\\n    | curl -i -H @- {gateway}{secret}"
    )?;
    writeln!(out, "  curl -i {gateway}{secret}")?;
    writeln!(
        out,
        "  countersign machine disable --registry {} {machine}",
        registry.display()
    )?;
    writeln!(out, "  tail -f {}", stage.audit().display())?;
    writeln!(out, "  curl -s {admin}/metrics | grep ^countersign_")?;
    out.flush()
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), CommandError> {
    out.write_all(text.as_bytes()).map_err(broken)
}

fn broken(error: io::Error) -> CommandError {
    CommandError::Operation(error.to_string())
}
