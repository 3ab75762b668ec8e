//! The binary, as a person uses it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::backend::Backend;
use crate::support::process::{Process, countersign, free_address, run, write_configuration};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const FIVE_MISTAKES: &str = "\
listeners:
  - address: not-an-address
registry: { file: machines.yaml }
upstreams:
  secrets: { servers: [\"ftp://127.0.0.1:1\"] }
routes:
  - { path: /, upstream: sekrets, max_body: lots }
limits: { header_timeout: 10 }
";

const THEIR_KEYS: [&str; 5] = [
    "listeners[0].address",
    "upstreams.secrets.servers[0]",
    "routes[0].upstream",
    "routes[0].max_body",
    "limits.header_timeout",
];

#[test]
fn check_names_all_of_five_mistakes_with_their_keys_and_exits_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countersign.yaml");
    fs::write(&file, FIVE_MISTAKES).unwrap();
    fs::write(folder.path().join("machines.yaml"), "machines: []\n").unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let text = stdout(&output) + &stderr(&output);
    for key in THEIR_KEYS {
        assert!(text.contains(key), "{key} is not named in:\n{text}");
    }
    assert!(text.contains("countersign.yaml"));
}

#[test]
fn serve_with_five_mistakes_binds_nothing_and_exits_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countersign.yaml");
    let address = free_address();
    let bad = FIVE_MISTAKES.replace("not-an-address", &address.to_string());
    fs::write(&file, format!("{bad}nonsense: 1\n")).unwrap();
    fs::write(folder.path().join("machines.yaml"), "machines: []\n").unwrap();
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    for key in &THEIR_KEYS[1..] {
        assert!(
            stderr(&output).contains(key),
            "{key} is not named in:\n{}",
            stderr(&output)
        );
    }
    assert!(std::net::TcpListener::bind(address).is_ok());
}

#[test]
fn check_and_serve_find_a_tls_file_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    let (plain, tls) = (free_address(), free_address());
    write_configuration(folder.path(), &backend, plain, free_address(), "{}");
    let file = folder.path().join("countersign.yaml");
    let listeners =
        format!("listeners:\n  - address: {tls}\n    tls: {{ cert: cert.pem, key: key.pem }}\n");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replacen("listeners:\n", &listeners, 1)).unwrap();
    for command in ["check", "serve"] {
        let output = run(&[command, "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert!(stderr(&output).contains("cert.pem"), "{}", stderr(&output));
    }
    assert!(std::net::TcpListener::bind(plain).is_ok());
}

#[test]
fn serve_with_a_bad_registry_exits_78_and_says_why() {
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    write_configuration(
        folder.path(),
        &backend,
        free_address(),
        free_address(),
        "{}",
    );
    fs::write(
        folder.path().join("machines.yaml"),
        "machines:\n  - id: web 1\n    public_keys: [nonsense]\n",
    )
    .unwrap();
    let file = folder.path().join("countersign.yaml");
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(
        text.contains("machines.yaml") && text.contains("public_keys"),
        "{text}"
    );
}

#[test]
fn serve_on_an_address_in_use_says_so_and_exits_1() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    write_configuration(
        folder.path(),
        &backend,
        taken.local_addr().unwrap(),
        free_address(),
        "{}",
    );
    let file = folder.path().join("countersign.yaml");
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot listen on"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_reference_configuration_passes_check() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/countersign.yaml");
    let output = run(&["check", "--config", file]);
    assert!(
        output.status.success(),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
}

#[test]
fn a_wrong_call_exits_64_and_help_exits_0_with_an_example() {
    assert_eq!(run(&["nonsense"]).status.code(), Some(64));
    assert_eq!(run(&["sign"]).status.code(), Some(64));
    assert_eq!(run(&[]).status.code(), Some(64));
    for command in [
        "serve", "check", "demo", "keygen", "machine", "sign", "health", "request", "agent",
        "doctor",
    ] {
        let output = run(&[command, "--help"]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("Example"), "{command}");
    }
}

