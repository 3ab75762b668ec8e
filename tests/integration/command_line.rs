//! The binary, as a person uses it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::{PATIENCE, machine, raw};
use crate::support::process::{
    Process, countersign, free_address, run, unix_seconds, write_configuration,
};

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
        "doctor", "explain", "reload", "audit", "report",
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

/// A running gateway, and a machine that the command line made and registered.
struct NewMachine {
    backend: Backend,
    process: Process,
    key: String,
    registry: String,
    url: String,
}

impl NewMachine {
    /// With the machine in force.
    fn registered() -> NewMachine {
        let backend = Backend::start();
        let process = Process::serve(&backend, "{ delay: 0s, grace: 5s }");
        let path = |name: &str| {
            process
                .folder
                .path()
                .join(name)
                .to_str()
                .unwrap()
                .to_owned()
        };
        let (key, registry) = (path("key.pem"), path("machines.yaml"));
        let public = stdout(&run(&["keygen", "--out", &key])).trim().to_owned();
        let (named, id) = (["--name", "web"], ["--machine-id", "web-1"]);
        let to = [
            "machine",
            "add",
            "--registry",
            &registry,
            "--public-key",
            &public,
        ];
        let added = run(&[&to[..], &id, &named].concat());
        assert!(added.status.success(), "{}", stderr(&added));
        let url = format!("http://{}/v1/secret/a", process.address);
        let machine = NewMachine {
            backend,
            process,
            key,
            registry,
            url,
        };
        crate::support::gateway::wait_for("the new machine", || {
            machine.get().status.success().then_some(())
        });
        machine
    }

    fn request(&self, arguments: &[&str]) -> Output {
        let signer = ["request", "--key", &self.key, "--machine-id", "web-1"];
        run(&[&signer, arguments].concat())
    }

    fn get(&self) -> Output {
        self.request(&["GET", &self.url])
    }
}

