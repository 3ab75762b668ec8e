//! Assertions and logins.

use super::*;

/// As `openssl genpkey` writes it, with another seed for each letter.
fn pem(letter: char) -> String {
    let seed =
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH".replace("wcH", &format!("w{letter}H"));
    format!(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA{}\n-----END PRIVATE KEY-----\n",
        &seed[1..43]
    )
}

/// A folder with the keys `a.pem` and `b.pem`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.pem"), ASSERTION_KEY).unwrap();
    std::fs::write(folder.path().join("b.pem"), pem('d')).unwrap();
    folder
}

const ASSERTION_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n\
    -----END PRIVATE KEY-----\n";

const LOGIN: &str =
    "method: jwt, mount: jwt, role: machine, audience: openbao, header: X-Vault-Token";

fn read_with(assertion: &str, text: &str) -> Result<Loaded, Mistakes> {
    let folder = folder();
    let text = format!("{text}{assertion}\n");
    read(
        &text,
        &folder.path().join("countersign.yaml"),
        &environment(),
    )
}

const GOOD: &str = "assertion: { issuer: 'https://gw.example', keys: [a.pem] }";

fn with_login(login: &str) -> String {
    with_upstream(&format!("login: {{ {login} }}"))
}

fn logging_in(login: &str) -> Config {
    let loaded = read_with(GOOD, &with_login(login));
    loaded
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
        .config
}

#[track_caller]
fn mistakes(assertion: &str, text: &str, words: &[&str]) {
    let found = read_with(assertion, text).unwrap_err();
    let shown = found.to_string();
    assert_eq!(found.list.len(), words.len(), "{shown}");
    for word in words {
        assert!(shown.contains(word), "{word} in {shown}");
    }
}

/// The warnings besides those of the keys' modes.
fn warnings(assertion: &str, text: &str) -> Vec<String> {
    let found = read_with(assertion, text).unwrap().warnings;
    let others = (found.into_iter()).filter(|found| !found.key.starts_with("assertion.keys"));
    others.map(|found| found.text).collect()
}

#[test]
fn a_login_has_its_settings_and_a_check() {
    let config = logging_in(LOGIN);
    let upstream = &config.upstreams[0];
    let login = upstream.login.as_ref().unwrap();
    assert_eq!(login.path(), "/v1/auth/jwt/login");
    assert_eq!(login.role, LoginRole::Fixed("machine".into()));
    assert_eq!(login.audience, "openbao");
    assert_eq!(login.header, "x-vault-token");
    assert_eq!(login.namespace_header(), None);
    assert_eq!(
        upstream.check.as_deref(),
        Some("/v1/auth/token/lookup-self")
    );
    assert_eq!(upstream.assertion_audience(), Some("openbao"));
}

#[test]
fn a_check_that_is_written_out_counts() {
    let text = with_upstream(&format!("check: GET /v1/me, login: {{ {LOGIN} }}"));
    let config = read_with(GOOD, &text).unwrap().config;
    assert_eq!(config.upstreams[0].check.as_deref(), Some("/v1/me"));
}

#[test]
fn the_role_can_be_the_group_of_the_machine() {
    let config = logging_in(&LOGIN.replace("role: machine", "role_by: group"));
    assert_eq!(
        config.upstreams[0].login.as_ref().unwrap().role,
        LoginRole::Group
    );
}

#[test]
fn a_namespace_is_a_header_that_only_the_gateway_sets() {
    let login = format!("{LOGIN}, namespace: team-a/");
    let config = logging_in(&login);
    let (name, value) = config.upstreams[0]
        .login
        .as_ref()
        .unwrap()
        .namespace_header()
        .unwrap();
    assert_eq!(
        (name.as_str(), value.to_str().unwrap()),
        ("x-vault-namespace", "team-a/")
    );
    let both = "set_headers: { X-Vault-Namespace: b }, login:";
    let text = with_login(&login).replace("login:", both);
    mistakes(GOOD, &text, &["x-vault-namespace is already set"]);
    let route = "upstream: secrets, forward_headers: [X-Vault-Namespace]";
    let text = with_login(&login).replace("upstream: secrets", route);
    mistakes(GOOD, &text, &["only the gateway writes"]);
}

#[test]
fn tokens_are_revoked_unless_the_file_says_off() {
    let of = |more: &str| {
        let login = logging_in(&format!("{LOGIN}{more}")).upstreams[0]
            .login
            .clone();
        login.unwrap().revoke
    };
    assert!(of("") && of(", revoke: on"));
    assert!(!of(", revoke: off"));
    mistakes(
        GOOD,
        &with_login(&format!("{LOGIN}, revoke: later")),
        &["login.revoke"],
    );
}

