//! Which route a signed path can be sent to. A signature covers the path behind `strip_prefix`, so
//! one path may be sent under several prefixes, and must mean the same under each.
//!
//! Routes are written without percent-encoding. A request may encode what its prefix need not
//! (`/a%40b` for `/a@b`) and gets to the same route, so their written forms are all there is to compare.

use std::collections::BTreeSet;

use super::mode::Mode;
use super::routes::Routes;

/// Pairs of routes, by their indices, to which one and the same signed path can be sent under
/// different prefixes, and which send it to different upstreams. Whoever sees a request to one of
/// them could send it to the other, where it was not meant to go, before it arrives (afterwards it
/// is a replay). Open routes verify no signature and take no part.
///
/// It is enough to try the signed paths of the routes themselves: of two routes that share a signed
/// path, the one with the longer inner path gets its own inner path, and the other one, whose inner
/// path is a prefix of that, gets it too, unless a longer route takes it away; and that one would
/// take away everything below it as well.
pub(super) fn at_two_upstreams(routes: &Routes) -> Vec<(usize, usize)> {
    let prefixes: BTreeSet<&str> = routes.iter().map(|route| &*route.strip_prefix).collect();
    if prefixes.len() < 2 {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        for &prefix in &prefixes {
            let sent = format!("{prefix}{}", route.inner_path());
            let Some(other) = routes.find(&sent) else {
                continue;
            };
            let other_route = &routes[other];
            if prefix != route.strip_prefix
                && other_route.strip_prefix == prefix
                && other_route.upstream != route.upstream
                && [route, other_route].iter().all(|r| r.mode != Mode::Open)
            {
                found.push((index, other));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::routes::Route;
    use super::*;
    use crate::auth::target::QueryPolicy;

    fn routes(list: &[(&str, &str, usize)]) -> Routes {
        let route = |&(path, strip_prefix, upstream): &(&str, &str, usize)| Route {
            path: path.to_owned(),
            upstream,
            mode: Mode::ENFORCE,
            strip_prefix: strip_prefix.to_owned(),
            query: QueryPolicy::Strip,
            max_body: 0,
            methods: Vec::new(),
            forward_headers: Vec::new(),
            read_timeout: None,
            body_timeout: None,
        };
        Routes::new(list.iter().map(route).collect())
    }

    #[track_caller]
    fn assert_conflict(list: &[(&str, &str, usize)], expected: bool) {
        let found = at_two_upstreams(&routes(list));
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
                (routes[index].strip_prefix == prefix).then(|| routes[index].upstream)
            };
            let expected = world.iter().any(|signed| {
                let mut ends = ["", "/a", "/b", "/a/a"]
                    .iter()
                    .filter_map(|p| lands(p, signed));
                let first = ends.next();
                ends.any(|end| Some(end) != first)
            });
            conflicts += usize::from(expected);
            assert_eq!(!at_two_upstreams(&routes).is_empty(), expected, "{list:?}");
        }
        assert!((100..2900).contains(&conflicts), "{conflicts}");
    }
}
