//! What machines' requests carry to the backend, and what becomes of them when it cannot be had or
//! the backend refuses it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::support::backend::{Backend, Seen, ok};
use crate::support::client::{Response, exchange};
use crate::support::gateway::{Gateway, Options, machine, raw, registry, wait_for};
use crate::support::signer::Machine;

const CHECK: &str = "/v1/auth/token/lookup-self";

/// A second machine, with a credential of its own.
fn of_team_a() -> Machine {
    Machine::new("machine-2", 2)
}

/// The upstream has the credential `t0ken`; machine-2 has `team-a`, from the file `team-a` once
/// that is there.
fn gateway(backend: &Backend, upstream: &str) -> Gateway {
    let machines = registry(&[&machine(), &of_team_a()]) + "    credential: team-a\n";
    let credential = "    credential: { header: X-Vault-Token, file: token }\n";
    let gateway = Gateway::with(
        backend,
        Options {
            upstream: format!("{credential}{upstream}"),
            token: Some("t0ken".into()),
            machines,
            more:
                "credentials: { team-a: { header: Authorization, prefix: 'Bearer ', env: PATH } }\n"
                    .into(),
            ..Options::default()
        },
    );
    fs::write(gateway.folder.path().join("team-a"), "teams-token\n").unwrap();
    gateway.edit_config(|config| config.replace("env: PATH", "file: team-a"));
    reloaded(&gateway, "loaded", 1);
    gateway
}

fn reloaded(gateway: &Gateway, result: &str, times: usize) {
    let sample = format!("countersign_config_reloads_total{{result=\"{result}\"}}");
    wait_for("the configuration", || {
        (gateway.metric(&sample) >= times as f64).then_some(())
    });
}

fn ask(gateway: &Gateway, machine: &Machine, path: &str) -> Response {
    let lines = gateway.sign(machine, "GET", path, b"").lines();
    exchange(gateway.address, raw("GET", path, &lines, b""))
}

/// A backend whose answer to requests, and to look-ups, can be set.
fn refusing() -> (Backend, Arc<[AtomicU16; 2]>) {
    let statuses = Arc::new([AtomicU16::new(403), AtomicU16::new(403)]);
    let its = Arc::clone(&statuses);
    let backend = Backend::answering(move |seen: &Seen| {
        let status = its[usize::from(seen.target == CHECK)].load(Ordering::SeqCst);
        match status {
            200 => ok(b"{}"),
            0 => Vec::new(),
            status => {
                format!("HTTP/1.1 {status} No\r\nContent-Length: 7\r\n\r\nrefused").into_bytes()
            }
        }
    });
    (backend, statuses)
}

fn usable(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!(
        "countersign_credential_usable{{credential=\"{name}\"}}"
    ))
}

#[test]
fn each_machine_carries_its_own_credential_or_the_upstreams() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    assert_eq!(ask(&gateway, &of_team_a(), "/a").status, 200);
    let seen = backend.seen();
    assert_eq!(seen[0].one("x-vault-token"), "t0ken");
    assert!(seen[0].all("authorization").is_empty());
    assert_eq!(seen[1].one("authorization"), "Bearer teams-token");
    assert!(seen[1].all("x-vault-token").is_empty());
}

#[test]
fn no_client_sends_and_none_gets_the_header_of_any_credential() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Vault-Token: a\r\nAuthorization: b\r\nX_Vault_Token: c\r\n\r\n".to_vec()
    });
    let gateway = gateway(&backend, "");
    let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
    let own = "X-Vault-Token: mine\r\nAuthorization: Bearer mine\r\nX_Vault_Token: mine\r\n";
    let answer = exchange(
        gateway.address,
        raw("GET", "/a", &format!("{lines}{own}"), b""),
    );
    assert_eq!(answer.status, 200);
    for name in ["x-vault-token", "authorization", "x_vault_token"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let seen = backend.only();
    assert_eq!(seen.one("x-vault-token"), "t0ken");
    assert!(seen.all("authorization").is_empty() && seen.all("x_vault_token").is_empty());
}

#[test]
fn the_paths_that_hand_a_credential_out_are_closed_to_a_machines_own_too() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    for path in [CHECK, "/v1/sys/mounts"] {
        let answer = ask(&gateway, &of_team_a(), path);
        assert_eq!(answer.code(), "not_permitted");
        let text = String::from_utf8(answer.body).unwrap();
        let prefix = path.split('/').take(3).collect::<Vec<_>>().join("/");
        for words in ["closed to every machine", "routes[].path", &prefix] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn a_file_that_goes_takes_the_credential_away_and_one_that_comes_brings_it_back() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let file = gateway.folder.path().join("team-a");
    fs::remove_file(&file).unwrap();
    wait_for("it to go", || {
        (usable(&gateway, "team-a") == 0.0).then_some(())
    });
    assert_eq!(
        ask(&gateway, &of_team_a(), "/a").code(),
        "upstream_credential"
    );
    // Least of all is the upstream's own sent in its place; others go on.
    assert!(backend.seen().is_empty());
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);

    fs::write(&file, "another").unwrap();
    wait_for("it to come", || {
        (usable(&gateway, "team-a") == 1.0).then_some(())
    });
    assert_eq!(ask(&gateway, &of_team_a(), "/a").status, 200);
    assert_eq!(backend.seen()[1].one("authorization"), "Bearer another");
}

