//! A route of the calls that manage the registry, in place of an upstream.

use super::registry::RegistryConfig;
use super::routes::{Route, RouteService};
use crate::yaml::{Field, Table};
use countersign_core::target::QueryPolicy;

/// Options that have no meaning on such a route, and why.
const EXCLUDED: [(&str, &str); 12] = [
    ("upstream", NOT_FORWARDED),
    ("mode", "its calls are always signed"),
    ("observe_until", "its calls are always signed"),
    ("bearer_until", "its calls are always signed"),
    ("strip_prefix", NOT_FORWARDED),
    ("query", "queries of its calls are always signed"),
    ("methods", "it takes the methods of its calls alone"),
    ("forward_headers", NOT_FORWARDED),
    ("assertion", NOT_FORWARDED),
    ("read_timeout", NOT_FORWARDED),
    ("adapter", NOT_FORWARDED),
    (
        "enrolment",
        "a machine that enrols signs nothing; give it a route of its own",
    ),
];

const NOT_FORWARDED: &str = "its requests are never forwarded";

/// `management: true` of a route.
pub(super) struct ManagementOption<'a>(Field<'a>);

impl<'a> ManagementOption<'a> {
    /// Reads `management` of a route, before any other option. Options that it excludes are
    /// mistakes. `None`: the route has an upstream.
    pub(super) fn read(table: &mut Table<'a>) -> Option<ManagementOption<'a>> {
        let excluded = EXCLUDED.map(|(key, why)| (table.has_any(&[key]), key, why));
        let field = table.field("management")?;
        if field.truth() != Some(true) {
            return None;
        }
        for (is_there, key, why) in excluded {
            if is_there {
                table.mistake(
                    key,
                    format!("cannot stand beside `management`: {why}; remove it"),
                );
            }
        }
        // Known, so that it is no second mistake.
        table.field("upstream");
        Some(ManagementOption(field))
    }

    /// Checks the rest of the route, and makes it one of the calls. `registry` is `None` after a
    /// mistake in it.
    pub(super) fn route(&self, route: Route, registry: Option<&RegistryConfig>) -> Route {
        if let Some(registry) = registry {
            self.check(registry);
        }
        if route.path == "/" {
            self.0.mistake(
                "needs a path of its own, such as /countersign/v1: at / it would take every request \
                 that has no longer route",
            );
        }
        Route {
            service: RouteService::Management,
            query: QueryPolicy::Signed,
            ..route
        }
    }

    fn check(&self, registry: &RegistryConfig) {
        if registry.database().is_none() {
            self.0.mistake(
                "needs a registry in a database (registry.database): files are edited by hand or \
                 with countersign machine",
            );
        }
        if registry.operators.is_none() {
            self.0.mistake(
                "needs operators, who sign its calls: name their file in registry.operators",
            );
        }
    }
}
