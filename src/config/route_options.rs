//! Reads the options of the routes.

use std::time::Duration;

use http::HeaderName;
use http::header::RANGE;

use super::adapter::AdapterOption;
use super::assertion_option::assertion;
use super::credential::Credential;
use super::enrolment::{EnrolmentRoute, enrolment_route};
use super::management::ManagementOption;
use super::mode::{self, Mode};
use super::registry::RegistryConfig;
use super::route_lists::{forward_headers, methods};
use super::route_path::route_path;
use super::routes::{Route, RouteService, Routes};
use super::units::{duration, size};
use super::upstreams::{Named, Upstream};
use crate::yaml::{Field, Table, did_you_mean, one_of, quoted};
use countersign_core::target::QueryPolicy;

/// The parts of the configuration that the options of a route depend on.
pub(super) struct RouteContext<'c> {
    /// The identity header, which only the gateway sets.
    pub(super) identity: &'c HeaderName,
    /// The headers of all credentials, which only the gateway sets.
    pub(super) secret_headers: &'c [HeaderName],
    /// Whether there are keys for assertions.
    pub(super) can_assert: bool,
    /// The credentials that machines may name.
    pub(super) credentials: &'c [Credential],
    pub(super) registry: Option<&'c RegistryConfig>,
    /// Unix seconds, for dates.
    pub(super) now: u64,
}

/// Reads the list of routes to the upstreams known, and warns of upstreams without a route. A
/// route must not forward a client header that the gateway sets: the identity header, those of
/// credentials, or a header of the route's upstream.
pub(super) fn read<'a>(
    root: &mut Table<'a>,
    upstreams: &[Named<'_>],
    context: &RouteContext<'_>,
) -> (Routes, Vec<EnrolmentRoute<'a>>) {
    let &RouteContext {
        identity,
        secret_headers,
        can_assert,
        credentials,
        registry,
        now,
    } = context;
    let Some(list) = root.required("routes") else {
        return (Routes::new(Vec::new()), Vec::new());
    };
    let items = list.some_items("has no route; without one every request is refused");
    let mut enrolment: Vec<EnrolmentRoute<'_>> = Vec::new();
    let mut routes: Vec<Route> = Vec::with_capacity(items.len());
    let mut fields = Vec::with_capacity(items.len());
    let mut used = vec![false; upstreams.len()];
    for item in &items {
        let mut table = item.table();
        if table.has_any(&["enrolment"]) && table.truth("enrolment", false) {
            enrolment.extend(enrolment_route(item, &mut table, &enrolment));
            continue;
        }
        let management = ManagementOption::read(&mut table);
        let path = table.required("path").and_then(|field| {
            let path = field.parse(route_path)?;
            if routes.iter().any(|known| known.path == path) {
                field.mistake(format!(
                    "another route has the prefix {path} already; merge them"
                ));
            }
            Some(path)
        });
        let upstream = match management {
            None => (table.required("upstream")).and_then(|field| find(&field, upstreams)),
            Some(_) => None,
        };
        if let Some(index) = upstream {
            used[index] = true;
        }
        let upstream_sets = upstream.and_then(|index| upstreams[index].upstream.as_ref());
        let taken: Vec<&HeaderName> = upstream_sets
            .iter()
            .flat_map(|upstream| upstream.headers_set())
            .chain(secret_headers)
            .chain([identity])
            .collect();
        let strip_prefix = strip_prefix(&mut table, path.as_deref());
        let assertion = (table.field("assertion")).and_then(|field| {
            assertion(
                &field,
                upstream.map(|index| &upstreams[index]),
                upstreams,
                can_assert,
            )
        });
        let adapter = AdapterOption::read(&mut table);
        let route = Route {
            path: path.clone().unwrap_or_else(|| "/".to_owned()),
            strip_prefix,
            assertion: assertion.unwrap_or(false),
            ..rest(&mut table, &taken, now)
        };
        if route.assertion && route.mode == Mode::Open {
            let text = "has no effect on an open route, which names no machine; remove it";
            table.mistake("assertion", text);
        }
        if route.assertion && adapter.is_some() {
            let text = "cannot stand beside `adapter`: an assertion names the signed request, and \
                        the backend gets other ones; remove it";
            table.mistake("assertion", text);
        }
        let adapter = adapter
            .and_then(|it| it.check(route.mode, route.inner_path(), upstream_sets, credentials));
        warn_of_headers_lost(item, route.mode, upstream_sets);
        warn_of_ranges(item, &route, upstream_sets, !secret_headers.is_empty());
        if let (Some(path), Some(management)) = (&path, &management) {
            fields.push((path.clone(), item));
            routes.push(management.route(route, registry));
        } else if let (Some(path), Some(upstream)) = (path, upstream) {
            if route.mode == Mode::Open && path == "/" {
                item.warning("opens every path that has no longer route to anybody");
            }
            fields.push((path.clone(), item));
            routes.push(Route {
                path,
                service: RouteService::Upstream(upstream),
                query: match adapter {
                    None => route.query,
                    Some(_) => QueryPolicy::Reject,
                },
                adapter,
                ..route
            });
        }
    }
    for (named, _) in upstreams.iter().zip(used).filter(|(_, used)| !used) {
        named.field.warning("no route goes to this upstream");
    }
    let routes = Routes::new(routes);
    for (one, other) in routes.at_two_upstreams() {
        let (one, other) = (&routes[one], &routes[other]);
        if let Some((_, field)) = fields.iter().find(|(path, _)| *path == one.path) {
            field.mistake(format!(
                "maps the signed path {} to another upstream than the route {}, so that what is \
                 signed for one could be sent to the other; give both one upstream, or let clients \
                 sign the prefix",
                one.inner_path(),
                other.path
            ));
        }
    }
    (routes, enrolment)
}

