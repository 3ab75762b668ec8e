//! `countersign doctor` names what is wrong, one provoked fault a test.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::clock::Faketime;
use crate::support::agent::{Agent, Impostor, refusal, write_key};
use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, Options, machine, registry};
use crate::support::process::{countersign, free_address, unix_seconds};
use crate::support::signer::Machine;
use crate::support::tls::{Authority, server_config, write_certificate_of_an_authority};

/// A machine that something is wrong with, or with its world.
struct Patient {
    folder: tempfile::TempDir,
    key: PathBuf,
    gateway: String,
    more: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// What the doctor said.
struct Diagnosis {
    code: i32,
    checks: Value,
}

impl Patient {
    fn before(gateway: impl Into<String>) -> Patient {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        write_key(&key, &machine());
        Patient {
            folder,
            key,
            gateway: gateway.into(),
            more: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn of(gateway: &Gateway) -> Patient {
        Patient::before(format!("http://{}", gateway.address))
    }

    fn with(mut self, more: &[&str]) -> Patient {
        self.more.extend(more.iter().map(ToString::to_string));
        self
    }

    fn examine(&self, form: &[&str]) -> std::process::Output {
        let id = machine().id;
        let key = self.key.to_str().unwrap();
        let common = [
            "doctor",
            "--gateway",
            &self.gateway,
            "--key",
            key,
            "--machine-id",
            &id,
        ];
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        countersign(&[&common[..], &more, form].concat())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap()
    }

    fn diagnosis(&self) -> Diagnosis {
        let output = self.examine(&["--json"]);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(report["ok"], output.status.success());
        Diagnosis {
            code: output.status.code().unwrap(),
            checks: report["checks"].clone(),
        }
    }
}

impl Diagnosis {
    /// The check that failed, and it alone; its text has these words.
    fn is_only(&self, check: &str, words: &[&str]) {
        let checks = self.checks.as_array().unwrap();
        let failed: Vec<&Value> = checks.iter().filter(|it| it["result"] == "fail").collect();
        assert_eq!(failed.len(), 1, "{:#}", self.checks);
        assert_eq!(failed[0]["check"], check, "{:#}", self.checks);
        let text = failed[0]["text"].as_str().unwrap();
        for word in words {
            assert!(text.contains(word), "{word} in: {text}");
        }
        assert_eq!(self.code, 1);
    }
}

fn options() -> Options {
    Options {
        start: unix_seconds() - 1,
        ..Options::default()
    }
}

fn healthy(backend: &Backend) -> Gateway {
    Gateway::with(backend, options())
}

#[test]
fn a_machine_that_is_well_is_told_so_line_by_line() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    let output = Patient::of(&gateway).examine(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.lines()
            .all(|line| line.starts_with("ok ") || line.starts_with("skipped  tls")),
        "{text}"
    );
    assert!(text.contains(&machine().public_key()), "{text}");
    // Nothing but GETs has left, and each once.
    let seen = backend.seen();
    assert!(seen.iter().all(|it| it.method == "GET"));
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_key_that_is_not_there() {
    let mut patient = Patient::before(format!("http://{}", free_address()));
    patient.key = patient.folder.path().join("other.pem");
    let output = patient.examine(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL     key"), "{text}");
    assert!(text.contains("other.pem: there is no such file"), "{text}");
}

#[test]
fn a_key_that_others_may_read() {
    let backend = Backend::start();
    let patient = Patient::of(&healthy(&backend));
    fs::set_permissions(&patient.key, fs::Permissions::from_mode(0o644)).unwrap();
    let output = patient.examine(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("mode 0644") && text.contains("chmod 600"),
        "{text}"
    );
}

#[test]
fn a_key_of_another_kind() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    let patient = Patient::of(&gateway);
    let key = patient.key.to_str().unwrap();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-out", key])
        .output();
    assert!(made.unwrap().status.success());
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    patient
        .diagnosis()
        .is_only("key", &["an RSA key", "countersign keygen"]);
}

#[test]
fn a_name_that_does_not_resolve() {
    let patient = Patient::before("http://no-such-host.invalid:8443");
    patient
        .diagnosis()
        .is_only("name", &["no-such-host.invalid", "resolver"]);
}

#[test]
fn a_port_where_nothing_listens() {
    let patient = Patient::before(format!("http://{}", free_address()));
    patient
        .diagnosis()
        .is_only("connection", &["refused", "is the gateway running"]);
}

/// A server that speaks TLS with a certificate for these names, valid until `year` begins; nothing
/// gets as far as a request.
fn tls_server(names: &[&str], year: i32) -> (SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    Authority::new(&folder.path().join("ca.pem")).issue(folder.path(), names, year);
    (serve_tls(&folder), folder)
}

/// The same with the certificate in the folder.
fn serve_tls(folder: &tempfile::TempDir) -> SocketAddr {
    let config = std::sync::Arc::new(server_config(folder.path(), None));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let _ = rustls::StreamOwned::new(session, stream).read(&mut [0; 1]);
        }
    });
    address
}

