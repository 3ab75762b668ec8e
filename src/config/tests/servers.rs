//! Servers, their weights, TLS and health checks.

use std::fs;

use super::*;

/// The servers of the upstream, as YAML.
fn with_servers(servers: &str) -> String {
    MINIMAL.replace("['http://127.0.0.1:8200']", servers)
}

fn upstream(text: &str) -> Upstream {
    good(text).upstreams.remove(0)
}

/// An `https://` upstream with more settings.
fn encrypted(more: &str) -> String {
    with_upstream(more).replace("http://", "https://")
}

/// A folder with a certificate, its key, and a key of another.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let make = || rcgen::generate_simple_self_signed(vec!["vault.internal".to_owned()]).unwrap();
    let (made, other) = (make(), make());
    for (name, content) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("other.pem", other.signing_key.serialize_pem()),
        ("empty.pem", String::new()),
        ("text.pem", "s3cret".to_owned()),
        ("odd.pem", made.cert.pem().replace("MII", "MIJ")),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Reads a configuration that lies in the folder.
fn read_in(folder: &tempfile::TempDir, text: &str) -> Result<Loaded, Mistakes> {
    read(text, &folder.path().join("x.yaml"), &environment())
}

#[test]
fn a_server_is_a_url_or_a_table_of_url_and_weight() {
    let text = with_servers("['http://10.0.0.1:1', { url: 'http://10.0.0.2:1', weight: 7 }]");
    let servers = upstream(&text).servers;
    assert_eq!((servers[0].weight, servers[1].weight), (1, 7));
    assert_eq!(servers[1].authority, "10.0.0.2:1");
}

#[test]
fn the_port_of_a_server_has_neither_sign_nor_leading_zeros() {
    for port in ["+8200", "08200", "82x", "99999", ""] {
        let told = only(&with_servers(&format!("['http://10.0.0.1:{port}']")));
        assert!(told.contains("port"), "{port}: {told}");
    }
}

#[test]
fn a_weight_is_one_to_a_hundred() {
    for weight in ["0", "101", "-1", "1.5", "heavy"] {
        let text = with_servers(&format!(
            "[{{ url: 'http://10.0.0.2:1', weight: {weight} }}]"
        ));
        assert!(only(&text).contains("servers[0].weight"), "{weight}");
    }
}

#[test]
fn a_table_needs_a_url_and_nothing_else_but_a_weight() {
    assert!(only(&with_servers("[{ weight: 2 }]")).contains("servers[0].url: is missing"));
    let text = with_servers("[{ url: 'http://10.0.0.2:1', wieght: 2 }]");
    assert!(only(&text).contains("did you mean `weight`?"));
}

#[test]
fn http_and_https_do_not_go_together() {
    let text = with_servers("['http://10.0.0.1:1', 'https://10.0.0.2:1']");
    assert!(only(&text).contains("servers[1]: mixes http:// and https://"));
}

#[test]
fn settings_for_tls_without_https_are_a_mistake() {
    let text = with_upstream("tls: { server_name: vault.internal }");
    assert!(only(&text).contains("servers[0]: is http://, and the upstream has settings for TLS"));
}

