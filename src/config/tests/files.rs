//! Files as a whole: what is refused at any key, and how the mistakes are told.

use super::*;

#[test]
fn the_least_configuration_is_enough() {
    let config = good(MINIMAL);
    assert_eq!(config.listeners[0].address.port(), 8080);
    assert_eq!(config.admin, SocketAddr::from(([127, 0, 0, 1], 9790)));
    assert_eq!(config.upstreams[0].servers[0].authority, "127.0.0.1:8200");
    assert_eq!(config.upstreams[0].servers[0].host, "127.0.0.1:8200");
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = good(&minimal_and("audit: { file: audit.log }"));
    assert_eq!(
        config.registry.path(),
        Some(Path::new("conf/machines.yaml"))
    );
    assert_eq!(config.audit.sink, AuditSink::File("conf/audit.log".into()));
}

#[test]
fn absolute_paths_stay_as_they_are() {
    let config = good(&MINIMAL.replace("machines.yaml", "/etc/machines.yaml"));
    assert_eq!(
        config.registry.path(),
        Some(Path::new("/etc/machines.yaml"))
    );
}

#[test]
fn five_mistakes_of_five_kinds_are_all_named_with_line_and_key() {
    let text = "\
listeners:
  - address: localhost:8080
registry: { file: machines.yaml }
upstreams:
  secrets: { servers: ['http://127.0.0.1:8200'] }
routes:
  - { path: /, upstream: secretz, max_bdy: 1MiB }
limits: { header_timeout: 10 }
log: [info]
";
    let text = wrong(text);
    assert_eq!(text.lines().count(), 5, "{text}");
    for start in [
        "conf/countersign.yaml:2: listeners[0].address: \"localhost:8080\" is not an IP address",
        "conf/countersign.yaml:7: routes[0].upstream: there is no upstream \"secretz\"; did you mean `secrets`?",
        "conf/countersign.yaml:7: routes[0].max_bdy: is an unknown key; did you mean `max_body`?",
        "conf/countersign.yaml:8: limits.header_timeout: 10 has no unit; write 10s",
        "conf/countersign.yaml:9: log: must be a mapping, not a list",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(start)),
            "{start} in {text}"
        );
    }
}

#[test]
fn an_empty_table_names_every_key_that_has_no_default() {
    let text = wrong("{}");
    for key in ["listeners", "registry.file", "upstreams", "routes"] {
        assert!(text.contains(&format!("{key}: is missing")), "{text}");
    }
    assert_eq!(text.lines().count(), 4);
}

