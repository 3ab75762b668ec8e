//! `countersign explain`: the decision on a request that is not sent, and its reasons.

use std::io::Write;
use std::net::IpAddr;

use serde_json::json;

use super::command_error::CommandError;
use super::configuration::ConfigArgs;
use super::process::runtime;
use super::terminal::say;
use crate::config::{self, Environment, Gate, instant};
use crate::gateway::{Explanation, Prediction, Question, explain};
use crate::registry::{IdCase, Registry, read_database};
use countersign_core::refusal::Refusal;
use countersign_core::target::QueryPolicy;

/// Explain how the gateway would decide on a request
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  countersign explain --config conf/countersign.yaml --machine-id web-1 GET /v1/secret/data/app/db

Nothing is sent: the gateway's own code judges the configuration and the registry. It takes the request
as well formed, well signed, new, and within the machine's rate limit.
Exit codes: 0 if the request would reach the backend, 1 if not.")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID", alias = "machine")]
    machine_id: String,
    /// The client's address as the gateway would see it; default: unknown
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// The time of the request (RFC 3339, or a date); default: now
    #[arg(long, value_name = "WHEN", value_parser = when)]
    at: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The method, upper case
    method: String,
    /// The path as it would be sent, with its query if it has one
    path: String,
}

fn when(text: &str) -> Result<u64, String> {
    instant::to_unix_seconds(text).ok_or_else(|| format!("it must be {}", instant::EXPECTED))
}

/// Explains the decision on `out`.
///
/// # Errors
///
/// [`CommandError::Configuration`]: configuration or registry have mistakes.
/// [`CommandError::Operation`]: the request would be refused.
pub(super) fn run(
    args: &ExplainArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let file = args.config.find(environment)?;
    let config = config::load(&file, environment)
        .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?
        .config;
    let (place, case) = (&config.registry, IdCase::of(&config));
    let registry = match place.database() {
        Some(database) => runtime(1)?
            .block_on(read_database(database, case))
            .map_err(|error| CommandError::Operation(error.to_string()))?,
        None => Registry::load_source(&place.source, None, case)
            .map_err(|mistakes| CommandError::Configuration(mistakes.to_string()))?
            .into(),
    };
    let question = Question {
        machine: &args.machine_id,
        method: &args.method,
        target: &args.path,
        client: args.address,
        at: args.at.unwrap_or(environment.now),
    };
    let explanation = explain(&config, &registry, question)
        .map_err(|error| CommandError::Operation(error.to_string()))?;
    let text = match args.json {
        true => as_json(&question, &explanation),
        false => as_text(&question, &explanation),
    };
    say(out, &text)?;
    match &explanation.verdict {
        Prediction::Refused(refusal) => Err(CommandError::Operation(format!(
            "the request would be refused: {}",
            answer(refusal)
        ))),
        _ => Ok(()),
    }
}

fn answer(refusal: &Refusal) -> String {
    let code = refusal.code();
    format!("{} {}: {}", code.status(), code.as_str(), refusal.text())
}

fn verdict(verdict: &Prediction) -> String {
    match verdict {
        Prediction::Passes => "passes, authenticated as this machine".into(),
        Prediction::PassesOpen => "passes without authentication: the route is open".into(),
        Prediction::PassesObserved(refusal) => format!(
            "passes unchanged: the route only observes. With enforcement it would be refused with \
             {}",
            answer(refusal)
        ),
        Prediction::Refused(refusal) => format!("is refused with {}", answer(refusal)),
    }
}

const fn gate(gate: Gate) -> &'static str {
    match gate {
        Gate::Signature => "enforce",
        Gate::SignatureOrBearer => "enforce, and lets bearer credentials pass",
        Gate::Observed => "observe",
        Gate::Nothing => "open",
    }
}

const fn query(policy: QueryPolicy, is_there: bool) -> &'static str {
    match (policy, is_there) {
        (QueryPolicy::Strip, false) => "strip",
        (QueryPolicy::Strip, true) => "strip: the query is dropped, and is not signed",
        (QueryPolicy::Reject, _) => "reject",
        (QueryPolicy::Signed, false) => "signed",
        (QueryPolicy::Signed, true) => "signed: the signature covers the query; rules ignore it",
    }
}

