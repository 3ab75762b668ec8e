//! Upstreams and their servers.

use super::*;

#[test]
fn a_repeated_upstream_is_refused() {
    let text = MINIMAL.replace(
        "8200'] }",
        "8200'] }, secrets: { servers: ['http://10.0.0.1:1'] }",
    );
    assert!(only(&text).contains("upstreams.secrets: is given twice"));
}

#[test]
fn an_upstream_without_a_route_is_a_warning() {
    let text = MINIMAL.replace(
        "8200'] }",
        "8200'] }, spare: { servers: ['http://10.0.0.1:1'] }",
    );
    let loaded = read_text(&text).unwrap();
    assert_eq!(loaded.warnings[0].key, "upstreams.spare");
}

#[test]
fn a_name_is_resolved_to_all_its_addresses() {
    let config = good(&with_server("http://vault.internal:8200"));
    assert_eq!(config.upstreams[0].servers[0].addresses.len(), 2);
}

#[test]
fn a_name_that_does_not_resolve_is_a_warning() {
    for (name, why) in [("unknown", "no such host"), ("nowhere", "no address")] {
        let loaded = read_text(&with_server(&format!("http://{name}.internal:8200"))).unwrap();
        let text = loaded.warnings[0].to_string();
        assert!(text.contains("upstreams.secrets.servers[0]"), "{text}");
        assert!(
            text.contains(&format!("cannot be resolved ({why})")),
            "{text}"
        );
        assert!(loaded.config.upstreams[0].servers[0].addresses.is_empty());
    }
}

#[test]
fn a_resolver_that_nobody_answers_holds_a_start_up_for_seconds_only() {
    let environment = Environment {
        resolve: |_| {
            std::thread::sleep(Duration::from_secs(60));
            Ok(Vec::new())
        },
        ..environment()
    };
    let text = with_server("http://slow.internal:8200");
    let loaded = read(&text, Path::new("conf/countersign.yaml"), &environment).unwrap();
    let told = loaded.warnings[0].to_string();
    assert!(told.contains("no answer within 2 s"), "{told}");
}

#[test]
fn a_name_is_looked_up_again_and_an_address_is_not() {
    let again = |url: &str| good(&with_server(url)).upstreams[0].servers[0].resolve;
    assert!(again("http://vault.internal:8200").is_some());
    assert!(again("http://127.0.0.1:8200").is_none());
    assert!(again("http://[::1]:8200").is_none());
}

#[test]
fn servers_are_http_host_and_port_alone() {
    for url in [
        "127.0.0.1:8200",
        "ftp://a:1",
        "http://127.0.0.1",
        "http://127.0.0.1:8200/",
        "http://a:1/b",
        "http://a:1?b",
        "http://a:1#b",
        "http://:80",
        "http://a:0",
        "http://a:70000",
        "http://",
        "",
        "HTTP://127.0.0.1:8200",
        "http://a b:1",
        "http://010.0.0.1:8200",
        "http://127.1:8200",
        "http://0x7f000001:8200",
    ] {
        assert!(
            only(&with_server(url)).contains("upstreams.secrets.servers[0]"),
            "{url}"
        );
    }
}

#[test]
fn a_password_in_a_server_is_refused_and_not_repeated() {
    let text = only(&with_server("http://admin:hunter2@127.0.0.1:8200"));
    assert!(text.contains("credential"));
    assert!(!text.contains("hunter2"));
}

#[test]
fn a_server_listed_twice_is_a_mistake() {
    let text = MINIMAL.replace("8200']", "8200', 'http://127.0.0.1:8200']");
    assert!(only(&text).contains("servers[1]: is listed twice"));
}

#[test]
fn a_configured_host_is_sent_to_every_server() {
    let config = good(&with_upstream("host: vault.example.com"));
    assert_eq!(config.upstreams[0].servers[0].host, "vault.example.com");
}

#[test]
fn a_route_to_an_upstream_that_is_itself_mistaken_is_no_second_mistake() {
    assert!(only(&with_upstream("read_timeout: soon")).contains("upstreams.secrets.read_timeout"));
}

#[test]
fn upstream_names_are_fit_for_a_label() {
    let text = MINIMAL.replace("secrets", "Secrets!");
    assert!(wrong(&text).contains("[a-z0-9_-]"));
}

#[test]
fn fixed_headers_are_read_and_never_printed() {
    let config = good(&with_upstream("set_headers: { X-Vault-Namespace: team-a }"));
    let (name, value) = &config.upstreams[0].set_headers[0];
    assert_eq!(
        (name.as_str(), value.as_bytes()),
        ("x-vault-namespace", &b"team-a"[..])
    );
    assert!(!format!("{config:?}").contains("team-a"));
}

#[test]
fn a_namespace_is_the_same_with_a_slash_at_its_end() {
    let fixed = "set_headers: { X-Vault-Namespace: team-a, X-Fixed: team-a }";
    let config = good(&with_upstream(fixed));
    let sets = |name: &'static str, value: &'static str| {
        let name = http::HeaderName::from_static(name);
        config.upstreams[0].sets(&name, &http::HeaderValue::from_static(value))
    };
    for same in ["team-a", "team-a/"] {
        assert!(sets("x-vault-namespace", same), "{same}");
    }
    for other in ["team-b", "team-a//", "team-a/b", "", "/"] {
        assert!(!sets("x-vault-namespace", other), "{other}");
    }
    assert!(sets("x-fixed", "team-a") && !sets("x-fixed", "team-a/"));
    assert!(!sets("x-other", "team-a"));
}

#[test]
fn fixed_headers_cannot_be_reserved_or_set_twice() {
    for header in [
        "X-Machine-Identity: a",
        "X-Machine-Id: a",
        "x_machine_name: a",
        "Host: a",
        "Connection: a",
        "X-Forwarded-For: a",
        "'X Y': a",
        "X-A: ' a'",
        "X-A: \"a\\nb\"",
        "X-A: a, x_a: b",
    ] {
        let text = with_upstream(&format!("set_headers: {{ {header} }}"));
        assert!(
            only(&text).contains("upstreams.secrets.set_headers."),
            "{header}"
        );
    }
}

#[test]
fn answers_are_checked_for_the_credential_unless_that_is_written_out() {
    let of = |line: &str| {
        let loaded = read_text(&with_upstream(line)).unwrap();
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        let warnings: Vec<String> = warnings.collect();
        (loaded.config.upstreams[0].echo_check, warnings.join("\n"))
    };
    assert_eq!(of("idle_timeout: 4s"), (true, String::new()));
    assert_eq!(of("echo_check: on"), (true, String::new()));
    let (is_on, warning) = of("echo_check: off");
    assert!(!is_on);
    assert!(
        warning.contains("upstreams.secrets.echo_check: lets answers pass"),
        "{warning}"
    );
    let text = only(&with_upstream("echo_check: false"));
    assert!(text.contains("\"false\" is not one of: on, off"), "{text}");
}

#[test]
fn a_route_with_ranges_to_a_backend_with_a_credential_is_a_warning() {
    let credential = "credential: { header: X-Vault-Token, env: VAULT_TOKEN }";
    let with_range = |upstream: &str| {
        let text = with_upstream(upstream).replace(
            "upstream: secrets }",
            "upstream: secrets, forward_headers: [Range] }",
        );
        read_text(&text).unwrap().warnings
    };
    let warnings = with_range(credential);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .to_string()
            .contains("routes[0]: forwards Range")
    );
    assert_eq!(with_range("idle_timeout: 4s"), []);
}
