//! Addresses, windows, budgets and the identity header.

use std::time::Duration;

use tracing::Level;

use super::*;
use crate::config::ConnectionReuse;

#[test]
fn settings_are_read() {
    let config = good(&minimal_and(
        "identity: { header: X-Caller }
replay: { window: 1m, future: 5s, quota: 500, quota_per_machine: 20 }
limits: { header_timeout: 500ms, connections: 7 }
log: { level: debug, format: json }
shutdown: { delay: 0s, grace: 1m }
hosts: [Gate.example.com]
threads: 3",
    ));
    assert_eq!(config.identity_header, "x-caller");
    assert_eq!((config.replay.past, config.replay.future), (60, 5));
    assert_eq!(
        (config.replay.quota, config.replay.quota_per_machine),
        (500, 20)
    );
    assert_eq!(config.limits.header_timeout, Duration::from_millis(500));
    assert_eq!(config.limits.connections, 7);
    assert_eq!(
        config.log,
        Log {
            level: Level::DEBUG,
            format: Format::Json
        }
    );
    assert_eq!(config.shutdown.delay, Duration::ZERO);
    assert_eq!(config.hosts, ["gate.example.com"]);
    assert_eq!(config.threads, 3);
}

#[test]
fn addresses_need_an_ip_address_and_a_port() {
    for address in [
        "localhost:8080",
        "0.0.0.0",
        ":8080",
        "1.2.3.4:99999",
        "::1:80",
        "",
        "010.0.0.1:8080",
        "127.0.0.1:08080",
        "[::ffff:127.0.0.1]:8080",
    ] {
        let text = MINIMAL.replace("0.0.0.0:8080", &format!("'{address}'"));
        assert!(only(&text).contains("listeners[0].address"), "{address}");
    }
}

#[test]
fn two_listeners_cannot_share_a_port() {
    let text = MINIMAL.replace("}]\nregistry", "}, { address: 127.0.0.1:8080 }]\nregistry");
    assert!(only(&text).contains("listeners[1].address: 127.0.0.1:8080 is in use"));
    let text = minimal_and("admin: { address: 127.0.0.1:8080 }");
    assert!(only(&text).contains("admin.address"));
}

#[test]
fn one_port_of_both_families_is_no_collision_and_leaves_ipv6_to_its_own() {
    let text = MINIMAL.replace("}]\nregistry", "}, { address: '[::]:8080' }]\nregistry");
    let config = good(&text);
    let all = || config.listeners.iter().map(|listener| listener.address);
    let only: Vec<bool> = all().map(|address| only_ipv6(address, all())).collect();
    assert_eq!(only, [false, true]);
    let alone = good(&MINIMAL.replace("0.0.0.0:8080", "'[::]:8080'"));
    let address = alone.listeners[0].address;
    assert!(!only_ipv6(address, [address, alone.admin]), "it takes both");
}

#[test]
fn a_listener_cannot_take_the_default_port_of_the_admin_pages() {
    let text = MINIMAL.replace("8080", "9790");
    assert!(only(&text).contains("admin.address: the default"));
}

#[test]
fn listeners_on_port_zero_do_not_collide() {
    let text = MINIMAL.replace(
        "}]\nregistry",
        "}, { address: 127.0.0.1:0 }, { address: 127.0.0.1:0 }]\nregistry",
    );
    assert_eq!(good(&text).listeners.len(), 3);
}

#[test]
fn admin_pages_on_a_public_address_are_a_warning() {
    let loaded = read_text(&minimal_and("admin: { address: 0.0.0.0:9790 }")).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].key, "admin.address");
}

#[test]
fn the_identity_header_stays_free_of_every_other_setting() {
    let identity = "identity: { header: X-Caller }";
    for text in [
        with_upstream("set_headers: { x_caller: me }"),
        with_upstream("credential: { header: X-Caller, env: VAULT_TOKEN }"),
        with_route("forward_headers: [X-Caller]"),
    ] {
        only(&format!("{text}{identity}\n"));
    }
}

