//! TLS to the backend: whom the gateway believes, and what the client hears when it believes
//! nobody.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, Options, wait_for};
use crate::support::process::run;
use crate::support::tls::Authority;

/// Long after every test.
const LATER: i32 = 2100;

/// An authority, whose certificate is `ca.pem`, and what it has issued.
struct Pki {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Pki {
    fn new() -> Pki {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(&folder.path().join("ca.pem"));
        Pki { folder, authority }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A backend with a certificate for these names.
    fn backend(&self, names: &[&str]) -> Backend {
        self.authority.issue(self.folder.path(), names, LATER);
        Backend::with_tls(self.folder.path(), None)
    }

    /// The `tls` of an upstream that believes this authority, with more settings.
    fn settings(&self, more: &str) -> String {
        format!("    tls: {{ ca: {:?}, {more} }}\n", self.file("ca.pem"))
    }
}

fn gateway(backend: &Backend, upstream: String) -> Gateway {
    let options = Options {
        servers: Some(vec![format!("https://{}", backend.address)]),
        upstream,
        ..Options::default()
    };
    Gateway::with(backend, options)
}

/// The code that a client gets, once no request has reached the backend.
fn refusal(gateway: &Gateway, backend: &Backend) -> String {
    let answer = gateway.request("GET", "/a", b"");
    assert!(
        backend.seen().is_empty(),
        "nothing may be sent to whom nobody has verified"
    );
    assert_eq!(answer.status, 502);
    answer.code()
}

#[test]
fn a_backend_with_a_certificate_for_its_address_is_spoken_to() {
    let pki = Pki::new();
    let backend = pki.backend(&["127.0.0.1"]);
    let gateway = gateway(&backend, pki.settings(""));
    for count in 1..=3 {
        assert_eq!(gateway.request("PUT", "/a", b"body").status, 200);
        gateway.decisions("response", count);
        gateway.hands.advance(Duration::from_millis(50));
    }
    assert_eq!((backend.seen().len(), backend.connections()), (3, 1));
    assert_eq!(backend.seen()[0].one("host"), backend.address.to_string());
}

#[test]
fn the_configured_name_is_what_the_certificate_must_be_for() {
    let pki = Pki::new();
    let backend = pki.backend(&["vault.internal"]);
    let right = gateway(&backend, pki.settings("server_name: vault.internal"));
    assert_eq!(right.request("GET", "/a", b"").status, 200);

    let backend = pki.backend(&["vault.internal"]);
    let wrong = gateway(&backend, pki.settings("server_name: other.internal"));
    assert_eq!(refusal(&wrong, &backend), "upstream_unreachable");
    let by_address = gateway(&backend, pki.settings(""));
    assert_eq!(refusal(&by_address, &backend), "upstream_unreachable");
}

#[test]
fn an_authority_that_nobody_named_is_not_believed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let backend = pki.backend(&["127.0.0.1"]);
    let strange = gateway(&backend, other.settings(""));
    assert_eq!(refusal(&strange, &backend), "upstream_unreachable");
    // Nor by default: the system does not know it either.
    let default = gateway(&backend, String::new());
    assert_eq!(refusal(&default, &backend), "upstream_unreachable");
}

#[test]
fn a_certificate_that_has_expired_is_not_believed() {
    let pki = Pki::new();
    pki.authority.issue(pki.folder.path(), &["127.0.0.1"], 2020);
    let backend = Backend::with_tls(pki.folder.path(), None);
    let gateway = gateway(&backend, pki.settings(""));
    assert_eq!(refusal(&gateway, &backend), "upstream_unreachable");
}

#[test]
fn a_backend_that_asks_for_a_certificate_gets_the_gateways_own() {
    let (pki, own) = (Pki::new(), Pki::new());
    own.authority.issue(own.folder.path(), &["gateway"], LATER);
    pki.authority
        .issue(pki.folder.path(), &["127.0.0.1"], LATER);
    let backend = Backend::with_tls(pki.folder.path(), Some(&own.file("ca.pem")));
    let files = format!(
        "cert: {:?}, key: {:?}",
        own.file("cert.pem"),
        own.file("key.pem")
    );
    let known = gateway(&backend, pki.settings(&files));
    assert_eq!(known.request("GET", "/a", b"").status, 200);

    let backend = Backend::with_tls(pki.folder.path(), Some(&own.file("ca.pem")));
    let unknown = gateway(&backend, pki.settings(""));
    // With TLS 1.3 the backend says so only once the request is on its way, so the gateway cannot
    // say that nothing was sent.
    assert_eq!(refusal(&unknown, &backend), "upstream_error");
}

#[test]
fn plain_http_where_tls_is_expected_is_unreachable() {
    let pki = Pki::new();
    // Says something as soon as anything is said to it, as servers do that expect plain text.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let options = Options {
        servers: Some(vec![format!("https://{address}")]),
        upstream: pki.settings(""),
        ..Options::default()
    };
    let gateway = Gateway::with(&Backend::start(), options);
    assert_eq!(
        gateway.request("GET", "/a", b"").code(),
        "upstream_unreachable"
    );
}

