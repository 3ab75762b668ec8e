//! The route match: the part of the decision that takes a target and a method and nothing else, so
//! that it can be explained without a request.

use crate::config::{Route, Routes};
use countersign_core::method::{METHODS, Method};
use countersign_core::refusal::Refusal;
use countersign_core::target::Target;

/// A method and a target that a route accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteMatch<'a> {
    /// The index of the route.
    pub(crate) route: usize,
    pub(crate) method: Method<'a>,
    /// Without the prefix that the route strips.
    pub(crate) target: Target<'a>,
}

impl<'a> RouteMatch<'a> {
    /// Finds the route of a request, as its method and target were sent.
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
        Ok(RouteMatch {
            route: index,
            method,
            target,
        })
    }
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
