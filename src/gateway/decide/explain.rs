//! Explanations: the decision about a request that was not sent, by the same functions that decide,
//! in the same order.
//!
//! It is taken for granted that the request is well formed and well signed by a key of the machine,
//! if it is signed at all, that its time is right and its nonce fresh, and that nothing of the
//! machine's rate is used up. Neither the framing nor the backend is asked about.

use core::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, Gate, Route};
use crate::gateway::decide::policy::{
    CREDENTIAL_PATHS, Circumstances, Permitted, closed_path, judge_machine,
};
use crate::gateway::decide::rate_limits::RateLimits;
use crate::gateway::decide::route_match::RouteMatch;
use crate::gateway::upstream::credentials::{Choice, Credentials};
use crate::metrics::Metrics;
use crate::registry::Registry;
use countersign_core::identity::{Fingerprint, Machine};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::target::{QueryPolicy, Target};

/// The request to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The id of the machine.
    pub machine: &'q str,
    /// The method as it would be sent.
    pub method: &'q str,
    /// The target as it would be sent.
    pub target: &'q str,
    /// The address that the gateway would believe it to come from.
    pub client: Option<IpAddr>,
    /// When, in Unix seconds.
    pub at: u64,
}

/// The decision, and the facts that it rests on.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision.
    pub verdict: Prediction,
    /// The route, where one has the path.
    pub route: Option<RouteFacts>,
    /// The machine, where the registry has it.
    pub machine: Option<MachineFacts>,
    /// The policies of the machine and the gateway; `None` where they are not asked.
    pub policy: Option<PolicyFacts>,
    /// Why there is no route, where there is none.
    pub no_route: Option<&'static str>,
    /// Why the policies are not matched, where they are not.
    pub no_policy: Option<&'static str>,
}

/// The decision about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// It goes to the backend as the machine's.
    Passes,
    /// It goes to the backend without an identity: the route is open, and asks for no signature.
    PassesOpen,
    /// It goes to the backend as the client sent it, because the route only observes: else it would
    /// be refused with this.
    PassesObserved(Refusal),
    /// The backend hears nothing of it.
    Refused(Refusal),
}

impl Prediction {
    /// Whether it gets to the backend.
    pub fn passes(&self) -> bool {
        !matches!(self, Prediction::Refused(_))
    }

    /// The code of the refusal, if it is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Prediction::Refused(refusal) => Some(refusal.code()),
            _ => None,
        }
    }
}

/// The route, by the configuration.
#[derive(Clone, Debug)]
pub struct RouteFacts {
    /// Its path prefix.
    pub path: String,
    /// The name of its upstream.
    pub upstream: String,
    /// The authentication that it asks for at that time.
    pub gate: Gate,
    /// Whether a query is signed, stripped or refused.
    pub query: QueryPolicy,
    /// The path that a client has to sign; `None` where the query is refused.
    pub signed: Option<String>,
}

/// The machine, by the registry.
#[derive(Clone, Debug)]
pub struct MachineFacts {
    /// Whether it may act at that time, with any of its keys.
    pub may_act: Result<(), Refusal>,
    /// Each key, and whether it may be used at that time.
    pub keys: Vec<(Fingerprint, bool)>,
    /// Requests a minute, where it has a rate.
    pub per_minute: Option<u32>,
}

/// The policies' part of the decision.
#[derive(Clone, Debug)]
pub struct PolicyFacts {
    /// The rule that allows it, with its group, or what stands against it; `Ok(None)` without
    /// rules.
    pub rule: Result<Option<String>, String>,
    /// The network that it comes from, likewise, where rules and networks let it pass.
    pub network: Option<String>,
    /// The name of the credential that it would carry, if it gets so far.
    pub credential: Option<String>,
    /// The credential should be there and cannot be had.
    pub credential_missing: bool,
    /// Paths that are closed to requests with a credential, but for routes inside them.
    pub closed: &'static [&'static str],
    /// Whether this is one of them.
    pub is_closed: bool,
}