/// The words of `doctor`, `request` and `agent` about a gateway at this URL.
fn words_of_all(url: &str, ca: &str) -> [(&'static str, String); 3] {
    let patient = Patient::before(url.to_owned()).with(&["--cacert", ca]);
    let doctor = patient.diagnosis().checks.to_string();
    let key = patient.key.to_str().unwrap();
    let target = format!("{url}/v1/x");
    let sent = countersign(&[
        "request",
        "--key",
        key,
        "--machine-id",
        "web-1",
        "--cacert",
        ca,
    ])
    .args(["GET", &target])
    .output();
    let request = String::from_utf8(sent.unwrap().stderr).unwrap();
    let agent = Agent::of_file(tempfile::tempdir().unwrap(), |address| {
        let file = patient.folder.path().join("agent.yaml");
        let settings = format!(
            "listen: {address}\ngateway: {url}\nkey: {key}\nmachine_id: web-1\nca: {ca}\n\
             retry_for: 100ms\n"
        );
        fs::write(&file, settings).unwrap();
        file
    });
    let answer = agent.request("GET", "/v1/x", "", b"");
    let agent = String::from_utf8(answer.body).unwrap();
    [("doctor", doctor), ("request", request), ("agent", agent)]
}

#[test]
fn doctor_request_and_agent_tell_of_a_certificate_of_an_authority_in_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate_of_an_authority(folder.path());
    let address = serve_tls(&folder);
    let ca = folder.path().join("cert.pem");
    let url = format!("https://localhost:{}", address.port());
    for (who, told) in words_of_all(&url, ca.to_str().unwrap()) {
        assert!(told.contains("CA:FALSE"), "{who}: {told}");
        assert!(!told.contains("OtherError"), "{who}: {told}");
    }
}

#[test]
fn doctor_request_and_agent_tell_that_a_port_speaks_the_other_protocol() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    Authority::new(&ca);
    let url = format!("https://{}", gateway.address);
    for (who, told) in words_of_all(&url, ca.to_str().unwrap()) {
        assert!(told.contains("use http://"), "{who}: {told}");
    }
    let (address, folder) = tls_server(&["localhost"], 2100);
    let ca = folder.path().join("ca.pem");
    let url = format!("http://localhost:{}", address.port());
    for (who, told) in words_of_all(&url, ca.to_str().unwrap()) {
        assert!(told.contains("use https://"), "{who}: {told}");
    }
}

#[test]
fn a_certificate_of_an_authority_that_is_not_known() {
    let (address, _folder) = tls_server(&["localhost"], 2100);
    let (_, other) = tls_server(&["localhost"], 2100);
    let ca = other.path().join("ca.pem");
    let patient = Patient::before(format!("https://localhost:{}", address.port()));
    let patient = patient.with(&["--cacert", ca.to_str().unwrap()]);
    patient.diagnosis().is_only("tls", &["authority", "ca.pem"]);
}

#[test]
fn a_certificate_for_another_name() {
    let (address, folder) = tls_server(&["gateway.example"], 2100);
    let ca = folder.path().join("ca.pem");
    let patient = Patient::before(format!("https://localhost:{}", address.port()));
    let patient = patient.with(&["--cacert", ca.to_str().unwrap()]);
    patient
        .diagnosis()
        .is_only("tls", &["not for the name localhost"]);
}