#[test]
fn check_passes_with_the_registry_that_machine_add_wrote() {
    let machine = NewMachine::registered();
    let config = machine.process.folder.path().join("countersign.yaml");
    let checked = run(&["check", "--config", config.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[test]
fn request_prints_the_body_of_the_response() {
    assert_eq!(stdout(&NewMachine::registered().get()), "{\"ok\":true}");
}

#[test]
fn curl_sends_the_headers_that_sign_prints() {
    let machine = NewMachine::registered();
    let signer = ["sign", "--key", &machine.key, "--machine-id", "web-1"];
    let mut sign = countersign(&[&signer[..], &["GET", "/v1/secret/a"]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let curl = Command::new("curl")
        .args(["-sS", "--fail-with-body", "-H", "@-", &machine.url])
        .stdin(sign.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(sign.wait().unwrap().success());
    assert!(curl.status.success(), "{}{}", stdout(&curl), stderr(&curl));
    let seen = machine.backend.seen();
    assert_eq!(seen.last().unwrap().one("x-machine-name"), "web");
}

#[test]
fn request_sends_a_file_as_the_body() {
    let machine = NewMachine::registered();
    let body = machine.process.folder.path().join("body");
    fs::write(&body, "content").unwrap();
    let data = ["--data", body.to_str().unwrap()];
    let posted = machine.request(&[&data[..], &["POST", &machine.url]].concat());
    assert!(posted.status.success(), "{}", stderr(&posted));
    assert_eq!(machine.backend.seen().last().unwrap().body, b"content");
}

#[test]
fn a_machine_that_the_command_line_disables_is_refused() {
    let machine = NewMachine::registered();
    let disabled = run(&[
        "machine",
        "disable",
        "--registry",
        &machine.registry,
        "web-1",
    ]);
    assert!(disabled.status.success(), "{}", stderr(&disabled));
    crate::support::gateway::wait_for("the revocation", || {
        let refused = machine.get();
        let is_disabled = stdout(&refused).contains("machine_disabled");
        (refused.status.code() == Some(1) && is_disabled).then_some(())
    });
}

#[test]
fn sign_and_request_read_the_key_and_the_body_from_standard_input() {
    let backend = Backend::start();
    let process = Process::serve(&backend, "{ delay: 0s, grace: 5s }");
    let folder = process.folder.path();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (key, machines, body) = (path("key.pem"), path("machines.yaml"), path("body"));
    let public = stdout(&run(&["keygen", "--out", &key])).trim().to_owned();
    let new = ["--machine-id", "web-1", "--public-key", &public];
    let added = run(&[&["machine", "add", "--registry", &machines], &new[..]].concat());
    assert!(added.status.success(), "{}", stderr(&added));
    fs::write(&body, "content").unwrap();
    let url = format!("http://{}/v1/secret/a", process.address);
    let with_input = |arguments: &[&str], input: &str| {
        let input = fs::File::open(input).unwrap();
        countersign(arguments).stdin(input).output().unwrap()
    };
    let request = ["request", "--machine-id", "web-1"];
    let key_there = [&request[..], &["--key", "-", "GET", &url]].concat();
    crate::support::gateway::wait_for("the new machine", || {
        (with_input(&key_there, &key).status.success()).then_some(())
    });
    let body_there = [&request[..], &["--key", &key, "--data", "-", "POST", &url]].concat();
    let posted = with_input(&body_there, &body);
    assert!(posted.status.success(), "{}", stderr(&posted));
    assert_eq!(backend.seen().last().unwrap().body, b"content");

    let sign = ["sign", "--machine-id", "web-1", "--key"];
    let signed = with_input(&[&sign[..], &["-", "GET", "/a"]].concat(), &key);
    assert_eq!(stdout(&signed).lines().count(), 4, "{}", stderr(&signed));
    // A body in place of the key is told, without its content.
    let wrong = with_input(&[&sign[..], &["-", "GET", "/a"]].concat(), &body);
    assert_eq!(wrong.status.code(), Some(78));
    assert!(
        stderr(&wrong).starts_with("--key -: "),
        "{}",
        stderr(&wrong)
    );
    assert!(!stderr(&wrong).contains("content"), "{}", stderr(&wrong));
    let both = with_input(
        &[&sign[..], &["-", "--data", "-", "PUT", "/a"]].concat(),
        &key,
    );
    assert_eq!(both.status.code(), Some(64), "{}", stderr(&both));
}

#[test]
fn request_names_the_gateway_that_it_cannot_reach_and_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let key = key.to_str().unwrap();
    assert!(run(&["keygen", "--out", key]).status.success());
    let nobody = free_address();
    let url = format!("http://{nobody}/a");
    let output = run(&["request", "--key", key, "--machine-id", "m", "GET", &url]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("cannot reach the gateway at http://{nobody}: connection refused");
    assert!(
        stderr(&output).starts_with(&expected),
        "{}",
        stderr(&output)
    );
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
        (&["explain", "--machine-id", "machine-1", "GET", "/a"], 0),
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

/// A backend that answers every request with 200 and more bytes than it has announced.
fn talkative() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n");
            // Behind the head, so that it is read as a body.
            std::thread::sleep(std::time::Duration::from_millis(100));
            let _ = stream.write_all(b"sekret-answersekret-and-more");
        }
    });
    address
}

#[test]
fn the_log_has_pingoras_warnings_of_a_backend_and_nothing_secret_at_any_level() {
    for (level, warns) in [("trace", true), ("info", true), ("error", false)] {
        let upstream = format!("{{ servers: ['http://{}'] }}", talkative());
        let mut process = Process::with_upstream(&upstream);
        process.kill();
        let file = process.folder.path().join("countersign.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace(
            "upstream: secrets }]",
            "upstream: secrets, query: signed }]",
        );
        fs::write(&file, format!("{text}log: {{ level: {level} }}\n")).unwrap();
        process.start_again();
        process.wait_until_ready();
        // An honest request, one with a secret in every place, and one that nothing can be made of.
        let (target, body) = ("/sekret-path?token=sekret-query", b"sekret-body");
        let signed = machine().sign("POST", target, unix_seconds(), body).lines();
        let lines = format!("{signed}X-Vault-Token: sekret-token\r\nCookie: sekret-cookie\r\n");
        let honest = raw("POST", target, &lines, body);
        assert_eq!(
            Client::connect(process.address).exchange(&honest).status,
            200
        );
        for garbage in [
            "POST /sekret-path HTTP/1.1\r\nHost: gw\r\nContent-Length: sekret-length\r\n\r\n",
            "GET /sekret-path?sekret-query HTTP/1.1\r\nHost: gw\r\nsekret header\r\n\r\n",
        ] {
            Client::connect(process.address).exchange(garbage.as_bytes());
        }
        process.signal("TERM");
        process.wait(PATIENCE);
        let log = process.log();
        assert_eq!(
            log.contains("Peer sent more data than expected"),
            warns,
            "{level}: {log}"
        );
        assert!(!log.contains("sekret"), "{level}: {log}");
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