/// Explains a request.
///
/// # Errors
///
/// Only if the metrics cannot be declared, which credentials come with: a bug.
pub fn explain(
    config: &Config,
    registry: &Registry,
    question: Question<'_>,
) -> prometheus::Result<Explanation> {
    let credentials = Credentials::new(config, &Metrics::new("", "")?);
    let parsed = Target::parse(question.target.as_bytes());
    let matched = RouteMatch::find(&config.routes, question.method, question.target.as_bytes());
    let index = (parsed.as_ref().ok()).and_then(|target| config.routes.find(target.path()));
    let route = index.map(|index| &config.routes[index]);
    let machine = registry.find(question.machine);
    let gate = route.map(|route| route.mode.at(question.at));
    let no_policy = match (&matched, &machine) {
        (_, None) => Some("the machine is not in the registry"),
        (Err(_), _) if route.is_some() => Some("the route does not take the method"),
        (Err(_), _) => Some("no route takes the request"),
        (Ok(_), _) if gate == Some(Gate::Nothing) => Some("the route asks for no signature"),
        (Ok(_), Some(_)) => None,
    };
    let mut explanation = Explanation {
        verdict: Prediction::Passes,
        route: route.zip(parsed.as_ref().ok()).and_then(|(route, target)| {
            let signed = target.behind(&route.strip_prefix)?.under(route.query);
            Some(RouteFacts {
                path: route.path.clone(),
                upstream: config.upstreams[route.upstream].name.clone(),
                gate: route.mode.at(question.at),
                query: route.query,
                signed: signed.ok().map(|signed| signed.to_string()),
            })
        }),
        no_route: match (&parsed, route) {
            (_, Some(_)) => None,
            (Ok(_), None) => Some("none has this path"),
            (Err(_), None) => Some("not matched: the target is outside the grammar"),
        },
        machine: machine.map(|machine| machine_facts(machine, question.at)),
        policy: None,
        no_policy,
    };
    let judged = matched.and_then(|matched| {
        let route = &config.routes[matched.route];
        let upstream = &config.upstreams[route.upstream];
        let signed = matched.target.under(route.query);
        let choose = |machine| credentials.choose(machine, route.upstream, &upstream.name);
        if let Some(machine) = machine.filter(|_| no_policy.is_none()) {
            let path = matched.target.path();
            let facts = policy_facts(machine, route, path, choose(machine), question);
            explanation.policy = Some(facts);
        }
        let signed = signed?;
        if gate == Some(Gate::Nothing) {
            return Ok(());
        }
        let machine = machine.ok_or(Refusal::BadSignature)?;
        may_act(machine, question.at)?;
        let circumstances = Circumstances {
            client: question.client,
            now: Duration::ZERO,
            rate_limits: &RateLimits::new(),
        };
        let (method, target) = (matched.method.as_str(), signed.to_string());
        let choice = choose(machine);
        Permitted::judge(machine, method, &target, route, choice, circumstances).map(drop)
    });
    explanation.verdict = match judged {
        Ok(()) if gate == Some(Gate::Nothing) => Prediction::PassesOpen,
        Ok(()) => Prediction::Passes,
        Err(refusal) if gate == Some(Gate::Observed) && refusal.judges_the_caller() => {
            Prediction::PassesObserved(refusal)
        }
        Err(refusal) => Prediction::Refused(refusal),
    };
    Ok(explanation)
}

/// Whether a machine may act by any of its keys; else why not by the first.
fn may_act(machine: &Machine, at: u64) -> Result<(), Refusal> {
    let mut verdicts = machine.keys.iter().map(|key| machine.may_act(key, at));
    match verdicts.next() {
        Some(Ok(())) => Ok(()),
        Some(Err(first)) if verdicts.all(|verdict| verdict.is_err()) => Err(first),
        Some(Err(_)) => Ok(()),
        None => Err(Refusal::BadSignature),
    }
}

fn machine_facts(machine: &Machine, at: u64) -> MachineFacts {
    let policy = machine.policy.as_ref();
    MachineFacts {
        may_act: may_act(machine, at),
        keys: (machine.keys.iter())
            .map(|key| (key.public.fingerprint(), key.validity.holds(at)))
            .collect(),
        per_minute: policy.and_then(|policy| Some(policy.rate?.per_minute())),
    }
}

fn policy_facts(
    machine: &Machine,
    route: &Route,
    target: &str,
    choice: Choice,
    question: Question<'_>,
) -> PolicyFacts {
    let permission = judge_machine(machine, question.method, target, question.client);
    let named = |text: String, group: Option<&str>| match group {
        Some(group) => format!("{text} (group {group})"),
        None => text,
    };
    let (rule, network) = match permission {
        Ok(None) => (Ok(None), None),
        Ok(Some(permission)) => {
            let rule = permission.rule;
            let network = permission.network;
            (
                Ok(rule.map(|(rule, group)| named(rule.to_string(), group))),
                network.map(|(network, group)| named(network.to_string(), group)),
            )
        }
        Err(objection) => (Err(objection.to_string()), None),
    };
    let carries = !matches!(choice, Choice::Nothing);
    PolicyFacts {
        rule,
        network,
        credential_missing: matches!(choice, Choice::NoValue(_) | Choice::NotConfigured),
        credential: match choice {
            Choice::Carry(injection) => Some(injection.credential.name().to_owned()),
            Choice::NoValue(credential) => Some(credential.name().to_owned()),
            Choice::NotConfigured => machine.credential.as_deref().map(str::to_owned),
            Choice::Nothing => None,
        },
        closed: if carries { &CREDENTIAL_PATHS } else { &[] },
        is_closed: carries && closed_path(target, route).is_some(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