/// All options of a route but `path`, `strip_prefix`, `upstream` and `adapter`.
fn rest(table: &mut Table<'_>, taken: &[&HeaderName], now: u64) -> Route {
    let timeout = |table: &mut Table<'_>, key, least| {
        let field = table.field(key)?;
        field.parse(duration(least..=Duration::from_secs(3600)))
    };
    let policies = QueryPolicy::ALL.map(|policy| (policy.as_str(), policy));
    Route {
        path: String::new(),
        service: RouteService::Upstream(0),
        mode: mode::read(table, now),
        strip_prefix: String::new(),
        query: table.value("query", QueryPolicy::Strip, one_of(&policies)),
        max_body: table.value("max_body", 1 << 20, size(0..=32 << 20)),
        methods: methods(table),
        forward_headers: forward_headers(table, taken),
        read_timeout: timeout(table, "read_timeout", Duration::from_millis(10)),
        body_timeout: timeout(table, "body_timeout", Duration::from_millis(100)),
        assertion: false,
        adapter: None,
    }
}

/// The headers in the upstream's `set_headers` are the gateway's alone, also on requests that get
/// none of them.
fn warn_of_headers_lost(route: &Field<'_>, mode: Mode, upstream: Option<&Upstream>) {
    let set = upstream.map_or(&[][..], |upstream| &upstream.set_headers);
    if mode.open_until().is_some() && !set.is_empty() {
        let names: Vec<&str> = set.iter().map(|(name, _)| name.as_str()).collect();
        route.warning(format!(
            "lets unsigned requests pass: from those, {} is removed and not set, because the \
             upstream sets it on signed requests",
            names.join(", ")
        ));
    }
}

/// The echo check sees one answer at a time, and a client may ask for a page in parts.
fn warn_of_ranges(
    field: &Field<'_>,
    route: &Route,
    upstream: Option<&Upstream>,
    machines_have_credentials: bool,
) {
    let is_checked = upstream.is_some_and(|upstream| {
        let carries = upstream.credential.is_some() || upstream.login.is_some();
        upstream.echo_check && (carries || machines_have_credentials)
    });
    if is_checked && route.forward_headers.contains(&RANGE) {
        field.warning(
            "forwards Range to a backend that gets a credential: a client can ask for a page that \
             shows the credential in parts, and the echo check finds it in none of them. Make sure \
             that only stored files lie below this route",
        );
    }
}

/// Reads `strip_prefix`: a prefix of the route's own, so that it is there in every
/// request that the route gets.
fn strip_prefix(table: &mut Table<'_>, path: Option<&str>) -> String {
    let Some(field) = table.field("strip_prefix") else {
        return String::new();
    };
    let prefix = field.parse(route_path).unwrap_or_default();
    let inside = |path: &str| {
        path.strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if prefix == "/" {
        field.mistake("strips nothing; remove it");
    } else if path.is_some_and(|path| !inside(path)) {
        field.mistake(format!(
            "{prefix} is not the beginning of the route's path, on whole segments"
        ));
    }
    prefix
}

fn find(field: &Field<'_>, upstreams: &[Named<'_>]) -> Option<usize> {
    field.parse(|name| {
        let known = upstreams.iter().position(|upstream| upstream.name == name);
        known.ok_or_else(|| {
            let hint = did_you_mean(name, upstreams.iter().map(|upstream| upstream.name));
            format!("there is no upstream {}{hint}", quoted(name))
        })
    })
}
