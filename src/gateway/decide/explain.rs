//! Explanations: the decision about a request that was not sent, by the same functions that decide,
//! in the same order.
//!
//! The explanation assumes a well-formed request. It assumes a good signature, the right time, a
//! fresh nonce and an unused rate. It checks neither the framing nor the backend.

use core::net::IpAddr;
use std::time::Duration;

use crate::config::{Adapter, AdapterKind, Config, Gate, Route};
use crate::gateway::adapter::client_call::ClientCall;
use crate::gateway::decide::policy::{
    CREDENTIAL_PATHS, Circumstances, Permitted, closed_path, judge_machine,
};
use crate::gateway::decide::rate_limits::RateLimits;
use crate::gateway::decide::route_match::RouteMatch;
use crate::gateway::upstream::credentials::{Carried, Choice, Credentials};
use crate::management::call::CallSigner;
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
    /// The route, if one has the path.
    pub route: Option<RouteFacts>,
    /// The machine, if the registry has it.
    pub machine: Option<MachineFacts>,
    /// The policies of the machine and the gateway; `None` if they are not checked.
    pub policy: Option<PolicyFacts>,
    /// Why no route matches, if none does.
    pub no_route: Option<&'static str>,
    /// Why the policies are not checked, if they are not.
    pub no_policy: Option<&'static str>,
}

/// The decision about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The request is forwarded with the machine's identity.
    Passes,
    /// The request is forwarded without an identity: the route is open, and asks for no signature.
    PassesOpen,
    /// The request is forwarded as the client sent it, because the route only observes. An
    /// enforcing route would refuse it with this.
    PassesObserved(Refusal),
    /// The request is not forwarded.
    Refused(Refusal),
}

impl Prediction {
    /// Whether the request is forwarded.
    pub fn passes(&self) -> bool {
        !matches!(self, Prediction::Refused(_))
    }

    /// The code of the refusal, if the request is refused.
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
    /// The adapter that answers in place of forwarding, if the route has one.
    pub adapter: Option<AdapterFacts>,
}

/// The adapter of the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFacts {
    /// The clients whose calls it answers.
    pub kind: AdapterKind,
    /// The mount that it reads.
    pub kv: String,
    /// What it asks the backend for this request; `None` if the request is none of the calls.
    pub asks: Option<String>,
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
    /// The rule that allows the request, with its group; `Ok(None)` without rules; `Err` with the
    /// objection.
    pub rule: Result<Option<String>, String>,
    /// The network that the request comes from, with its group, if rules and networks allow it.
    pub network: Option<String>,
    /// The name of the credential that the request would carry.
    pub credential: Option<String>,
    /// Whether that credential is not configured, or has no value; with a login, whether the machine
    /// has no role.
    pub credential_missing: bool,
    /// The login by which the machine would get its token, unless the gateway holds one already.
    pub login: Option<PredictedLogin>,
    /// Paths that are closed to requests with a credential, except for routes inside them.
    pub closed: &'static [&'static str],
    /// Whether the target lies in one of them.
    pub is_closed: bool,
}

/// A login that a request may cause. The explanation does not try it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredictedLogin {
    /// The path of the login at the backend.
    pub path: String,
    /// The role that the machine would ask for, if it has one.
    pub role: Option<String>,
    /// The backend, by the claim `aud` of the assertion.
    pub audience: String,
}

/// The text in place of an upstream, for a route that manages the registry.
const THE_REGISTRY: &str = "the calls that manage the registry";

const FOR_OPERATORS: &str = "operators alone make this call, and no machine is one";

fn is_for_operators(matched: &RouteMatch<'_>) -> bool {
    let call = matched.call.as_ref();
    call.is_some_and(|call| call.signer() == CallSigner::Operator)
}