#[test]
fn the_token_has_another_header_than_the_namespace() {
    let login = LOGIN.replace("X-Vault-Token", "X-Vault-Namespace") + ", namespace: a";
    mistakes(
        GOOD,
        &with_login(&login),
        &["is the header of the namespace"],
    );
}

#[test]
fn every_setting_of_a_login_is_needed_and_all_that_lack_are_named() {
    let words = [
        "login.method: is missing",
        "login.mount: is missing",
        "login.role: is missing",
        "login.audience: is missing",
        "login.header: is missing",
    ];
    mistakes(GOOD, &with_upstream("login: {}"), &words);
}

#[test]
fn a_login_needs_the_key_that_signs_assertions() {
    mistakes(
        "",
        &with_login(LOGIN),
        &["login: needs the gateway's signing key"],
    );
}

#[test]
fn a_mistake_in_the_assertion_is_not_one_of_the_login() {
    let no_file = "assertion: { issuer: 'https://gw.example', keys: [none.pem] }";
    mistakes(no_file, &with_login(LOGIN), &["keys[0]"]);
}

#[test]
fn a_login_and_a_credential_exclude_each_other() {
    let both = "credential: { header: X-Token, env: VAULT_TOKEN }, login:";
    let text = with_login(LOGIN).replace("login:", both);
    mistakes(GOOD, &text, &["login: is set together with `credential`"]);
}

#[test]
fn a_role_and_a_role_by_group_exclude_each_other() {
    let both = format!("{LOGIN}, role_by: group");
    mistakes(
        GOOD,
        &with_login(&both),
        &["role_by: is set together with `role`"],
    );
}

#[test]
fn values_that_no_backend_takes_are_mistakes() {
    for (from, to, word) in [
        ("method: jwt", "method: approle", "is not one of: jwt"),
        (
            "mount: jwt",
            "mount: /jwt",
            "is not the path of an auth method",
        ),
        (
            "mount: jwt",
            "mount: a/../b",
            "is not the path of an auth method",
        ),
        (
            "mount: jwt",
            "mount: 'a b'",
            "is not the path of an auth method",
        ),
        (
            "mount: jwt",
            "mount: 'a?b'",
            "is not the path of an auth method",
        ),
        ("role: machine", "role: a/b", "is not a role"),
        ("role: machine", "role_by: owner", "is not one of: group"),
        ("audience: openbao", "audience: 'a b'", "visible ASCII"),
        (
            "header: X-Vault-Token",
            "header: Accept",
            "crosses from clients",
        ),
        (
            "header: X-Vault-Token",
            "header: X-Machine-Id",
            "signing headers",
        ),
    ] {
        mistakes(GOOD, &with_login(&LOGIN.replace(from, to)), &[word]);
    }
    mistakes(
        GOOD,
        &with_login(&format!("{LOGIN}, namespace: 'a b'")),
        &["is not a namespace"],
    );
}

#[test]
fn a_misspelt_key_is_named_with_the_likely_one() {
    let text = with_login(&LOGIN.replace("audience", "audiance"));
    mistakes(
        GOOD,
        &text,
        &["audience: is missing", "did you mean `audience`?"],
    );
    let text = with_upstream(&format!("logins: {{ {LOGIN} }}"));
    mistakes(GOOD, &text, &["did you mean `login`?"]);
    mistakes("asertion: {}", MINIMAL, &["did you mean `assertion`?"]);
}

#[test]
fn an_assertion_has_its_keys_in_their_order() {
    let text = "assertion: { issuer: gw, keys: [b.pem, a.pem], jwks_path: /keys }";
    let assertion = read_with(text, MINIMAL).unwrap().config.assertion.unwrap();
    assert_eq!(assertion.issuer, "gw");
    assert_eq!(assertion.jwks_path.as_deref(), Some("/keys"));
    let seeds: Vec<u8> = assertion
        .keys
        .iter()
        .map(|key| key.reveal().to_bytes()[31])
        .collect();
    assert_ne!(seeds[0], 7);
    assert_eq!(seeds[1], 7);
    assert!(!format!("{assertion:?}").contains("[7"));
}

