//! The routes: path prefixes, their upstreams, and their rules for requests.

use std::collections::BTreeSet;
use std::ops::Index;
use std::time::Duration;

use http::HeaderName;

use super::adapter::Adapter;
use super::mode::Mode;
use countersign_core::target::{self, QueryPolicy};

/// A route: the requirements of one path prefix, and the upstream of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path prefix, on whole segments; without a trailing slash unless it is `/` itself. The
    /// name of the route in records and metrics.
    pub path: String,
    /// The part that answers its requests.
    pub service: RouteService,
    /// Whether requests must be signed. Default: [`Mode::ENFORCE`].
    pub mode: Mode,
    /// The prefix that is removed before a path is verified and forwarded, on whole segments and
    /// without a trailing slash: for clients that send a prefix and do not sign it. The route's
    /// own path begins with it. Empty, the default: nothing.
    pub strip_prefix: String,
    /// The treatment of a query. Default: [`QueryPolicy::Strip`].
    pub query: QueryPolicy,
    /// Largest body taken, in bytes, default 1 MiB, at most 32 MiB; beyond it, `body_too_large`.
    pub max_body: u64,
    /// Methods taken besides [`METHODS`](countersign_core::method::METHODS); upper case. Default:
    /// none.
    pub methods: Vec<String>,
    /// Unsigned client headers that are forwarded besides
    /// [`ALLOWED`](crate::config::headers::ALLOWED). Default: none.
    pub forward_headers: Vec<HeaderName>,
    /// In place of the upstream's [`read_timeout`](super::Upstream::read_timeout).
    pub read_timeout: Option<Duration>,
    /// In place of [`Limits::body_timeout`](super::Limits::body_timeout).
    pub body_timeout: Option<Duration>,
    /// Whether the gateway sends its assertion about the machine in `X-Machine-Assertion`. Default:
    /// no.
    pub assertion: bool,
    /// Answers the calls of other clients by reads of a key/value store. Default: none, and requests
    /// are forwarded as they were signed. With one, [`Route::query`] is [`QueryPolicy::Reject`].
    pub adapter: Option<Adapter>,
}

/// The part that answers the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteService {
    /// An upstream: the index in [`Config::upstreams`](super::Config::upstreams).
    Upstream(usize),
    /// The gateway itself: the calls that manage the registry. [`Route::mode`] is
    /// [`Mode::ENFORCE`], [`Route::query`] is [`QueryPolicy::Signed`], and nothing is stripped.
    Management,
}

impl Route {
    /// Its upstream: the index in [`Config::upstreams`](super::Config::upstreams). `None`: its
    /// requests are never forwarded.
    pub fn upstream(&self) -> Option<usize> {
        match self.service {
            RouteService::Upstream(index) => Some(index),
            RouteService::Management => None,
        }
    }

    /// Its path as the backend sees it, and as clients sign it.
    pub fn inner_path(&self) -> &str {
        match self.path.strip_prefix(&self.strip_prefix) {
            Some("") | None => "/",
            Some(path) => path,
        }
    }
}

/// The routes, the longest path first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes(Box<[Route]>);

impl Routes {
    /// The lookup over `routes`, whose paths differ.
    pub fn new(mut routes: Vec<Route>) -> Routes {
        routes.sort_by(|a, b| {
            b.path
                .len()
                .cmp(&a.path.len())
                .then_with(|| a.path.cmp(&b.path))
        });
        Routes(routes.into())
    }

    /// The index of the route of a path (without its query): the one with the longest prefix, on
    /// whole segments, so that `/v1/a` has `/v1/a` and `/v1/a/b` but not `/v1/ab`; `/a@b` has
    /// `/a%40b` too ([`target::behind`]). `None` refuses the request with `no_route`.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.0.iter().position(|route| {
            let prefix = route.path.trim_end_matches('/');
            !path.is_empty() && target::behind(path, prefix).is_some()
        })
    }

    /// All routes, the longest path first.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// Pairs of routes, by their indices, that take the same signed path under different prefixes
    /// and send it to different upstreams. Example: `/a/x` with `strip_prefix: /a`, and `/b/x` with
    /// `strip_prefix: /b`, both take the signed path `/x`.
    ///
    /// A signature covers the path behind `strip_prefix`. So an eavesdropper on one of the two
    /// routes could send the request to the other one first (afterwards it is a replay). Open
    /// routes verify no signature and take no part.
    ///
    /// Routes are written without percent-encoding. A request that encodes its prefix (`/a%40b` for
    /// `/a@b`) reaches the same route, so comparing the written forms is enough.
    ///
    /// Trying the inner paths of the routes is enough, too. Take `/a` with no `strip_prefix`, and
    /// `/x/a/b` that strips `/x`. They share the signed path `/a/b/c`, and then also `/a/b`, the
    /// longer inner path. Only a route with a longer path can take `/a/b` from the first route, and
    /// it takes all paths below `/a/b` too.
    pub(super) fn at_two_upstreams(&self) -> Vec<(usize, usize)> {
        let prefixes: BTreeSet<&str> = self.iter().map(|route| &*route.strip_prefix).collect();
        if prefixes.len() < 2 {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (index, route) in self.iter().enumerate() {
            for &prefix in &prefixes {
                let sent = format!("{prefix}{}", route.inner_path());
                let Some(other) = self.find(&sent) else {
                    continue;
                };
                let other_route = &self[other];
                if prefix != route.strip_prefix
                    && other_route.strip_prefix == prefix
                    && other_route.service != route.service
                    && [route, other_route].iter().all(|r| r.mode != Mode::Open)
                {
                    found.push((index, other));
                }
            }
        }
        found
    }
}