#[test]
fn the_identity_header_cannot_be_reserved() {
    for name in [
        "X-Machine-Id",
        "X-Signature",
        "Host",
        "X-Machine-Key",
        "X-Real-Ip",
        "not a name",
    ] {
        let text = minimal_and(&format!("identity: {{ header: '{name}' }}"));
        assert!(only(&text).contains("identity.header"), "{name}");
    }
}

#[test]
fn the_window_lies_between_a_second_and_an_hour() {
    for window in ["1s", "1h"] {
        good(&minimal_and(&format!("replay: {{ window: {window} }}")));
    }
    for window in ["0s", "999ms", "1500ms", "3601s", "300"] {
        let text = only(&minimal_and(&format!("replay: {{ window: {window} }}")));
        assert!(text.contains("replay.window"), "{window}");
    }
}

#[test]
fn the_future_is_the_window_unless_it_is_given() {
    assert_eq!(
        good(&minimal_and("replay: { window: 30s }")).replay.future,
        30
    );
}

#[test]
fn one_machines_quota_is_within_the_quota_of_all() {
    assert_eq!(
        good(&minimal_and("replay: { quota: 500 }"))
            .replay
            .quota_per_machine,
        500
    );
    let text = minimal_and("replay: { quota: 500, quota_per_machine: 501 }");
    assert!(only(&text).contains("replay.quota_per_machine"));
}

#[test]
fn the_body_budget_has_room_for_the_largest_body() {
    let text = with_route("max_body: 32MiB") + "limits: { body_budget: 16MiB }\n";
    assert!(only(&text).contains("limits.body_budget"));
}

#[test]
fn the_largest_body_there_is_can_be_drained_within_seconds() {
    let limits = good(&minimal_and("")).limits;
    assert_eq!(limits.drain_bytes, 32 << 20);
    assert_eq!(limits.drain_timeout.as_secs(), 5);
}

#[test]
fn names_of_the_admin_listener_have_no_port() {
    let with = |hosts: &str| minimal_and(&format!("admin: {{ hosts: {hosts} }}"));
    assert_eq!(good(&with("[GW.internal]")).admin_hosts, ["gw.internal"]);
    for bad in [
        "[gw:9790]",
        "['[::1]:80']",
        "['']",
        "[a b]",
        "[http://a]",
        "[]",
    ] {
        assert!(only(&with(bad)).contains("admin.hosts"), "{bad}");
    }
}

#[test]
fn no_deadline_can_be_switched_off() {
    for key in [
        "header_timeout",
        "body_timeout",
        "keepalive",
        "write_timeout",
        "drain_timeout",
    ] {
        let text = only(&minimal_and(&format!("limits: {{ {key}: 0s }}")));
        assert!(text.contains(key), "{text}");
    }
    for key in [
        "connect_timeout",
        "read_timeout",
        "write_timeout",
        "idle_timeout",
    ] {
        assert!(only(&with_upstream(&format!("{key}: 0s"))).contains(key));
    }
}

#[test]
fn connections_to_a_backend_are_shared_only_where_that_is_written_out() {
    let of = |line: &str| good(&with_upstream(line)).upstreams[0].reuse;
    assert_eq!(of("idle_timeout: 4s"), ConnectionReuse::Machine);
    assert_eq!(of("reuse: machine"), ConnectionReuse::Machine);
    assert_eq!(of("reuse: shared"), ConnectionReuse::Shared);
    let text = only(&with_upstream("reuse: everyone"));
    assert!(text.contains("is neither machine nor shared"), "{text}");
}

#[test]
fn the_state_directory_is_beside_the_configuration_unless_it_is_said_otherwise() {
    let of = |more: &str| good(&minimal_and(more)).replay.state_dir;
    assert_eq!(of(""), Some("conf/state".into()));
    assert_eq!(of("replay: { state_dir: x/y }"), Some("conf/x/y".into()));
    assert_eq!(of("replay: { state_dir: /var/x }"), Some("/var/x".into()));
    assert_eq!(of("replay: { state_dir: none }"), None);
    let text = only(&minimal_and("replay: { state_dir: '' }"));
    assert!(
        text.contains("replay.state_dir: is not a file name"),
        "{text}"
    );
}

