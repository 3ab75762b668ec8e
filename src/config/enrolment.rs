//! Enrolment: the routes at which machines register themselves, and who vouches for them.

use std::path::Path;

use super::GatewayUrl;
use super::joiner::{self, Joiner};
use super::registry::RegistryConfig;
use super::route_options::route_path;
use crate::yaml::{Field, Table};

/// The settings of enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The prefixes of the paths, without a slash at their end; at least one.
    pub prefixes: Vec<String>,
    /// The URL under which machines reach this gateway. Every enrolled machine gets it.
    pub public_url: GatewayUrl,
    /// The platforms that vouch for machines.
    pub joiners: Vec<Joiner>,
}

/// A route for enrolments: its path, with its place in the file.
pub(super) struct EnrolmentRoute<'a> {
    pub(super) path: String,
    pub(super) field: Field<'a>,
}

/// Reads a route for enrolments. It may have the path of another route: it takes one path below its
/// own alone.
pub(super) fn enrolment_route<'a>(
    item: &Field<'a>,
    table: &mut Table<'a>,
    known: &[EnrolmentRoute<'a>],
) -> Option<EnrolmentRoute<'a>> {
    let field = table.required("path")?;
    let path = field.parse(route_path)?;
    if known.iter().any(|route| route.path == path) {
        item.mistake(format!(
            "another route enrols machines at {path} already; remove one"
        ));
    }
    Some(EnrolmentRoute { path, field })
}

/// Reads `enrolment` and `joiners`. `routes` are the routes with `enrolment: true`; `registry` is
/// `None` if that has a mistake.
pub(super) fn read(
    root: &mut Table<'_>,
    base: &Path,
    routes: Vec<EnrolmentRoute<'_>>,
    registry: Option<&RegistryConfig>,
) -> Option<Enrolment> {
    let settings = root.field("enrolment");
    let list = root.field("joiners");
    let Some(first) = routes.first() else {
        for unused in [settings, list].iter().flatten() {
            unused
                .mistake("has no effect: no route has `enrolment: true`; add one, or remove this");
        }
        return None;
    };
    let public_url = match &settings {
        None => {
            first.field.mistake(
                "needs the URL of this gateway, which enrolled machines use: add enrolment: { \
                 public_url: https://gw.example }",
            );
            None
        }
        Some(field) => {
            let url = field.table().required("public_url");
            url.and_then(|url| {
                let parsed = url.parse(GatewayUrl::parse)?;
                if !parsed.tls && parsed.host != "localhost" {
                    url.warning(
                        "is plain HTTP, which SikkerKey's clients refuse except for \
                         http://localhost; use https://",
                    );
                }
                Some(parsed)
            })
        }
    };
    if registry.is_some_and(|registry| registry.database().is_none()) {
        first.field.mistake(
            "needs a registry in a database, because files are edited by hand: registry: { \
             database: sqlite:registry.db }",
        );
    }
    let joiners = joiner::read(list, base);
    Some(Enrolment {
        prefixes: routes.into_iter().map(|route| route.path).collect(),
        public_url: public_url?,
        joiners,
    })
}

impl Enrolment {
    /// Each prefix that a path lies below, with the rest of the path.
    pub fn behind_prefixes<'a>(
        &'a self,
        path: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.prefixes.iter().filter_map(move |prefix| {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
            rest.starts_with('/').then_some((&**prefix, rest))
        })
    }
}
