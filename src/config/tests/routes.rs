//! Routes and their lookup.

use super::*;

#[test]
fn a_route_path_is_a_plain_path() {
    for path in [
        "", "v1", "/v1?x=1", "/v1#x", "/v1;x", "//", "/v1//a", "/v1//", "/./a", "/v1/..", "/a b",
        "/%61", "/é", "/a\\b",
    ] {
        assert!(only(&with_path(path)).contains("routes[0].path"), "{path}");
    }
    assert!(only(&with_path(&format!("/{}", "a".repeat(2000)))).contains("longer"));
}

#[test]
fn a_route_path_that_looks_like_a_pattern_is_a_mistake_that_says_what_to_write() {
    for (path, write) in [
        ("/v1/*", "/v1"),
        ("/v1/**", "/v1"),
        ("/v1*", "/"),
        ("/*", "/"),
        ("/v1/secret/*/db", "/v1/secret"),
        ("/v1/.*", "/v1"),
        ("/v1/(.*)", "/v1"),
        ("/v1/:name", "/v1"),
        ("/v1/secret$", "/v1"),
    ] {
        let text = only(&with_path(path));
        assert!(text.contains("routes[0].path"), "{text}");
        assert!(text.contains(&format!("so write {write:?}")), "{text}");
    }
    for path in ["/v1/a:b", "/v1/$x", "/v1/+", "/v1/(x)"] {
        assert_eq!(good(&with_path(path)).routes[0].path, path);
    }
    let strip = with_route("strip_prefix: '/v1/*'").replace("path: /", "path: /v1");
    assert!(
        only(&strip).contains("routes[0].strip_prefix"),
        "{}",
        only(&strip)
    );
}

#[test]
fn a_star_where_things_are_named_one_by_one_is_a_mistake() {
    for (text, key) in [
        (minimal_and("hosts: ['*.example.com']"), "hosts[0]"),
        (
            with_upstream("host: '*.example.com'"),
            "upstreams.secrets.host",
        ),
        (
            with_route("forward_headers: ['X-*']"),
            "routes[0].forward_headers[0]",
        ),
        (
            with_upstream("set_headers: { 'X-*': a }"),
            "upstreams.secrets.set_headers",
        ),
    ] {
        let told = only(&text);
        assert!(told.contains(key) && told.contains("a star"), "{told}");
    }
}

#[test]
fn a_trailing_slash_makes_no_other_route() {
    assert_eq!(
        good(&with_path("/v1/")).routes,
        good(&with_path("/v1")).routes
    );
    let twice = MINIMAL.replace(
        "[{ path: /,",
        "[{ path: /v1/, upstream: secrets }, { path: /v1,",
    );
    assert!(only(&twice).contains("routes[1].path: another route"));
}

fn find(paths: &[&str], target: &str) -> Option<String> {
    let route = |path: &&str| format!("{{ path: {path}, upstream: secrets }}");
    let routes: Vec<String> = paths.iter().map(route).collect();
    let text = MINIMAL.replace("{ path: /, upstream: secrets }", &routes.join(", "));
    let routes = good(&text).routes;
    routes.find(target).map(|index| routes[index].path.clone())
}

#[test]
fn a_route_has_its_path_and_what_lies_below_on_whole_segments() {
    assert_eq!(find(&["/v1/a"], "/v1/a").as_deref(), Some("/v1/a"));
    assert_eq!(find(&["/v1/a"], "/v1/a/").as_deref(), Some("/v1/a"));
    assert_eq!(find(&["/v1/a"], "/v1/a/b").as_deref(), Some("/v1/a"));
    assert_eq!(find(&["/v1/a"], "/v1/ab"), None);
    assert_eq!(find(&["/v1/a"], "/v1"), None);
    assert_eq!(find(&["/v1/a"], "/V1/a"), None);
    assert_eq!(find(&["/v1/a"], "/x/v1/a"), None);
}

#[test]
fn a_route_has_the_paths_in_which_clients_encode_more_than_they_need() {
    for path in [
        "/kv(2)/team@a",
        "/kv%282%29/team%40a",
        "/kv(2%29/team%40a/b%40c",
    ] {
        let found = find(&["/", "/kv(2)/team@a"], path);
        assert_eq!(found.as_deref(), Some("/kv(2)/team@a"), "{path}");
    }
    let found = find(&["/", "/kv(2)/team@a"], "/kv%282%29/team%40ab");
    assert_eq!(found.as_deref(), Some("/"));
}

#[test]
fn the_longest_route_wins_whatever_the_order() {
    for paths in [["/", "/v1", "/v1/secret"], ["/v1/secret", "/v1", "/"]] {
        assert_eq!(find(&paths, "/v1/secret/x").as_deref(), Some("/v1/secret"));
        assert_eq!(find(&paths, "/v1/secrets").as_deref(), Some("/v1"));
        assert_eq!(find(&paths, "/v2").as_deref(), Some("/"));
    }
}

#[test]
fn the_root_route_has_every_path_and_nothing_else() {
    assert_eq!(find(&["/"], "/").as_deref(), Some("/"));
    assert_eq!(find(&["/"], "/a/b").as_deref(), Some("/"));
    for target in ["", "*", "a"] {
        assert_eq!(find(&["/"], target), None, "{target}");
    }
}