/// Explains a request.
///
/// # Errors
///
/// The metrics of the credentials cannot be declared: a bug.
pub fn explain(
    config: &Config,
    registry: &Registry,
    question: Question<'_>,
) -> prometheus::Result<Explanation> {
    let credentials = Credentials::new(config, &Metrics::new("", "")?, None);
    let parsed = Target::parse(question.target.as_bytes());
    let matched = RouteMatch::find(&config.routes, question.method, question.target.as_bytes());
    let index = (parsed.as_ref().ok()).and_then(|target| config.routes.find(target.path()));
    let route = index.map(|index| &config.routes[index]);
    let machine = registry.find(question.machine);
    let gate = route.map(|route| route.mode.at(question.at));
    let no_policy = match (&matched, &machine) {
        (Ok(matched), _) if is_for_operators(matched) => Some(FOR_OPERATORS),
        (_, None) => Some("the machine is not in the registry"),
        (Err(Refusal::NoRoute), _) if route.is_some() => {
            Some("the request is none of the calls that the route answers")
        }
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
                upstream: match route.upstream() {
                    Some(upstream) => config.upstreams[upstream].name.clone(),
                    None => THE_REGISTRY.to_owned(),
                },
                gate: route.mode.at(question.at),
                query: route.query,
                signed: signed.ok().map(|signed| signed.to_string()),
                adapter: (route.adapter.as_ref()).map(|it| adapter_facts(it, route, &question)),
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
        let signed = matched.target.under(route.query);
        let choose = |machine| match route.upstream() {
            Some(index) => credentials.choose(machine, index, &config.upstreams[index].name),
            None => Choice::Nothing,
        };
        if let Some(machine) = machine.filter(|_| no_policy.is_none()) {
            let path = matched.target.path();
            let facts = policy_facts(machine, route, path, choose(machine), question);
            explanation.policy = Some(facts);
        }
        let signed = signed?;
        if gate == Some(Gate::Nothing) {
            return Ok(());
        }
        let machine = machine.filter(|_| !is_for_operators(&matched));
        let machine = machine.ok_or(Refusal::BadSignature)?;
        may_act(machine, question.at)?;
        let circumstances = Circumstances {
            client: question.client,
            now: Duration::ZERO,
            rate_limits: &RateLimits::new(),
            rules_count: matched.call.is_none(),
        };
        let (method, target) = (matched.method.as_str(), signed.to_string());
        let choice = choose(machine);
        match Permitted::judge(machine, method, &target, route, choice, circumstances)? {
            Some(Carried::FromLogin(login)) if login.role_of(machine).is_none() => {
                Err(Refusal::UpstreamCredential)
            }
            _ => Ok(()),
        }
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

fn adapter_facts(adapter: &Adapter, route: &Route, question: &Question<'_>) -> AdapterFacts {
    let target = Target::parse(question.target.as_bytes()).ok();
    let target = target.and_then(|target| target.behind(&route.strip_prefix));
    let call = target.and_then(|target| ClientCall::find(question.method, target.path()));
    AdapterFacts {
        kind: adapter.kind,
        kv: adapter.kv.clone(),
        asks: call.map(|call| call.first_read(&adapter.kv)),
    }
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
    let login = match &choice {
        Choice::LogIn(login) => Some(PredictedLogin {
            path: login.path(),
            role: login.role_of(machine).map(str::to_owned),
            audience: login.audience().to_owned(),
        }),
        _ => None,
    };
    let has_no_role = login.as_ref().is_some_and(|login| login.role.is_none());
    PolicyFacts {
        rule,
        network,
        credential_missing: has_no_role
            || matches!(choice, Choice::NoValue(_) | Choice::NotConfigured),
        login,
        credential: match choice {
            Choice::Carry(injection) => Some(injection.name().to_owned()),
            Choice::NoValue(credential) => Some(credential.name().to_owned()),
            Choice::NotConfigured => machine.credential.as_deref().map(str::to_owned),
            Choice::LogIn(login) => Some(login.name().to_owned()),
            Choice::Nothing => None,
        },
        closed: if carries { &CREDENTIAL_PATHS } else { &[] },
        is_closed: carries && closed_path(target, route).is_some(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