#[test]
fn tls_where_plain_http_is_expected_is_an_error_of_the_backend() {
    let pki = Pki::new();
    let backend = pki.backend(&["127.0.0.1"]);
    let gateway = Gateway::start(&backend);
    assert_eq!(refusal(&gateway, &backend), "upstream_error");
}

#[test]
fn an_authority_that_is_replaced_counts_for_new_connections_and_ends_the_old_ones() {
    let (pki, other) = (Pki::new(), Pki::new());
    let backend = pki.backend(&["127.0.0.1"]);
    let gateway = gateway(&backend, pki.settings(""));
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);
    let loaded = |result: &str| {
        let name = "countersign_tls_reloads_total";
        gateway.metric(&format!("{name}{{result=\"{result}\"}}"))
    };

    fs::write(pki.file("ca.pem"), "nonsense").unwrap();
    wait_for("the rejection", || (loaded("rejected") > 0.0).then_some(()));
    assert_eq!(gateway.request("GET", "/a", b"").status, 200);

    fs::copy(other.file("ca.pem"), pki.file("new")).unwrap();
    fs::rename(pki.file("new"), pki.file("ca.pem")).unwrap();
    wait_for("the new authority", || {
        (loaded("loaded") > 0.0).then_some(())
    });
    // The connection that was made under the old one is still open, and not used any more.
    assert_eq!(
        gateway.request("GET", "/a", b"").code(),
        "upstream_unreachable"
    );
    assert_eq!(backend.seen().len(), 2);
}

#[test]
fn health_checks_are_made_through_tls_and_carry_no_credential() {
    let pki = Pki::new();
    let backend = pki.backend(&["127.0.0.1"]);
    let options = Options {
        servers: Some(vec![format!("https://{}", backend.address)]),
        upstream: pki.settings("")
            + "    health: { path: /health, interval: 100ms }\n    \
               credential: { header: X-Vault-Token, file: token }\n",
        token: Some("s.SECRET".to_owned()),
        ..Options::default()
    };
    let _gateway = Gateway::with(&backend, options);
    let checks = wait_for("two checks", || {
        Some(backend.seen()).filter(|seen| seen.len() >= 2)
    });
    assert_eq!(
        (checks[0].method.as_str(), checks[0].target.as_str()),
        ("GET", "/health")
    );
    assert_eq!(checks[0].one("host"), backend.address.to_string());
    assert!(!format!("{checks:?}").contains("s.SECRET"));
}

#[test]
fn the_log_tells_what_failed_in_tls() {
    let (pki, other) = (Pki::new(), Pki::new());
    let expired = Pki::new();
    expired
        .authority
        .issue(expired.folder.path(), &["127.0.0.1"], 2020);
    let plain = Backend::start();
    let cases: [(&str, Backend, &Path, &str); 4] = [
        (
            "name",
            pki.backend(&["vault.internal"]),
            &pki.file("ca.pem"),
            "not valid for name",
        ),
        (
            "issuer",
            pki.backend(&["127.0.0.1"]),
            &other.file("ca.pem"),
            "UnknownIssuer",
        ),
        (
            "expired",
            Backend::with_tls(expired.folder.path(), None),
            &expired.file("ca.pem"),
            "certificate expired",
        ),
        ("plain", plain, &pki.file("ca.pem"), "TLSHandshakeFailure"),
    ];
    for (case, backend, ca, says) in cases {
        let upstream = format!(
            "{{ servers: [\"https://{}\"], tls: {{ ca: {ca:?} }}, connect_timeout: 500ms, \
             health: {{ path: / }} }}",
            backend.address
        );
        let process = crate::support::process::Process::with_upstream(&upstream);
        wait_for(case, || process.log().contains(says).then_some(()));
    }
}

#[test]
fn a_bad_file_is_a_mistake_of_check_and_of_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("ca.pem"), "nonsense").unwrap();
    fs::write(at("machines.yaml"), "machines: []\n").unwrap();
    let config = "listeners: [{ address: '127.0.0.1:0' }]\nregistry: { file: machines.yaml }\n\
                  upstreams: { a: { servers: ['https://127.0.0.1:1'], tls: { ca: ca.pem } } }\n\
                  routes: [{ path: /, upstream: a }]\n";
    fs::write(at("c.yaml"), config).unwrap();
    for command in ["check", "serve"] {
        let output = run(&[command, "--config", at("c.yaml").to_str().unwrap()]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{command}: {text}");
        assert!(
            text.contains("upstreams.a.tls.ca: ") && text.contains("no certificate"),
            "{text}"
        );
    }
}
