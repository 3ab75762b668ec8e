//! Reads whether a route sends assertions, and checks that nobody else can log in with them.

use std::collections::BTreeSet;

use super::upstreams::{Named, Upstream};
use crate::yaml::Field;

/// Reads whether the gateway sends an assertion on the route to this upstream, one of `upstreams`.
pub(super) fn assertion(
    field: &Field<'_>,
    upstream: Option<&Named<'_>>,
    upstreams: &[Named<'_>],
    can_assert: bool,
) -> Option<bool> {
    let is_on = field.truth()?;
    if !is_on {
        return Some(false);
    }
    if !can_assert {
        field.mistake(
            "needs the gateway's signing key: add assertion: { issuer: https://gw.example, keys: \
             [assertion.pem] }",
        );
    }
    if let Some(Named {
        name,
        upstream: Some(upstream),
        ..
    }) = upstream
    {
        match upstream.assertion_audience() {
            Some(audience) => check_audience(field, upstream, audience, upstreams),
            None => field.mistake(format!(
                "needs the name of the backend, which the assertion is for: add \
                 upstreams.{name}.audience"
            )),
        }
    }
    Some(true)
}

/// A backend that gets an assertion with the audience of a login can log in with it as the machine,
/// while the assertion is valid.
fn check_audience(field: &Field<'_>, upstream: &Upstream, audience: &str, all: &[Named<'_>]) {
    let all = all.iter().filter_map(|named| named.upstream.as_ref());
    let of_login =
        |other: &&Upstream| (other.login.as_ref()).is_some_and(|login| login.audience == audience);
    for other in all.filter(of_login) {
        let key = match upstream.audience {
            Some(_) => "audience",
            None => "login.audience",
        };
        let (name, login) = (&upstream.name, &other.name);
        if servers(upstream) == servers(other) {
            field.warning(format!(
                "sends an assertion that the backend's own login takes, because \
                 upstreams.{login}.login.audience is its audience: whoever finds one in a log of the \
                 backend can log in as the machine for a minute. Set upstreams.{name}.audience to \
                 another name"
            ));
        } else {
            field.mistake(format!(
                "would let the servers of {name} log in at {login} as the machine, because \
                 upstreams.{name}.{key} is the same as upstreams.{login}.login.audience; give {name} \
                 another audience"
            ));
        }
    }
}

fn servers(upstream: &Upstream) -> BTreeSet<&str> {
    let servers = upstream.servers.iter();
    servers.map(|server| &*server.authority).collect()
}
