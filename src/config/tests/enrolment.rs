use super::*;

/// The text has one mistake, at this key, whose text has these words.
#[track_caller]
fn assert_mistake(text: &str, key: &str, words: &str) {
    let told = only(text);
    assert!(
        told.contains(&format!(" {key}: ")) && told.contains(words),
        "{told}"
    );
}

/// A configuration with a route for enrolment and these lines.
fn with(more: &str) -> String {
    let routes = "routes: [{ path: /, upstream: secrets }, { path: /v1, enrolment: true }]";
    let text = MINIMAL.replace("file: machines.yaml", "database: 'sqlite:r.db'");
    let kept = text.lines().filter(|line| !line.starts_with("routes:"));
    let kept: Vec<&str> = kept.collect();
    format!(
        "{}\n{routes}\nenrolment: {{ public_url: 'https://gw.example/' }}\n{more}\n",
        kept.join("\n")
    )
}

const JOINER: &str = "{ name: ci, issuer: 'https://ci', jwks: { url: 'https://ci/keys' }, \
    audience: countersign, claims: { 'ci/project': 'team/*' }, vault: vault_prod, \
    machine: { name: '{sub}', expires_in: 1h } }";

fn joined(from: &str, to: &str) -> String {
    assert!(JOINER.contains(from), "{from}");
    with(&format!("joiners: [{}]", JOINER.replace(from, to)))
}

#[test]
fn an_enrolment_route_needs_no_upstream_and_stands_beside_one_of_the_same_path() {
    let text = with("").replace("path: /, upstream", "path: /v1, upstream");
    let enrolment = good(&text).enrolment.unwrap();
    assert_eq!(enrolment.prefixes, ["/v1"]);
    assert_eq!(enrolment.public_url.to_string(), "https://gw.example");
    assert!(enrolment.joiners.is_empty());
    assert!(good(MINIMAL).enrolment.is_none());
}

#[test]
fn an_enrolment_route_needs_a_database_and_the_url_of_the_gateway() {
    let file = with("").replace("database: 'sqlite:r.db'", "file: machines.yaml");
    assert_mistake(&file, "routes[1].path", "registry in a database");
    let text = with("");
    let lines = text.lines().filter(|line| !line.starts_with("enrolment:"));
    let without: Vec<&str> = lines.collect();
    assert_mistake(&without.join("\n"), "routes[1].path", "public_url");
}

#[test]
fn settings_without_a_route_and_two_routes_at_one_path_are_mistakes() {
    let unused = minimal_and("enrolment: { public_url: 'https://gw' }");
    assert_mistake(&unused, "enrolment", "no route has");
    let twice = with("").replace(
        "{ path: /v1, enrolment: true }",
        "{ path: /v1, enrolment: true }, { path: /v1/, enrolment: true }",
    );
    assert_mistake(&twice, "routes[2]", "already");
    let more = with("").replace("enrolment: true }", "enrolment: true, max_body: 1MiB }");
    assert_mistake(&more, "routes[1].max_body", "unknown key");
}

#[test]
fn a_joiner_is_read_with_all_that_it_asks_for() {
    let enrolment = good(&joined("team/*", "team/*")).enrolment.unwrap();
    let joiner = &enrolment.joiners[0];
    assert_eq!((&*joiner.name, &*joiner.issuer), ("ci", "https://ci"));
    assert_eq!(joiner.claims[0].0, "ci/project");
    assert!(joiner.claims[0].1.matches("team/web"));
    assert_eq!(joiner.machine.expires_in, Some(3600));
    assert!(joiner.machine_name.is_some());
}

#[test]
fn a_joiner_that_would_let_everybody_in_is_a_mistake_or_a_warning() {
    assert_mistake(
        &joined("claims: { 'ci/project': 'team/*' }, ", ""),
        "joiners[0].claims",
        "every token of the issuer",
    );
    assert_mistake(
        &joined("{ 'ci/project': 'team/*' }", "{}"),
        "joiners[0].claims",
        "no claim",
    );
    for (pattern, told) in [("'*'", "every value"), ("team*", "letter or a digit")] {
        let loaded = read_text(&joined("'team/*'", pattern)).unwrap();
        assert!(
            loaded.warnings[0].text.contains(told),
            "{:?}",
            loaded.warnings
        );
    }
}

#[test]
fn keys_of_an_issuer_come_over_tls_or_from_a_good_file() {
    for (to, key, told) in [
        ("url: 'http://ci/keys'", "joiners[0].jwks.url", "plain HTTP"),
        ("file: none.json", "joiners[0].jwks.file", "none.json"),
        (
            "url: 'https://ci', file: a",
            "joiners[0].jwks.url",
            "together",
        ),
        ("", "joiners[0].jwks.file", "missing"),
    ] {
        assert_mistake(&joined("url: 'https://ci/keys'", to), key, told);
    }
    let both = wrong(&joined(
        "url: 'https://ci/keys'",
        "file: none.json, ca: ca.pem",
    ));
    assert!(both.contains("joiners[0].jwks.ca: has no effect"), "{both}");
}

#[test]
fn other_values_of_a_joiner_are_mistakes() {
    for (from, to, key, told) in [
        ("name: ci", "name: C I", "joiners[0].name", "name"),
        ("vault_prod", "a/b", "joiners[0].vault", "segment"),
        ("'{sub}'", "'{sub'", "joiners[0].machine.name", "braces"),
        ("1h", "1s", "joiners[0].machine.expires_in", "between"),
        (
            "'team/*'",
            "'*/team'",
            "joiners[0].claims.\"ci/project\"",
            "end",
        ),
        (
            "'team/*'",
            "[a]",
            "joiners[0].claims.\"ci/project\"",
            "single value",
        ),
    ] {
        assert_mistake(&joined(from, to), key, told);
    }
    let twice = with(&format!("joiners: [{JOINER}, {JOINER}]"));
    assert_mistake(&twice, "joiners[1]", "already");
}