#[test]
fn a_certificate_that_has_expired() {
    let (address, folder) = tls_server(&["localhost"], 2020);
    let ca = folder.path().join("ca.pem");
    let patient = Patient::before(format!("https://localhost:{}", address.port()));
    let patient = patient.with(&["--cacert", ca.to_str().unwrap()]);
    patient.diagnosis().is_only("tls", &["expired", "renew"]);
}

#[test]
fn a_port_that_does_not_speak_tls() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    let patient = Patient::before(format!("https://{}", gateway.address));
    let ca = patient.folder.path().join("ca.pem");
    Authority::new(&ca);
    let patient = patient.with(&["--cacert", ca.to_str().unwrap()]);
    patient.diagnosis().is_only("tls", &["TLS", "http://"]);
}

#[test]
fn a_port_that_speaks_nothing_but_tls() {
    let backend = Backend::start();
    let gateway = Gateway::with(
        &backend,
        Options {
            tls: true,
            ..options()
        },
    );
    let patient = Patient::before(format!("http://{}", gateway.tls_address.unwrap()));
    let ca = gateway.folder.path().join("cert.pem");
    let patient = patient.with(&["--cacert", ca.to_str().unwrap()]);
    patient
        .diagnosis()
        .is_only("gateway", &["this port speaks TLS", "https://"]);
}

#[test]
fn a_clock_that_is_ten_minutes_off() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    for (off, word) in [(600, "600 s"), (-600, "-600 s")] {
        let time = Faketime::new();
        time.set(off);
        let mut patient = Patient::of(&gateway);
        patient.environment = time.environment();
        let diagnosis = patient.diagnosis();
        let near = [
            word.to_owned(),
            word.replace("00", "01"),
            word.replace("600", "599"),
        ];
        let text = diagnosis.checks.to_string();
        assert!(near.iter().any(|it| text.contains(it.as_str())), "{text}");
        diagnosis.is_only("clock", &["set it"]);
    }
}

#[test]
fn a_machine_that_the_registry_does_not_have() {
    let backend = Backend::start();
    let machines = registry(&[&Machine::new("somebody-else", 9)]);
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..options()
        },
    );
    let words = ["has no machine machine-1", &machine().public_key()];
    Patient::of(&gateway)
        .diagnosis()
        .is_only("registry", &words);
}

#[test]
fn a_machine_that_the_registry_has_with_another_key() {
    let backend = Backend::start();
    let machines = registry(&[&Machine::new("machine-1", 9)]);
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..options()
        },
    );
    let words = ["another key", &machine().public_key()];
    Patient::of(&gateway)
        .diagnosis()
        .is_only("registry", &words);
}

#[test]
fn a_machine_that_is_switched_off() {
    let backend = Backend::start();
    let machines = registry(&[&machine()]) + "    enabled: false\n";
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..options()
        },
    );
    Patient::of(&gateway)
        .diagnosis()
        .is_only("registry", &["switched off", "machine enable"]);
}

#[test]
fn a_machine_whose_time_is_over() {
    let backend = Backend::start();
    let machines = registry(&[&machine()]) + "    expires: 2020-01-01T00:00:00Z\n";
    let gateway = Gateway::with(
        &backend,
        Options {
            machines,
            ..options()
        },
    );
    Patient::of(&gateway)
        .diagnosis()
        .is_only("registry", &["period of validity", "expires"]);
}

/// Stands between and changes each request's bytes; one request a connection.
fn rewriting(gateway: SocketAddr, change: fn(&str) -> String) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let Ok(head) = String::from_utf8(head) else {
                continue;
            };
            if head.is_empty() {
                continue;
            }
            let close = change(&head).replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut server = TcpStream::connect(gateway).unwrap();
            server.write_all(close.as_bytes()).unwrap();
            let mut answer = Vec::new();
            let _ = server.read_to_end(&mut answer);
            let _ = client.write_all(&answer);
        }
    });
    address
}

#[test]
fn a_proxy_in_between_that_normalises_paths() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    let proxy = rewriting(gateway.address, |head| {
        head.replacen("/ HTTP/1.1", " HTTP/1.1", 1)
    });
    let patient = Patient::before(format!("http://{proxy}"));
    patient.diagnosis().is_only("path", &["normalises", "raw"]);
}