#[test]
fn mistakes_of_an_assertion_are_named_together() {
    let text =
        "assertion: { issuer: 'a b', keys: [a.pem, a.pem, countersign.pem], jwks_path: 'x?y' }";
    mistakes(
        text,
        MINIMAL,
        &[
            "issuer: must be",
            "holds the key of",
            "countersign.pem",
            "jwks_path: \"x?y\" is not a path",
        ],
    );
    mistakes(
        "assertion: { issuer: gw, keys: [] }",
        MINIMAL,
        &["countersign keygen"],
    );
    mistakes(
        "assertion: {}",
        MINIMAL,
        &["issuer: is missing", "keys: is missing"],
    );
}

#[test]
fn a_key_file_that_holds_no_key_is_a_mistake_that_repeats_nothing_of_it() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.pem"), SECRET).unwrap();
    let text = format!("{MINIMAL}assertion: {{ issuer: gw, keys: [bad.pem] }}\n");
    let found = read(&text, &folder.path().join("c.yaml"), &environment()).unwrap_err();
    assert!(found.to_string().contains("bad.pem"));
    assert!(!found.to_string().contains(SECRET));
}

#[test]
fn a_route_sends_an_assertion_to_a_backend_whose_name_is_known() {
    let route = "upstream: secrets, assertion: true";
    let text = with_upstream("audience: api").replace("upstream: secrets", route);
    let config = read_with(GOOD, &text).unwrap().config;
    assert!(config.routes[0].assertion);
    assert_eq!(config.upstreams[0].assertion_audience(), Some("api"));
    mistakes(
        GOOD,
        &with_route("assertion: true"),
        &["add upstreams.secrets.audience"],
    );
    mistakes("", &text, &["assertion: needs the gateway's signing key"]);
}

#[test]
fn an_open_route_names_no_machine_and_so_sends_no_assertion() {
    let route = "upstream: secrets, mode: open, assertion: true";
    let text = with_upstream("audience: api").replace("upstream: secrets", route);
    mistakes(
        GOOD,
        &text.replace("path: /,", "path: /a,"),
        &["has no effect on an open route"],
    );
}

#[test]
fn no_other_backend_gets_an_assertion_that_it_could_log_in_with() {
    let upstreams = format!(
        "upstreams: {{ secrets: {{ servers: ['http://127.0.0.1:8200'], login: {{ {LOGIN} }} }}, \
         api: {{ servers: ['http://127.0.0.1:9000'], audience: openbao }} }}"
    );
    let text = MINIMAL
        .replace(
            "upstreams: { secrets: { servers: ['http://127.0.0.1:8200'] } }",
            &upstreams,
        )
        .replace(
            "[{ path: /, upstream: secrets }]",
            "[{ path: /, upstream: secrets }, { path: /api, upstream: api, assertion: true }]",
        );
    let words = "upstreams.api.audience is the same as upstreams.secrets.login.audience";
    mistakes(GOOD, &text, &[words]);
    let other = text.replace("audience: openbao } }", "audience: api } }");
    assert!(warnings(GOOD, &other).is_empty());
}

#[test]
fn an_assertion_with_the_audience_of_the_backends_own_login_is_a_warning() {
    let route = "upstream: secrets, assertion: true";
    let text = with_login(LOGIN).replace("upstream: secrets", route);
    let found = warnings(GOOD, &text);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("Set upstreams.secrets.audience"));
    let other = text.replace("login:", "audience: api, login:");
    assert!(warnings(GOOD, &other).is_empty());
}

#[test]
fn the_path_of_the_keys_is_not_that_of_a_health_check() {
    let text = MINIMAL.replace("0.0.0.0:8080", "0.0.0.0:8080, health: /keys");
    let assertion = GOOD.replace(" }", ", jwks_path: /keys }");
    let words = "jwks_path: /keys is the health check of the listener 0.0.0.0:8080";
    mistakes(&assertion, &text, &[words]);
    let other = text.replace("/keys", "/livez");
    assert!(warnings(&assertion, &other).is_empty());
}

#[test]
fn a_path_of_the_keys_that_a_route_asks_signatures_for_is_a_warning() {
    let assertion = GOOD.replace(" }", ", jwks_path: /v1/keys }");
    let route = |route: &str| MINIMAL.replace("path: /,", route);
    let found = warnings(&assertion, &route("path: /v1,"));
    assert!(found.len() == 1 && found[0].contains("lies below the route /v1"));
    // A route for everything leaves no other place.
    for other in ["path: /v1, mode: open,", "path: /v2,", "path: /,"] {
        assert_eq!(warnings(&assertion, &route(other)), [""; 0], "{other}");
    }
}
