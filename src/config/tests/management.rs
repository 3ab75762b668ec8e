//! Routes that manage the registry.

use super::*;
use crate::config::{Gate, RouteService};
use countersign_core::target::QueryPolicy;

const DATABASE: &str = "{ database: 'sqlite:registry.db', operators: operators.yaml }";

fn text(registry: &str, route: &str) -> String {
    format!(
        "listeners: [{{ address: 127.0.0.1:0 }}]\nregistry: {registry}\nupstreams: {{ a: {{ \
         servers: ['http://127.0.0.1:1'] }} }}\nroutes: [{{ path: /, upstream: a }}, {route}]\n"
    )
}

fn read_text(text: &str) -> Result<crate::config::Loaded, crate::config::Mistakes> {
    crate::config::read(
        text,
        std::path::Path::new("countersign.yaml"),
        &environment(),
    )
}

fn mistakes(registry: &str, route: &str) -> String {
    read_text(&text(registry, route)).unwrap_err().to_string()
}

#[test]
fn its_calls_are_signed_with_their_query_and_it_has_no_upstream() {
    let loaded = read_text(&text(
        DATABASE,
        "{ path: /countersign/v1, management: true }",
    ));
    let routes = loaded.unwrap().config.routes;
    let route = &routes[routes.find("/countersign/v1/machines").unwrap()];
    assert_eq!(route.service, RouteService::Management);
    assert_eq!(route.upstream(), None);
    assert_eq!(route.query, QueryPolicy::Signed);
    assert_eq!(route.mode.at(u64::MAX), Gate::Signature);
    assert_eq!(route.max_body, 1 << 20);
}

#[test]
fn management_false_is_a_route_with_an_upstream() {
    let route = "{ path: /b, upstream: a, management: false }";
    let routes = read_text(&text(DATABASE, route)).unwrap().config.routes;
    assert_eq!(routes[routes.find("/b").unwrap()].upstream(), Some(0));
}

#[test]
fn options_without_a_meaning_are_mistakes() {
    for option in [
        "upstream: a",
        "mode: open",
        "bearer_until: 2027-01-31",
        "strip_prefix: /countersign",
        "query: strip",
        "methods: [PURGE]",
        "forward_headers: [X-A]",
        "assertion: true",
        "read_timeout: 1s",
        "adapter: { kind: sikkerkey, kv: secret }",
    ] {
        let route = format!("{{ path: /countersign/v1, management: true, {option} }}");
        let told = mistakes(DATABASE, &route);
        assert!(
            told.contains("cannot stand beside `management`"),
            "{option}: {told}"
        );
    }
}

#[test]
fn a_route_at_the_root_is_a_mistake() {
    let text = text(DATABASE, "{ path: /b, upstream: a }")
        .replace("path: /, upstream: a", "path: /, management: true");
    let told = read_text(&text).unwrap_err().to_string();
    assert!(told.contains("needs a path of its own"), "{told}");
}

#[test]
fn it_needs_a_database_and_operators() {
    let route = "{ path: /countersign/v1, management: true }";
    let told = mistakes("{ file: machines.yaml }", route);
    assert!(told.contains("needs a registry in a database"), "{told}");
    assert!(told.contains("needs operators"), "{told}");
}

/// The keys of the warnings of a gateway with a route and these further lines.
fn warned(registry: &str, route: &str, more: &str) -> Vec<String> {
    let loaded = read_text(&format!("{}{more}\n", text(registry, route))).unwrap();
    let keys = loaded.warnings.into_iter().map(|it| it.key);
    keys.filter(|key| key == "replay.instances").collect()
}

#[test]
fn calls_of_a_shared_database_need_shared_nonces_or_the_word_that_there_is_one_gateway() {
    const POSTGRES: &str = "{ database: 'postgres://u@localhost/d', operators: operators.yaml }";
    let manages = "{ path: /countersign/v1, management: true }";
    let enrols = "{ path: /v1, enrolment: true }";
    let url = "enrolment: { public_url: 'https://gw.example' }";
    assert_eq!(warned(POSTGRES, manages, ""), ["replay.instances"]);
    assert_eq!(warned(POSTGRES, enrols, url), ["replay.instances"]);
    for (registry, route, more) in [
        (POSTGRES, manages, "replay: { instances: 1 }"),
        (
            POSTGRES,
            manages,
            "replay: { store: redis, redis: { url: redis://localhost } }",
        ),
        (POSTGRES, "{ path: /other, upstream: a }", ""),
        (DATABASE, manages, ""),
    ] {
        let none: [&str; 0] = [];
        assert_eq!(
            warned(registry, route, more),
            none,
            "{registry} {route} {more}"
        );
    }
}