#[test]
fn a_proxy_in_between_that_drops_the_signing_headers() {
    let backend = Backend::start();
    let gateway = healthy(&backend);
    let proxy = rewriting(gateway.address, |head| head.replace("x-nonce", "x-dropped"));
    let patient = Patient::before(format!("http://{proxy}"));
    patient.diagnosis().is_only("path", &["X-Nonce"]);
}

#[test]
fn something_that_is_not_countersign() {
    let backend = Backend::start();
    let patient = Patient::before(format!("http://{}", backend.address));
    patient.diagnosis().is_only("gateway", &["not Countersign"]);
}

#[test]
fn a_gateway_that_is_not_ready() {
    let id = "00112233445566778899aabbccddeeff";
    let answer = refusal("503 Service Unavailable", "not_ready", "").replace("0a", id);
    let answer = with_length(&answer);
    let impostor = Impostor::answering(&[&answer]);
    let patient = Patient::before(format!("http://{}", impostor.address));
    patient.diagnosis().is_only("gateway", &["not_ready"]);
}

#[test]
fn gateways_that_do_not_share_their_nonces() {
    let id = "00112233445566778899aabbccddeeff";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-Request-Id: {id}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    );
    let unsigned = refusal("401 Unauthorized", "missing_header", "").replace("0a", id);
    let impostor = Impostor::answering(&[&answer, &with_length(&unsigned), &answer]);
    let patient = Patient::before(format!("http://{}", impostor.address));
    patient
        .diagnosis()
        .is_only("replay", &["passed twice", "docs/replay.md"]);
}

#[test]
fn a_backend_that_is_not_there() {
    let backend = Backend::start();
    let servers = Some(vec![format!("http://{}", free_address())]);
    let gateway = Gateway::with(
        &backend,
        Options {
            servers,
            ..options()
        },
    );
    Patient::of(&gateway)
        .diagnosis()
        .is_only("backend", &["upstream_unreachable"]);
}

#[test]
fn a_route_that_lets_unsigned_requests_pass_leaves_the_registry_untold() {
    let backend = Backend::start();
    let until = unix_seconds() + 86_400;
    let until = time::OffsetDateTime::from_unix_timestamp(until.cast_signed()).unwrap();
    let routes = format!(
        "  - {{ path: /v1, upstream: secrets, mode: observe, observe_until: '{}' }}\n  \
         - {{ path: /open, upstream: secrets, mode: open }}\n",
        until.date()
    );
    // The key of this name is another one: nothing that the machine signs is good.
    let machines = registry(&[&Machine::new("machine-1", 9)]);
    let gateway = Gateway::with(
        &backend,
        Options {
            routes,
            machines,
            ..options()
        },
    );
    for path in ["/v1/x", "/open/x"] {
        let diagnosis = Patient::of(&gateway).with(&["--path", path]).diagnosis();
        assert_eq!(diagnosis.code, 1);
        let checks = diagnosis.checks.as_array().unwrap();
        let result = |check: &str| {
            let mut of_it = checks.iter().filter(|it| it["check"] == check);
            of_it.next().unwrap()["result"].as_str().unwrap().to_owned()
        };
        for check in ["registry", "path", "replay"] {
            assert_eq!(result(check), "skipped", "{path}: {:#}", diagnosis.checks);
        }
        assert_eq!(result("backend"), "ok");
    }
}

#[test]
fn a_path_that_no_route_serves_leaves_the_registry_untold() {
    let backend = Backend::start();
    let routes = "  - { path: /elsewhere, upstream: secrets }\n".into();
    let gateway = Gateway::with(
        &backend,
        Options {
            routes,
            ..options()
        },
    );
    let diagnosis = Patient::of(&gateway).diagnosis();
    assert_eq!(diagnosis.code, 1);
    assert!(diagnosis.checks.to_string().contains("--path"));
    let other = Patient::of(&gateway).with(&["--path", "/elsewhere/x"]);
    assert_eq!(other.diagnosis().code, 0);
}

/// The answer with the length that its body has.
fn with_length(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head: Vec<&str> = (head.split("\r\n"))
        .filter(|it| !it.starts_with("Content-Length"))
        .collect();
    format!(
        "{}\r\nContent-Length: {}\r\n\r\n{body}",
        head.join("\r\n"),
        body.len()
    )
}