#[test]
fn a_certificate_must_be_valid_for_the_host_of_the_url_unless_another_name_is_given() {
    let name = |text: &str| upstream(text).servers.remove(0).certified_name;
    let own = with_server("https://vault.internal:8200");
    assert_eq!(name(&own).as_deref(), Some("vault.internal"));
    assert_eq!(
        name(&with_server("https://127.0.0.1:1")).as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(
        name(&with_server("https://[::1]:1")).as_deref(),
        Some("::1")
    );
    let other = encrypted("tls: { server_name: vault.example.com }");
    assert_eq!(name(&other).as_deref(), Some("vault.example.com"));
    assert_eq!(name(&with_server("http://127.0.0.1:1")), None);
}

#[test]
fn a_name_that_no_certificate_can_be_for_is_a_mistake() {
    // Pingora would verify `a-b` for `a_b`, and nothing at all for an empty name.
    for name in [
        "a_b.example.com",
        "",
        "a b",
        "vault.internal:8200",
        "*.example.com",
    ] {
        let text = encrypted(&format!("tls: {{ server_name: {name:?} }}"));
        assert!(
            wrong(&text).contains("upstreams.secrets.tls.server_name"),
            "{name}"
        );
    }
}

#[test]
fn tls_takes_the_systems_authorities_and_no_certificate_of_its_own_by_default() {
    let tls = upstream(&encrypted("idle_timeout: 1s")).tls.unwrap();
    assert_eq!(*tls.material, TlsMaterial::default());
    assert!(upstream(MINIMAL).tls.is_none());
}

#[test]
fn the_files_are_read_with_the_configuration() {
    let folder = folder();
    let text = encrypted("tls: { ca: cert.pem, cert: cert.pem, key: key.pem }");
    let config = read_in(&folder, &text).unwrap().config;
    let tls = config.upstreams[0].tls.as_ref().unwrap();
    assert_eq!(tls.material.roots.len(), 1);
    assert!(tls.material.identity.is_some());
    assert_eq!(tls.files().count(), 3);
    assert_eq!(tls.load().unwrap(), *tls.material);
}

#[test]
fn each_bad_file_is_a_mistake_at_its_key_and_nothing_of_it_is_repeated() {
    let folder = folder();
    for (settings, key, says) in [
        ("ca: nowhere.pem", "ca", "nowhere.pem cannot be read"),
        ("ca: empty.pem", "ca", "empty.pem holds no certificate"),
        ("ca: text.pem", "ca", "text.pem holds no certificate"),
        (
            "ca: odd.pem",
            "ca",
            "odd.pem holds a certificate that cannot be parsed",
        ),
        (
            "cert: cert.pem, key: text.pem",
            "cert",
            "text.pem holds no private key",
        ),
        (
            "cert: cert.pem, key: other.pem",
            "cert",
            "do not go together",
        ),
        (
            "cert: empty.pem, key: key.pem",
            "cert",
            "empty.pem holds no certificate",
        ),
        ("cert: cert.pem", "cert", "has no `key` beside it"),
        ("key: key.pem", "key", "has no `cert` beside it"),
    ] {
        let text = encrypted(&format!("tls: {{ {settings} }}"));
        let mistakes = read_in(&folder, &text).unwrap_err();
        assert_eq!(mistakes.list.len(), 1, "{mistakes}");
        assert_eq!(mistakes.list[0].key, format!("upstreams.secrets.tls.{key}"));
        let text = &mistakes.list[0].text;
        assert!(text.contains(says) && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn there_is_no_way_to_write_that_certificates_are_not_verified() {
    for key in ["insecure", "verify", "skip_verify", "insecure_skip_verify"] {
        let text = encrypted(&format!("tls: {{ {key}: true }}"));
        assert!(only(&text).contains("is an unknown key"), "{key}");
    }
}

#[test]
fn a_private_key_is_not_in_the_debug_of_a_configuration() {
    let folder = folder();
    let text = encrypted("tls: { cert: cert.pem, key: key.pem }");
    let config = read_in(&folder, &text).unwrap().config;
    let tls = config.upstreams[0].tls.as_ref().unwrap();
    let (_, key) = tls.material.identity.as_ref().unwrap();
    let shown = format!("{config:?}");
    let bytes = key.secret_der().iter().map(u8::to_string);
    assert!(!shown.contains(&bytes.take(8).collect::<Vec<_>>().join(", ")));
    assert!(shown.contains("secret key elided"));
}

#[test]
fn a_health_check_needs_a_path_alone() {
    assert_eq!(upstream(MINIMAL).health, None);
    let health = upstream(&with_upstream("health: { path: /v1/sys/health }"))
        .health
        .unwrap();
    assert_eq!(
        (health.expect, health.healthy, health.unhealthy),
        (vec![200], 1, 2)
    );
    assert_eq!(health.interval, Duration::from_secs(5));
    assert_eq!(health.timeout, Duration::from_secs(2));
    assert!(only(&with_upstream("health: {}")).contains("health.path: is missing"));
}

#[test]
fn the_path_of_a_health_check_may_have_a_query() {
    let text = with_upstream("health: { path: '/v1/sys/health?standbyok=true' }");
    assert_eq!(
        upstream(&text).health.unwrap().path,
        "/v1/sys/health?standbyok=true"
    );
    for path in ["v1/health", "", "/a b", "http://a/b", "/a/../b"] {
        let text = with_upstream(&format!("health: {{ path: {path:?} }}"));
        assert!(wrong(&text).contains("health.path"), "{path}");
    }
}

#[test]
fn one_status_or_several_are_expected() {
    let expect = |value: &str| with_upstream(&format!("health: {{ path: /, expect: {value} }}"));
    assert_eq!(upstream(&expect("204")).health.unwrap().expect, [204]);
    assert_eq!(
        upstream(&expect("[200, 429]")).health.unwrap().expect,
        [200, 429]
    );
    for value in ["[]", "99", "100", "600", "ok", "[200, 1000]", "{ a: b }"] {
        assert!(only(&expect(value)).contains("health.expect"), "{value}");
    }
}

#[test]
fn the_numbers_of_a_health_check_have_bounds() {
    for setting in [
        "interval: 99ms",
        "interval: 2h",
        "timeout: 9ms",
        "timeout: 61s",
        "healthy: 0",
        "healthy: 101",
        "unhealthy: 0",
        "interval: 5",
    ] {
        let text = with_upstream(&format!("health: {{ path: /, {setting} }}"));
        assert!(
            only(&text).contains("upstreams.secrets.health."),
            "{setting}"
        );
    }
}