#[test]
fn a_secret_that_kubernetes_swaps_is_sent_from_then_on() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let at = |name: &str| gateway.folder.path().join("mounted").join(name);
    for version in ["v1", "v2"] {
        fs::create_dir_all(at(version)).unwrap();
        fs::write(at(version).join("token"), version).unwrap();
    }
    std::os::unix::fs::symlink("v1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/token", at("token")).unwrap();
    gateway.edit_config(|config| config.replace("file: team-a", "file: mounted/token"));
    reloaded(&gateway, "loaded", 2);
    assert_eq!(ask(&gateway, &of_team_a(), "/a").status, 200);
    std::os::unix::fs::symlink("v2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    wait_for("the new token", || {
        assert_eq!(ask(&gateway, &of_team_a(), "/a").status, 200);
        (backend.seen().last()?.one("authorization") == "Bearer v2").then_some(())
    });
    assert_eq!(backend.seen()[0].one("authorization"), "Bearer v1");
}

#[test]
fn a_refusal_of_the_gateways_credential_does_not_reach_the_client_as_its_own() {
    let (backend, _) = refusing();
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    let answer = ask(&gateway, &machine(), "/a");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "upstream_credential")
    );
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((&*seen[1].method, &*seen[1].target), ("GET", CHECK));
    assert_eq!(seen[1].one("x-vault-token"), "t0ken");
    assert!(seen[1].all("x-machine-identity").is_empty());
    assert_eq!(usable(&gateway, "upstream:secrets"), 0.0);
    assert_eq!(usable(&gateway, "team-a"), 1.0);
    let response = &gateway.decisions("response", 1)[0];
    assert_eq!(response["status"], 503);
}

#[test]
fn a_refusal_that_is_the_backends_policy_crosses() {
    let (backend, statuses) = refusing();
    statuses[1].store(200, Ordering::SeqCst);
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    for status in [403, 401] {
        statuses[0].store(status, Ordering::SeqCst);
        let answer = ask(&gateway, &machine(), "/a");
        assert_eq!((answer.status, &*answer.body), (status, &b"refused"[..]));
    }
    assert_eq!(usable(&gateway, "upstream:secrets"), 1.0);
}

#[test]
fn each_machine_is_limited_by_what_the_backend_allows_its_own_credential() {
    let backend = Backend::answering(|seen| {
        let is_team_a = seen.all("authorization") == ["Bearer teams-token"];
        let is_for_team_a = seen.target.starts_with("/v1/team-a/");
        match seen.target == CHECK || is_team_a == is_for_team_a {
            true => ok(b"{}"),
            false => b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\ndenied".to_vec(),
        }
    });
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    let status = |machine: &Machine, path: &str| ask(&gateway, machine, path).status;
    assert_eq!(status(&of_team_a(), "/v1/team-a/x"), 200);
    assert_eq!(status(&of_team_a(), "/v1/others/x"), 403);
    assert_eq!(status(&machine(), "/v1/team-a/x"), 403);
    assert_eq!(status(&machine(), "/v1/others/x"), 200);
}

#[test]
fn a_look_up_that_does_not_tell_counts_as_a_refusal_of_the_credential() {
    let (backend, statuses) = refusing();
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    for unclear in [500, 404, 0] {
        statuses[1].store(unclear, Ordering::SeqCst);
        assert_eq!(
            ask(&gateway, &machine(), "/a").code(),
            "upstream_credential"
        );
    }
    let unknown =
        "countersign_credential_checks_total{credential=\"upstream:secrets\",result=\"unknown\"}";
    assert_eq!(gateway.metric(unknown), 3.0);
}

#[test]
fn a_look_up_without_an_answer_ends_after_two_seconds_and_vouches_for_nothing() {
    let backend = Backend::answering(|seen| {
        if seen.target == CHECK {
            std::thread::sleep(Duration::from_secs(6));
        }
        b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    assert_eq!(
        ask(&gateway, &machine(), "/a").code(),
        "upstream_credential"
    );
}

#[test]
fn a_look_up_that_began_before_a_refusal_does_not_vouch_for_the_credential() {
    let (backend, statuses) = refusing();
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    let look_ups = || {
        backend
            .seen()
            .iter()
            .filter(|seen| seen.target == CHECK)
            .count()
    };
    statuses[1].store(200, Ordering::SeqCst);
    assert_eq!(ask(&gateway, &machine(), "/a").status, 403);
    // Revoked at once: not a second passes by the gateway's clock.
    statuses[1].store(403, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(
            ask(&gateway, &machine(), "/a").code(),
            "upstream_credential"
        );
    }
    statuses[1].store(200, Ordering::SeqCst);
    assert_eq!(ask(&gateway, &machine(), "/a").status, 403);
    assert_eq!(look_ups(), 5);
}

#[test]
fn interim_answers_to_a_look_up_are_skipped() {
    let backend = Backend::answering(|seen| match seen.target == CHECK {
        true => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
        false => b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\ndenied".to_vec(),
    });
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    let answer = ask(&gateway, &machine(), "/a");
    assert_eq!((answer.status, &*answer.body), (403, &b"denied"[..]));
}

#[test]
fn another_value_in_the_file_is_another_credential() {
    let (backend, statuses) = refusing();
    let gateway = gateway(&backend, &format!("    check: GET {CHECK}\n"));
    assert_eq!(
        ask(&gateway, &machine(), "/a").code(),
        "upstream_credential"
    );
    for status in &*statuses {
        status.store(200, Ordering::SeqCst);
    }
    fs::write(gateway.folder.path().join("token"), "n3w").unwrap();
    wait_for("the new token", || {
        (usable(&gateway, "upstream:secrets") == 1.0).then_some(())
    });
    assert_eq!(ask(&gateway, &machine(), "/a").status, 200);
    assert_eq!(backend.seen().last().unwrap().one("x-vault-token"), "n3w");
}

#[test]
fn without_a_check_the_backends_answer_crosses() {
    let (backend, _) = refusing();
    let gateway = gateway(&backend, "");
    assert_eq!(ask(&gateway, &machine(), "/a").status, 403);
    backend.only();
}