#[test]
fn keygen_writes_a_private_file_that_openssl_reads() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let output = run(&["keygen", "--out", key.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim().len(), 44);
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let openssl = Command::new("openssl")
        .args(["pkey", "-noout", "-text", "-in", key.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(stdout(&openssl).contains("ED25519"), "{}", stderr(&openssl));
    // Never over an existing key.
    assert_eq!(
        run(&["keygen", "--out", key.to_str().unwrap()])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn a_new_machine_reads_through_the_gateway_with_request_and_with_curl() {
    let backend = Backend::start();
    let process = Process::serve(&backend, "{ delay: 0s, grace: 5s }");
    let folder = process.folder.path();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (key, machines, config) = (
        path("key.pem"),
        path("machines.yaml"),
        path("countersign.yaml"),
    );
    let public = stdout(&run(&["keygen", "--out", &key])).trim().to_owned();
    let added = run(&[
        "machine",
        "add",
        "--registry",
        &machines,
        "--id",
        "web-1",
        "--name",
        "web",
        "--public-key",
        &public,
    ]);
    assert!(added.status.success(), "{}", stderr(&added));
    assert!(run(&["check", "--config", &config]).status.success());

    let url = format!("http://{}/v1/secret/a", process.address);
    let request = [
        "request",
        "--key",
        &key,
        "--machine-id",
        "web-1",
        "GET",
        &url,
    ];
    crate::support::gateway::wait_for("the new machine", || {
        run(&request).status.success().then_some(())
    });
    assert_eq!(stdout(&run(&request)), "{\"ok\":true}");

    let mut sign = countersign(&[
        "sign",
        "--key",
        &key,
        "--machine-id",
        "web-1",
        "GET",
        "/v1/secret/a",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let curl = Command::new("curl")
        .args(["-sS", "--fail-with-body", "-H", "@-", &url])
        .stdin(sign.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(sign.wait().unwrap().success());
    assert!(curl.status.success(), "{}{}", stdout(&curl), stderr(&curl));
    assert_eq!(backend.seen().last().unwrap().one("x-machine-name"), "web");

    let body = folder.join("body");
    fs::write(&body, "content").unwrap();
    let posted = run(&[
        "request",
        "--key",
        &key,
        "--machine-id",
        "web-1",
        "--data",
        body.to_str().unwrap(),
        "POST",
        &url,
    ]);
    assert!(posted.status.success(), "{}", stderr(&posted));
    assert_eq!(backend.seen().last().unwrap().body, b"content");

    assert!(
        run(&["machine", "disable", "--registry", &machines, "web-1"])
            .status
            .success()
    );
    crate::support::gateway::wait_for("the revocation", || {
        let refused = run(&request);
        (refused.status.code() == Some(1) && stdout(&refused).contains("machine_disabled"))
            .then_some(())
    });
}

#[test]
fn the_demo_tells_its_story_and_ends() {
    let output = run(&["demo", "--once"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    for part in [
        "correct-horse",
        "replayed",
        "bad_signature",
        "missing_header",
        "\"decision\":\"accepted\"",
        "countersign_queries_stripped_total 1",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn health_fails_where_nobody_answers_and_says_what_to_look_at() {
    let nobody = free_address().to_string();
    let output = run(&["health", "--admin", &nobody]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    for part in [&*nobody, "refused", "Is the gateway running?", "--admin"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn health_and_reload_find_the_gateway_by_its_configuration() {
    let process = Process::serve(&Backend::start(), "{ delay: 0s, grace: 5s }");
    let folder = process.folder.path();
    let file = folder.join("countersign.yaml");
    for command in ["health", "reload"] {
        let in_the_folder = countersign(&[command]).current_dir(folder).output();
        let by_variable = countersign(&[command])
            .env("COUNTERSIGN_CONFIG", &file)
            .output();
        let named = run(&[command, "--config", file.to_str().unwrap()]);
        for output in [in_the_folder.unwrap(), by_variable.unwrap(), named] {
            assert!(output.status.success(), "{command}: {}", stderr(&output));
        }
    }
    // A mistake elsewhere in it, which the gateway that runs has not taken, does not matter.
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{good}nonsense: 1\n")).unwrap();
    let output = countersign(&["health"]).current_dir(folder).output();
    assert!(output.unwrap().status.success());
    // An address that is none does.
    fs::write(&file, "admin: { address: here }\n").unwrap();
    let output = countersign(&["health"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("admin.address"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn check_explain_and_machine_read_the_configuration_that_is_there() {
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    let (address, admin) = (free_address(), free_address());
    write_configuration(folder.path(), &backend, address, admin, "{}");
    for (command, code) in [
        (&["check"][..], 0),
        (&["machine", "list"], 0),
        (&["explain", "--machine", "machine-1", "GET", "/a"], 0),
    ] {
        let output = countersign(command)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{command:?}: {}",
            stderr(&output)
        );
    }
}

/// What `serve` says first, under these limits of the shell.
fn begins_with(limits: &str, words: &str) {
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    let (address, admin) = (free_address(), free_address());
    write_configuration(
        folder.path(),
        &backend,
        address,
        admin,
        "{ delay: 0s, grace: 1s }",
    );
    let config = folder.path().join("countersign.yaml");
    let mut child = Command::new("sh")
        .args([
            "-c",
            &format!("{limits}; exec \"$0\" serve --config \"$1\""),
        ])
        .arg(env!("CARGO_BIN_EXE_countersign"))
        .arg(config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines
        .by_ref()
        .take(50)
        .map_while(Result::ok)
        .any(|line| line.contains(words));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found, "{words}");
}

#[test]
fn the_limit_of_descriptors_is_raised_at_the_start() {
    begins_with("ulimit -Sn 256", "raised the limit of descriptors");
}

#[test]
fn a_limit_of_descriptors_that_is_too_low_is_told_with_what_to_do() {
    begins_with("ulimit -n 256", "raise LimitNOFILE=");
}
