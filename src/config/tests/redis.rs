//! The shared store: where it is, how to log in, and that no message repeats a password.

use std::time::Duration;

use super::*;

fn with_redis(settings: &str) -> String {
    minimal_and(&format!(
        "replay: {{ store: redis, redis: {{ {settings} }} }}"
    ))
}

fn redis(settings: &str) -> Redis {
    good(&with_redis(settings)).replay.redis.unwrap()
}

#[test]
fn a_url_is_enough() {
    let redis = redis("url: redis://10.0.0.5");
    let server = Endpoint {
        host: "10.0.0.5".into(),
        port: 6379,
        tls: false,
        database: 0,
    };
    assert_eq!(redis.server, server);
    assert_eq!(redis.timeout, Duration::from_millis(50));
    assert_eq!(redis.clock_margin, 5);
    assert_eq!(
        (redis.username, redis.password, redis.ca),
        (None, None, None)
    );
    assert_eq!(redis.prefix, "countersign:");
}

#[test]
fn urls_are_read() {
    for (url, host, port, tls, database) in [
        ("redis://r.internal:6380", "r.internal", 6380, false, 0),
        ("rediss://r.internal", "r.internal", 6379, true, 0),
        ("valkey://r:1/", "r", 1, false, 0),
        ("valkeys://r:1/15", "r", 1, true, 15),
        ("redis://[::1]:7000/1", "::1", 7000, false, 1),
    ] {
        let server = redis(&format!("url: '{url}'")).server;
        let (found, port_found) = (server.host.as_str(), server.port);
        assert_eq!((found, port_found), (host, port), "{url}");
        assert_eq!((server.tls, server.database), (tls, database), "{url}");
    }
}

#[test]
fn other_urls_are_refused() {
    for url in [
        "",
        "r.internal:6379",
        "http://r.internal",
        "redis://",
        "redis://:6379",
        "redis://r:0",
        "redis://r:70000",
        "redis://r:",
        "redis://r:x",
        "redis://r/x",
        "redis://r/1/2",
        "redis://r/-1",
        "redis://r?protocol=3",
        "redis://a b",
        "unix:///run/redis.sock",
        "redis+sentinel://r",
    ] {
        let text = only(&with_redis(&format!("url: '{url}'")));
        assert!(text.contains("replay.redis.url"), "{url}: {text}");
    }
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    for url in [
        format!("redis://:{SECRET}@r:6379"),
        format!("redis://user:{SECRET}@r"),
        format!("{SECRET}@r"),
        format!("redis://r/{SECRET}"),
    ] {
        let text = only(&with_redis(&format!("url: '{url}'")));
        assert!(text.contains("replay.redis.url"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_password_comes_from_the_environment_and_is_never_printed() {
    let config = good(&with_redis(
        "url: redis://r, username: gate, password_env: REDIS_PASSWORD",
    ));
    assert!(!format!("{config:?}").contains(SECRET));
    let redis = config.replay.redis.unwrap();
    assert_eq!(redis.password.unwrap().reveal(), SECRET);
    assert_eq!(redis.username.as_deref(), Some("gate"));
}

#[test]
fn a_missing_or_empty_password_is_a_mistake() {
    for name in ["NOWHERE", "EMPTY"] {
        let text = only(&with_redis(&format!(
            "url: redis://r, password_env: {name}"
        )));
        assert!(text.contains("replay.redis.password_env"), "{text}");
    }
    let text = only(&with_redis("url: redis://r, password_file: no/such"));
    assert!(text.contains("conf/no/such cannot be read"), "{text}");
}

#[test]
fn a_password_comes_from_one_place() {
    let both = "url: redis://r, password_env: REDIS_PASSWORD, password_file: x";
    assert!(only(&with_redis(both)).contains("replay.redis.password_env: is set together"));
}

#[test]
fn a_user_without_a_password_is_a_mistake() {
    let text = only(&with_redis("url: redis://r, username: gate"));
    assert!(text.contains("replay.redis.username"), "{text}");
}

#[test]
fn certificates_are_for_tls_alone() {
    assert_eq!(
        redis("url: rediss://r, ca: ca.pem").ca,
        Some(PathBuf::from("conf/ca.pem"))
    );
    assert!(only(&with_redis("url: redis://r, ca: ca.pem")).contains("replay.redis.ca"));
}

#[test]
fn the_deadline_and_the_margin_have_bounds() {
    for setting in [
        "timeout: 0s",
        "timeout: 6s",
        "timeout: 50",
        "clock_margin: 0s",
        "clock_margin: 61s",
        "clock_margin: 1500ms",
        "prefix: ''",
        "prefix: 'a b'",
    ] {
        let key = setting.split(':').next().unwrap();
        let text = only(&with_redis(&format!("url: redis://r, {setting}")));
        assert!(text.contains(&format!("replay.redis.{key}")), "{text}");
    }
}

#[test]
fn several_gateways_need_the_shared_store() {
    let text = only(&minimal_and("replay: { instances: 2 }"));
    assert!(text.contains("replay.instances: is above 1"), "{text}");
    good(&minimal_and("replay: { instances: 1 }"));
    good(&minimal_and(
        "replay: { instances: 3, store: redis, redis: { url: redis://r } }",
    ));
}

#[test]
fn the_store_and_its_settings_go_together() {
    let text = only(&minimal_and("replay: { store: redis }"));
    assert!(text.contains("replay.redis: is missing"), "{text}");
    let text = only(&minimal_and("replay: { redis: { url: redis://r } }"));
    assert!(text.contains("replay.redis: needs"), "{text}");
    assert!(only(&with_redis("timeout: 1s")).contains("replay.redis.url: is missing"));
}

#[test]
fn a_journal_beside_a_shared_store_is_a_mistake_and_none_is_not() {
    let with = |state_dir: &str| {
        let replay = "replay: { store: redis, redis: { url: redis://r }, state_dir: ";
        minimal_and(&format!("{replay}{state_dir} }}"))
    };
    assert!(only(&with("state")).contains("replay.state_dir: is not used"));
    assert_eq!(good(&with("none")).replay.state_dir, None);
    assert_eq!(good(&with_redis("url: redis://r")).replay.state_dir, None);
}
