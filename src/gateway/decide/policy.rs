//! The policies of the machine and the gateway, for an admitted request.

use core::net::IpAddr;
use std::time::Duration;

use crate::config::Route;
use crate::gateway::decide::rate_limits::RateLimits;
use crate::gateway::upstream::credentials::{Carried, Choice};
use countersign_core::decision::{Admitted, Denied, Signed};
use countersign_core::identity::Machine;
use countersign_core::policy::{Objection, Permission};
use countersign_core::refusal::Refusal;
use countersign_core::target::behind;

/// An admitted request that the policy lets through, with the credential it carries.
#[derive(Debug)]
pub(crate) struct Permitted {
    admitted: Admitted,
    carried: Option<Carried>,
}

/// Where Vault-like servers issue, show and revoke tokens.
pub(crate) const CREDENTIAL_PATHS: [&str; 2] = ["/v1/auth", "/v1/sys"];

/// Where a request comes from, and when, for its policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    /// The address that the gateway believes it to come from.
    pub(crate) client: Option<IpAddr>,
    /// On the monotonic clock.
    pub(crate) now: Duration,
    /// The rate limits of the machines.
    pub(crate) rate_limits: &'a RateLimits,
    /// Whether the rules of `allow` count. The networks and the rate always do.
    pub(crate) rules_count: bool,
}

impl Permitted {
    /// Checks the machine's policy, then the gateway's. The gateway closes the paths at which a
    /// Vault-like backend shows the credential of the request, or issues another from it. A route
    /// inside such a path opens it.
    ///
    /// The machine's rate comes last. It comes after the nonce, or replays of one captured request
    /// could use up the rate. It comes after the other checks, so that a request that may never
    /// pass is not told to try again.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotPermitted`]; [`Refusal::PathClosed`]; [`Refusal::UpstreamCredential`] if the
    /// credential has no value; [`Refusal::Throttled`] above the rate.
    pub(crate) fn check(
        admitted: Admitted,
        route: &Route,
        choice: Choice,
        circumstances: Circumstances<'_>,
    ) -> Result<Permitted, Box<Denied>> {
        let signed = admitted.signed();
        let (machine, message) = (signed.machine(), signed.message());
        let (method, target) = (message.method(), message.target());
        match Self::judge(machine, method, target, route, choice, circumstances) {
            Ok(carried) => Ok(Permitted { admitted, carried }),
            Err(refusal) => Err(admitted.deny(refusal)),
        }
    }

    /// Makes the judgement of [`Permitted::check`], and gives no permission.
    ///
    /// # Errors
    ///
    /// As [`Permitted::check`].
    pub(crate) fn judge(
        machine: &Machine,
        method: &str,
        target: &str,
        route: &Route,
        choice: Choice,
        circumstances: Circumstances<'_>,
    ) -> Result<Option<Carried>, Refusal> {
        match (&machine.policy, circumstances.rules_count) {
            (Some(policy), false) => drop(policy.judge_client(circumstances.client)?),
            _ => drop(judge_machine(
                machine,
                method,
                target,
                circumstances.client,
            )?),
        }
        let carried = match (choice, closed_path(target, route)) {
            (Choice::Nothing, _) => None,
            (_, Some(closed)) => return Err(Refusal::PathClosed(closed)),
            (Choice::Carry(injection), None) => Some(Carried::Secret(injection)),
            (Choice::LogIn(login), None) => Some(Carried::FromLogin(login)),
            (Choice::NoValue(_) | Choice::NotConfigured, None) => {
                return Err(Refusal::UpstreamCredential);
            }
        };
        if let Some(rate) = machine.policy.as_ref().and_then(|policy| policy.rate) {
            (circumstances.rate_limits)
                .take(&machine.id, rate, circumstances.now)
                .map_err(|retry_after| Refusal::Throttled { retry_after })?;
        }
        Ok(carried)
    }

    /// The secret that it carries.
    pub(crate) fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// The signed message and its machine.
    pub(crate) fn signed(&self) -> &Signed {
        self.admitted.signed()
    }

    /// Turns the permission into a refusal.
    pub(crate) fn deny(self, refusal: Refusal) -> Box<Denied> {
        self.admitted.deny(refusal)
    }
}

/// Judges a request by the policy of its machine; `None` if the machine has none. The query of the
/// target does not count.
pub(crate) fn judge_machine<'m>(
    machine: &'m Machine,
    method: &str,
    target: &str,
    client: Option<IpAddr>,
) -> Result<Option<Permission<'m>>, Objection> {
    let Some(policy) = &machine.policy else {
        return Ok(None);
    };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    policy.judge(method, path, client).map(Some)
}

/// Returns the closed path that this target lies in. `None`: a request that carries a credential
/// may go there on this route.
pub(crate) fn closed_path(target: &str, route: &Route) -> Option<&'static str> {
    let is_shut = |closed: &&str| lies_in(target, closed) && !lies_in(route.inner_path(), closed);
    CREDENTIAL_PATHS.into_iter().find(is_shut)
}

/// Whether a path or target lies at or below `prefix`, on whole segments.
fn lies_in(target: &str, prefix: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    behind(path, prefix).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_a_prefix_on_whole_segments() {
        for inside in ["/v1/sys", "/v1/sys/", "/v1/sys/mounts", "/v1/sys?x"] {
            assert!(lies_in(inside, "/v1/sys"), "{inside}");
        }
        for outside in ["/v1/system", "/v1", "/v1/secret/sys", "/"] {
            assert!(!lies_in(outside, "/v1/sys"), "{outside}");
        }
    }
}
