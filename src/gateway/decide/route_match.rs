//! The route match: the part of the decision that needs only a target and a method, so that it can
//! be explained without a request.

use pingora::http::RequestHeader;

use crate::config::{Route, RouteService, Routes};
use crate::gateway::adapter::client_call::ClientCall;
use crate::management::call::{NoCall, RegistryCall};
use countersign_core::method::{METHODS, Method};
use countersign_core::refusal::Refusal;
use countersign_core::target::{Target, behind};

/// A method and a target that a route accepts.
#[derive(Clone, Debug)]
pub(crate) struct RouteMatch<'a> {
    /// The index of the route.
    pub(crate) route: usize,
    pub(crate) method: Method<'a>,
    /// Without the prefix that the route strips.
    pub(crate) target: Target<'a>,
    /// The call, exactly on a route that manages the registry.
    pub(crate) call: Option<RegistryCall>,
}

impl<'a> RouteMatch<'a> {
    /// Finds the route of a request, as its method and target were sent. A route with an adapter has
    /// no paths but those of its clients' calls, and one that manages the registry none but those of
    /// its own.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadTarget`], [`Refusal::NoRoute`], [`Refusal::MethodNotAllowed`].
    pub(crate) fn find(
        routes: &Routes,
        method: &'a str,
        target: &'a [u8],
    ) -> Result<RouteMatch<'a>, Refusal> {
        let target = Target::parse(target).map_err(Refusal::BadTarget)?;
        let index = routes.find(target.path()).ok_or(Refusal::NoRoute)?;
        let route = &routes[index];
        let method = Method::accept(method, &route.methods).ok_or_else(|| not_allowed(route))?;
        let target = target.behind(&route.strip_prefix).ok_or(Refusal::NoRoute)?;
        if route.adapter.is_some() && ClientCall::find(method.as_str(), target.path()).is_none() {
            return Err(Refusal::NoRoute);
        }
        let call = match route.service {
            RouteService::Upstream(_) => None,
            RouteService::Management => Some(call(method, target, route)?),
        };
        Ok(RouteMatch {
            route: index,
            method,
            target,
            call,
        })
    }
}

/// The call of a request on a route that manages the registry.
fn call(method: Method<'_>, target: Target<'_>, route: &Route) -> Result<RegistryCall, Refusal> {
    let path = behind(target.path(), &route.path).ok_or(Refusal::NoRoute)?;
    RegistryCall::find(method.as_str(), path).map_err(|why| match why {
        NoCall::Path => Refusal::NoRoute,
        NoCall::Method(allowed) => Refusal::MethodNotAllowed {
            allow: allowed.join(", ").into(),
        },
    })
}

/// Returns the index of the route that the record of a refused request names. The target was parsed
/// by Pingora here, because a target outside the grammar may still lie in a route. For a target
/// inside the grammar it is the route that [`RouteMatch::find`] looks up; a test holds that.
pub(crate) fn route_of_refused(routes: &Routes, head: &RequestHeader) -> Option<usize> {
    routes.find(head.uri.path())
}

fn not_allowed(route: &Route) -> Refusal {
    let methods: Vec<&str> = METHODS
        .into_iter()
        .chain(route.methods.iter().map(String::as_str))
        .collect();
    Refusal::MethodNotAllowed {
        allow: methods.join(", ").into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes() -> Routes {
        let text = "
listeners: [{ address: 127.0.0.1:0 }]
registry: { file: machines.yaml }
upstreams: { a: { servers: ['http://127.0.0.1:1'] } }
routes: [{ path: /a, upstream: a }, { path: /a/b, upstream: a }]
";
        let environment = crate::config::Environment::of_process(1_800_000_000);
        let file = std::path::Path::new("countersign.yaml");
        let loaded = crate::config::read(text, file, &environment);
        loaded.unwrap().config.routes
    }

    proptest! {
        #[test]
        fn the_record_of_a_refused_request_names_the_route_that_the_match_found(
            target in "(/[ab.]{0,2}|[!-~]{0,2}|%[0-9A-F]{2}){0,4}([?#][!-~]{0,4})?"
        ) {
            let routes = routes();
            let Ok(parsed) = Target::parse(target.as_bytes()) else { return Ok(()) };
            let head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            prop_assert_eq!(head.raw_path(), target.as_bytes());
            prop_assert_eq!(route_of_refused(&routes, &head), routes.find(parsed.path()));
        }
    }
}