impl Index<usize> for Routes {
    type Output = Route;

    fn index(&self, index: usize) -> &Route {
        &self.0[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::target::QueryPolicy;

    fn routes(list: &[(&str, &str, usize)]) -> Routes {
        let route = |&(path, strip_prefix, upstream): &(&str, &str, usize)| Route {
            path: path.to_owned(),
            service: RouteService::Upstream(upstream),
            mode: Mode::ENFORCE,
            strip_prefix: strip_prefix.to_owned(),
            query: QueryPolicy::Strip,
            max_body: 0,
            methods: Vec::new(),
            forward_headers: Vec::new(),
            read_timeout: None,
            body_timeout: None,
            assertion: false,
            adapter: None,
        };
        Routes::new(list.iter().map(route).collect())
    }

    #[track_caller]
    fn assert_conflict(list: &[(&str, &str, usize)], expected: bool) {
        let found = routes(list).at_two_upstreams();
        assert_eq!(!found.is_empty(), expected, "{found:?}");
    }

    #[test]
    fn routes_without_a_stripped_prefix_share_no_signed_path() {
        assert_conflict(&[("/", "", 0), ("/a", "", 1), ("/a/b", "", 2)], false);
    }

    #[test]
    fn a_stripped_prefix_beside_a_route_for_everything_is_a_conflict() {
        assert_conflict(&[("/", "", 0), ("/s", "/s", 1)], true);
    }

    #[test]
    fn the_same_upstream_behind_both_is_none() {
        assert_conflict(&[("/", "", 0), ("/s", "/s", 0)], false);
    }

    #[test]
    fn two_stripped_prefixes_with_overlapping_paths_are_a_conflict() {
        assert_conflict(&[("/a/v1", "/a", 0), ("/b/v1/x", "/b", 1)], true);
        assert_conflict(&[("/a/v1", "/a", 0), ("/b/v2", "/b", 1)], false);
        assert_conflict(&[("/a/v1", "/a", 0), ("/b/v11", "/b", 1)], false);
    }

    #[test]
    fn a_longer_route_that_takes_the_shared_path_away_resolves_it() {
        let shared = [("/", "", 0), ("/s/v1", "/s", 1)];
        assert_conflict(&shared, true);
        assert_conflict(&[shared[0], shared[1], ("/v1", "", 1)], false);
    }

    #[test]
    fn a_longer_route_that_takes_away_only_a_part_does_not() {
        let routes = [("/", "", 0), ("/s/v1", "/s", 1), ("/v1/x", "", 1)];
        assert_conflict(&routes, true);
    }

    /// The claim that the routes' own inner paths are enough, against every path of a small world.
    #[test]
    fn it_finds_what_trying_every_path_finds() {
        const PATHS: [&str; 7] = ["/", "/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/b"];
        let segments = ["", "/a", "/b"];
        let mut world = vec![];
        for one in segments {
            for two in segments {
                for three in segments {
                    for four in segments {
                        world.push(format!("{one}{two}{three}{four}/"));
                    }
                }
            }
        }
        let mut seed = 7_u64;
        let mut next = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap_or(0) % bound
        };
        let mut conflicts = 0;
        for _ in 0..3000 {
            let mut list: Vec<(&str, &str, usize)> = Vec::new();
            for _ in 0..4 {
                let path = PATHS[next(PATHS.len())];
                let strip = ["", "/a", "/b", "/a/a"][next(4)];
                let inside = path.strip_prefix(strip);
                if inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    && list.iter().all(|(known, ..)| *known != path)
                {
                    list.push((path, strip, next(2)));
                }
            }
            let routes = routes(&list);
            let lands = |prefix: &str, signed: &str| {
                let index = routes.find(&format!("{prefix}{signed}"))?;
                (routes[index].strip_prefix == prefix).then(|| routes[index].service)
            };
            let expected = world.iter().any(|signed| {
                let mut ends = ["", "/a", "/b", "/a/a"]
                    .iter()
                    .filter_map(|p| lands(p, signed));
                let first = ends.next();
                ends.any(|end| Some(end) != first)
            });
            conflicts += usize::from(expected);
            assert_eq!(!routes.at_two_upstreams().is_empty(), expected, "{list:?}");
        }
        assert!((100..2900).contains(&conflicts), "{conflicts}");
    }
}