#[test]
fn the_registry_file_is_found_beside_mistakes() {
    let file = registry_in(&minimal_and("threads: many"), Path::new("conf/x.yaml"));
    assert_eq!(file.as_deref(), Some(Path::new("conf/machines.yaml")));
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    for text in [
        minimal_and("colour: red"),
        minimal_and("admin: { colour: red }"),
        minimal_and("identity: { colour: red }"),
        minimal_and("replay: { colour: red }"),
        minimal_and("limits: { colour: red }"),
        minimal_and("audit: { colour: red }"),
        minimal_and("log: { colour: red }"),
        minimal_and("shutdown: { colour: red }"),
        with_route("colour: red"),
        with_upstream("colour: red"),
        with_upstream("credential: { header: X-Vault-Token, env: VAULT_TOKEN, colour: red }"),
        MINIMAL.replace("machines.yaml", "machines.yaml, colour: red"),
        MINIMAL.replace("0.0.0.0:8080", "0.0.0.0:8080, colour: red"),
    ] {
        assert!(only(&text).contains("colour: is an unknown key"), "{text}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    for (key, text) in [
        ("routes[0].allow", with_route("allow: []")),
        ("upstreams.secrets.retries", with_upstream("retries: 1")),
    ] {
        let text = only(&text);
        let mistake = format!(" {key}: is an unknown key");
        assert!(text.contains(&mistake), "{key} in {text}");
    }
}

#[test]
fn a_repeated_key_is_refused_with_both_lines() {
    assert_eq!(
        only(&minimal_and("threads: 1\nthreads: 2")),
        "6: threads: is given twice, first on line 5; keep one of the two"
    );
}

#[test]
fn a_key_without_a_value_is_a_mistake_and_not_its_default() {
    for text in [
        "limits:",
        "threads:",
        "hosts:",
        "limits: { keepalive: }",
        "threads: ~",
    ] {
        assert!(only(&minimal_and(text)).contains("has no value"), "{text}");
    }
}

#[test]
fn a_wrong_kind_of_value_is_named() {
    assert!(only(&minimal_and("threads: [1]")).contains("must be a whole number, not a list"));
    assert!(
        only(&minimal_and("threads: { a: 1 }")).contains("must be a whole number, not a mapping")
    );
    assert!(only(&minimal_and("hosts: a")).contains("must be a list, not a single value"));
    assert!(only(&minimal_and("log: info")).contains("must be a mapping, not a single value"));
}

#[test]
fn a_required_table_of_the_wrong_kind_is_one_mistake() {
    let text = MINIMAL.replace("{ file: machines.yaml }", "machines.yaml");
    assert!(only(&text).contains("registry: must be a mapping"));
}

#[test]
fn what_is_not_a_table_is_one_mistake() {
    assert!(only("just text").contains("must be a mapping"));
    assert!(only("[1, 2]").contains("must be a mapping"));
}

#[test]
fn an_empty_file_is_a_mistake() {
    assert!(only("").contains("is empty"));
    assert!(only("# nothing\n").contains("is empty"));
}

#[test]
fn a_second_document_is_a_mistake() {
    assert!(only(&minimal_and("---\nthreads: 1")).contains("second document"));
}

#[test]
fn broken_yaml_is_a_mistake_with_its_line() {
    assert!(only(&minimal_and("threads: [")).contains("is not YAML"));
}

#[test]
fn aliases_are_refused_so_that_no_bomb_can_grow() {
    let bomb = "a: &a [x, x]\nhosts: [*a, *a]";
    assert!(wrong(&minimal_and(bomb)).contains("hosts[0]: is an alias"));
}

#[test]
fn tags_are_refused() {
    assert!(only(&minimal_and("threads: !!int 4")).contains("has a tag"));
}

#[test]
fn a_flood_of_mistakes_is_bounded() {
    let flood: String = (0..50_000).map(|i| format!("key{i}: 1\n")).collect();
    let mistakes = read_text(&flood).unwrap_err();
    assert!(mistakes.list.len() <= 100);
    assert!(mistakes.unlisted > 0);
}

#[test]
fn a_long_key_does_not_make_a_long_message() {
    let mistakes = read_text(&minimal_and(&format!("{}: 1", "k".repeat(900)))).unwrap_err();
    assert!(mistakes.to_string().len() < 200);
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let mistakes = load(Path::new("no/such.yaml"), &environment()).unwrap_err();
    assert!(
        mistakes
            .to_string()
            .starts_with("no/such.yaml: cannot be read")
    );
    assert!(load(Path::new("/"), &environment()).is_err());
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let mistakes = load(Path::new("/dev/zero"), &environment()).unwrap_err();
    assert!(
        mistakes
            .to_string()
            .contains("is a device, not a regular file")
    );
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len((1 << 20) + 1).unwrap();
    let mistakes = load(large.path(), &environment()).unwrap_err();
    assert!(mistakes.to_string().contains("is larger than 1 MiB"));
}

#[test]
fn empty_lists_of_what_is_required_are_one_mistake_each() {
    for (key, text) in [
        (
            "listeners",
            MINIMAL.replace("[{ address: 0.0.0.0:8080 }]", "[]"),
        ),
        (
            "routes",
            MINIMAL.replace("[{ path: /, upstream: secrets }]", "[]"),
        ),
        (
            "upstreams.secrets.servers",
            MINIMAL.replace("['http://127.0.0.1:8200']", "[]"),
        ),
        ("hosts", minimal_and("hosts: []")),
    ] {
        assert!(only(&text).contains(&format!(" {key}: ")), "{key}");
    }
}