fn as_text(question: &Question<'_>, explanation: &Explanation) -> String {
    let mut rows = vec![("verdict", verdict(&explanation.verdict))];
    rows.push(("at", instant::to_text(question.at)));
    match &explanation.route {
        None => rows.push(("route", explanation.no_route.unwrap_or("none").into())),
        Some(route) => {
            rows.push(("route", format!("{} -> {}", route.path, route.upstream)));
            rows.push(("mode", gate(route.gate).into()));
            let is_there = question.target.contains('?');
            rows.push(("query", query(route.query, is_there).into()));
            rows.extend(route.signed.clone().map(|signed| ("signed path", signed)));
            if let Some(adapter) = &route.adapter {
                let (kind, kv) = (adapter.kind.as_str(), &adapter.kv);
                rows.push((
                    "adapter",
                    format!("{kind}, answered from the KV mount {kv}"),
                ));
                let asks = adapter.asks.as_deref();
                rows.push((
                    "backend",
                    asks.unwrap_or("nothing: this is no call").to_owned(),
                ));
            }
        }
    }
    match &explanation.machine {
        None => rows.push(("machine", "not in the registry".into())),
        Some(machine) => {
            let state = match &machine.may_act {
                Ok(()) => "may act".to_owned(),
                Err(refusal) => format!("may not act: {}", refusal.code().as_str()),
            };
            rows.push(("machine", state));
            for (key, holds) in &machine.keys {
                let word = if *holds { "good" } else { "outside its dates" };
                rows.push(("key", format!("{key} {word}")));
            }
            let rate = machine.per_minute;
            rows.extend(rate.map(|rate| ("rate", format!("{rate} a minute, not counted here"))));
        }
    }
    if let Some(why) = explanation.no_policy {
        rows.push(("policy", format!("not checked: {why}")));
    }
    if let Some(policy) = &explanation.policy {
        let rule = match &policy.rule {
            Ok(Some(rule)) => format!("allowed by {rule}"),
            Ok(None) => "no rules: the backend decides".into(),
            Err(objection) => objection.clone(),
        };
        rows.push(("policy", rule));
        rows.extend(policy.network.clone().map(|network| ("network", network)));
        let credential = match (&policy.credential, policy.credential_missing) {
            (Some(name), true) => format!("{name}, which is unavailable"),
            (None, true) => "unavailable".into(),
            (Some(name), false) => name.clone(),
            (None, false) => "none".into(),
        };
        rows.push(("credential", credential));
        rows.extend(policy.login.as_ref().map(|login| {
            let role = match &login.role {
                Some(role) => format!("role {role}"),
                None => "no role: the machine is in no group".to_owned(),
            };
            let text = format!(
                "POST {} as {role}, audience {}, unless the gateway holds a token; not tried here",
                login.path, login.audience
            );
            ("login", text)
        }));
        if !policy.closed.is_empty() {
            let here = if policy.is_closed {
                " (this is one)"
            } else {
                ""
            };
            rows.push((
                "closed paths",
                format!("{}{here}", policy.closed.join(", ")),
            ));
        }
    }
    let line = |(name, value): &(&str, String)| format!("{name:<14}{value}\n");
    rows.iter().map(line).collect()
}

fn as_json(question: &Question<'_>, explanation: &Explanation) -> String {
    let (word, refusal) = match &explanation.verdict {
        Prediction::Passes => ("passes", None),
        Prediction::PassesOpen => ("open", None),
        Prediction::PassesObserved(refusal) => ("observed", Some(refusal)),
        Prediction::Refused(refusal) => ("refused", Some(refusal)),
    };
    let value = json!({
        "verdict": word,
        "code": refusal.map(|refusal| refusal.code().as_str()),
        "status": refusal.map(|refusal| refusal.code().status()),
        "text": refusal.map(|refusal| refusal.text()),
        "machine_id": question.machine,
        "method": question.method,
        "target": question.target,
        "client_ip": question.client,
        "at": instant::to_text(question.at),
        "route": explanation.route.as_ref().map(|route| json!({
            "path": route.path,
            "upstream": route.upstream,
            "mode": gate(route.gate),
            "query": route.query.as_str(),
            "signed_path": route.signed,
            "adapter": route.adapter.as_ref().map(|adapter| json!({
                "kind": adapter.kind.as_str(),
                "kv": adapter.kv,
                "asks": adapter.asks,
            })),
        })),
        "machine": explanation.machine.as_ref().map(|machine| json!({
            "may_act": machine.may_act.is_ok(),
            "code": machine.may_act.as_ref().err().map(|refusal| refusal.code().as_str()),
            "keys": machine.keys.iter().map(|(key, holds)| json!({
                "key": key.to_string(),
                "good": holds,
            })).collect::<Vec<_>>(),
            "per_minute": machine.per_minute,
        })),
        "policy": explanation.policy.as_ref().map(|policy| json!({
            "permitted": policy.rule.is_ok(),
            "rule": policy.rule.as_ref().ok(),
            "objection": policy.rule.as_ref().err(),
            "network": policy.network,
            "credential": policy.credential,
            "credential_missing": policy.credential_missing,
            "login": policy.login.as_ref().map(|login| json!({
                "path": login.path,
                "role": login.role,
                "audience": login.audience,
            })),
            "closed_paths": policy.closed,
            "is_closed": policy.is_closed,
        })),
    });
    format!("{value:#}\n")
}