#[test]
fn systemd_says_where_the_state_directory_is_by_default() {
    let under_systemd = |variable| Environment {
        variable,
        ..environment()
    };
    let file = Path::new("conf/countersign.yaml");
    let of = |text: &str, environment| {
        read(text, file, &environment)
            .unwrap()
            .config
            .replay
            .state_dir
    };
    let one = under_systemd(|name| match name {
        "STATE_DIRECTORY" => Ok("/var/lib/countersign".into()),
        _ => Err(VarError::NotPresent),
    });
    assert_eq!(of(MINIMAL, one), Some("/var/lib/countersign".into()));
    let written = minimal_and("replay: { state_dir: x }");
    assert_eq!(of(&written, one), Some("conf/x".into()));
    let several = under_systemd(|_| Ok("/var/lib/a:/var/lib/b".into()));
    assert_eq!(of(MINIMAL, several), Some("/var/lib/a".into()));
    let empty = under_systemd(|_| Ok(String::new()));
    assert_eq!(of(MINIMAL, empty), Some("conf/state".into()));
}

#[test]
fn the_tls_of_the_admin_listener_has_a_certificate_and_a_key() {
    let with = |tls: &str| minimal_and(&format!("admin: {{ tls: {tls} }}"));
    let admin = good(&with("{ cert: a.pem, key: /b.pem }"))
        .admin_tls
        .unwrap();
    assert_eq!(admin.files.cert, Path::new("conf/a.pem"));
    assert_eq!(admin.files.key, Path::new("/b.pem"));
    assert_eq!((admin.files.client_ca, admin.client), (None, None));
    assert!(good(MINIMAL).admin_tls.is_none());
    for (tls, says) in [
        ("{ cert: a.pem }", "admin.tls.key"),
        ("{ key: a.pem }", "admin.tls.cert"),
        ("{ cert: a, key: b, ca: c }", "admin.tls.ca"),
        (
            "{ cert: a, key: b, client_ca: c, client: { cert: d } }",
            "admin.tls.client.key",
        ),
        (
            "{ cert: a, key: b, client: { cert: c, key: d } }",
            "is not asked for without `client_ca`",
        ),
    ] {
        assert!(only(&with(tls)).contains(says), "{tls}");
    }
}

#[test]
fn an_admin_listener_that_asks_for_certificates_may_be_reached_from_outside() {
    let with = |tls: &str| {
        let text = format!("admin: {{ address: 0.0.0.0:9790, tls: {{ cert: a, key: b{tls} }} }}");
        let warnings = read_text(&minimal_and(&text)).unwrap().warnings;
        warnings
            .into_iter()
            .map(|warning| warning.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(with(""), ["admin.address"]);
    assert_eq!(with(", client_ca: c, client: { cert: d, key: e }"), [""; 0]);
    // The commands would have no certificate to show.
    assert_eq!(with(", client_ca: c"), ["admin.tls"]);
}

#[test]
fn a_command_finds_the_admin_listener_in_a_configuration_with_mistakes_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    let access = |text: &str| {
        std::fs::write(&file, text).unwrap();
        admin_access(&file)
    };
    let text =
        "routes: 7\nadmin: { address: 127.0.0.1:1, hosts: [GW], tls: { cert: a, key: b } }\n";
    let found = access(text).unwrap();
    assert_eq!(
        (found.address.port(), &found.hosts[..]),
        (1, &["gw".to_owned()][..])
    );
    assert_eq!(found.tls.unwrap().files.cert, folder.path().join("a"));
    assert_eq!(access("routes: 7\n").unwrap(), AdminAccess::default());
    assert!(access("admin: { address: nowhere }\n").is_err());
}
