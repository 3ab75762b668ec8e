//! What a request asks for, and on which route: the part of the decision that takes a target and a
//! method and nothing else, so that it can be asked about without a request.

use crate::auth::method::{METHODS, Method};
use crate::auth::refusal::Refusal;
use crate::auth::target::Target;
use crate::config::{Route, Routes};

/// A method and a target that a route takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The index of the route.
    pub(crate) route: usize,
    pub(crate) method: Method<'a>,
    /// Less what the route strips of its path.
    pub(crate) target: Target<'a>,
}

impl<'a> Asked<'a> {
    /// Finds the route of a request, as its method and target were sent.
    ///
    /// # Errors
    ///
    /// [`Refusal::BadTarget`], [`Refusal::NoRoute`], [`Refusal::MethodNotAllowed`].
    pub(crate) fn of(
        routes: &Routes,
        method: &'a str,
        target: &'a [u8],
    ) -> Result<Asked<'a>, Refusal> {
        let target = Target::parse(target).map_err(Refusal::BadTarget)?;
        let index = routes.find(target.path()).ok_or(Refusal::NoRoute)?;
        let route = &routes[index];
        let method = Method::accept(method, &route.methods).ok_or_else(|| not_allowed(route))?;
        let target = target.behind(&route.strip_prefix).ok_or(Refusal::NoRoute)?;
        Ok(Asked {
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