#[test]
fn a_route_points_to_its_upstream() {
    let text = MINIMAL
        .replace(
            "8200'] }",
            "8200'] }, other: { servers: ['http://10.0.0.1:1'] }",
        )
        .replace("secrets }]", "secrets }, { path: /o, upstream: other }]");
    let config = good(&text);
    let route = &config.routes[config.routes.find("/o/x").unwrap()];
    assert_eq!(config.upstreams[route.upstream().unwrap()].name, "other");
}

#[test]
fn every_query_policy_is_read() {
    for policy in ["strip", "reject", "signed"] {
        let config = good(&with_route(&format!("query: {policy}")));
        assert_eq!(
            config.routes[config.routes.find("/").unwrap()]
                .query
                .to_string(),
            policy
        );
    }
    assert!(only(&with_route("query: drop")).contains("strip, reject, signed"));
}

#[test]
fn bodies_are_bounded_by_32_mib() {
    let config = good(&with_route("max_body: 32MiB"));
    assert_eq!(
        config.routes[config.routes.find("/").unwrap()].max_body,
        33_554_432
    );
    assert!(only(&with_route("max_body: 33MiB")).contains("routes[0].max_body"));
}

#[test]
fn methods_add_upper_case_tokens() {
    let config = good(&with_route("methods: [PROPFIND, M-SEARCH]"));
    assert_eq!(
        config.routes[config.routes.find("/").unwrap()].methods,
        ["PROPFIND", "M-SEARCH"]
    );
    for method in [
        "CONNECT", "TRACE", "PRI", "GET", "propfind", "'A B'", "'A:B'", "''", "PUT, PUT",
    ] {
        let text = wrong(&with_route(&format!("methods: [{method}]")));
        assert!(text.contains("routes[0].methods["), "{method}: {text}");
    }
    assert!(only(&with_route("methods: [COPY, COPY]")).contains("twice"));
}

#[test]
fn reserved_headers_cannot_be_forwarded() {
    let config = good(&with_route("forward_headers: [Range]"));
    assert_eq!(
        config.routes[config.routes.find("/").unwrap()].forward_headers,
        ["range"]
    );
    for name in [
        "X-Machine-Identity",
        "x_machine_id",
        "Connection",
        "Host",
        "Forwarded",
    ] {
        let text = only(&with_route(&format!("forward_headers: [{name}]")));
        assert!(text.contains("routes[0].forward_headers[0]"), "{name}");
    }
}

fn only_route(text: &str) -> Route {
    good(text).routes[0].clone()
}

#[test]
fn a_route_asks_for_a_signature_unless_it_says_otherwise() {
    assert_eq!(only_route(MINIMAL).mode, Mode::ENFORCE);
    assert_eq!(only_route(&with_route("mode: enforce")).mode, Mode::ENFORCE);
    assert!(only(&with_route("mode: opened")).contains("is not one of: enforce, observe, open"));
}

#[test]
fn opening_everything_is_a_warning() {
    let loaded = read_text(&with_route("mode: open")).unwrap();
    assert_eq!(loaded.warnings[0].key, "routes[0]");
    assert_eq!(loaded.config.routes[0].mode, Mode::Open);
}

#[test]
fn a_stripped_prefix_is_the_beginning_of_the_path_on_whole_segments() {
    let route = |more: &str| {
        let route = format!("routes: [{{ path: /edge/v1, upstream: secrets, {more} }}]");
        MINIMAL.replace("routes: [{ path: /, upstream: secrets }]", &route)
    };
    for (prefix, inner) in [("/edge", "/v1"), ("/edge/", "/v1"), ("/edge/v1", "/")] {
        let text = route(&format!("strip_prefix: {prefix}"));
        assert_eq!(only_route(&text).inner_path(), inner);
    }
    for prefix in ["/", "/ed", "/v1", "/edge/v1/x", "edge", "/edge//"] {
        let text = only(&route(&format!("strip_prefix: {prefix}")));
        assert!(
            text.contains("routes[0].strip_prefix: "),
            "{prefix}: {text}"
        );
    }
}

#[test]
fn one_signed_path_at_two_upstreams_is_a_mistake_that_names_both_routes() {
    let two = MINIMAL
        .replace(
            "upstreams: {",
            "upstreams: { other: { servers: ['http://127.0.0.1:8201'] },",
        )
        .replace(
            "routes: [",
            "routes: [{ path: /edge, strip_prefix: /edge, upstream: other }, ",
        );
    let text = wrong(&two);
    assert!(
        text.contains("routes[0]: maps the signed path / to another upstream than the route /,")
    );
    good(&two.replace("upstream: other", "upstream: secrets"));
}

#[test]
fn a_route_has_the_time_outs_of_its_upstream_and_of_the_limits_unless_it_names_its_own() {
    let route = only_route(MINIMAL);
    assert_eq!((route.read_timeout, route.body_timeout), (None, None));
    let route = only_route(&with_route("read_timeout: 2m, body_timeout: 5m"));
    let minutes = |count: u64| Some(std::time::Duration::from_secs(60 * count));
    assert_eq!(
        (route.read_timeout, route.body_timeout),
        (minutes(2), minutes(5))
    );
    assert!(only(&with_route("read_timeout: 0s")).contains("routes[0].read_timeout"));
}

#[test]
fn forwarding_a_header_that_overrides_what_is_signed_is_a_warning() {
    let loaded = read_text(&with_route("forward_headers: [X-HTTP-Method-Override]")).unwrap();
    assert_eq!(loaded.warnings[0].key, "routes[0].forward_headers[0]");
}
