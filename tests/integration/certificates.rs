//! Certificates that are replaced and asked for, and revocations on connections that stay open.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::gateway::{Gateway, Options, machine, registry, wait_for};
use crate::support::http2::Http2;
use crate::support::tls;

fn with_tls(backend: &Backend) -> Gateway {
    Gateway::with(
        backend,
        Options {
            tls: true,
            ..Options::default()
        },
    )
}

fn ask(gateway: &Gateway, client: &mut Http2) -> u16 {
    let signed = gateway.sign(&machine(), "GET", "/a", b"");
    client.request("GET", "/a", &signed, b"", true).status
}

fn loaded(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric(&format!(
        "countersign_tls_reloads_total{{result=\"{result}\"}}"
    ))
}

#[test]
fn a_certificate_that_is_replaced_under_load_costs_no_request() {
    let backend = Backend::start();
    let gateway = with_tls(&backend);
    let address = gateway.tls_address.unwrap();
    let at = |name: &str| gateway.folder.path().join(name);
    fs::copy(at("cert.pem"), at("old-cert.pem")).unwrap();
    tls::write_as(gateway.folder.path(), "new-");
    fs::copy(at("new-cert.pem"), at("trusted-cert.pem")).unwrap();
    let both = [at("old-cert.pem"), at("trusted-cert.pem")];
    let new = [at("trusted-cert.pem")];

    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for keeps in [true, false, false] {
            let (gateway, both, over, answered) = (&gateway, &both, &over, &answered);
            scope.spawn(move || {
                let mut client = Http2::connect_trusting(address, both);
                while !over.load(Ordering::Relaxed) {
                    if !keeps {
                        client = Http2::connect_trusting(address, both);
                    }
                    assert_eq!(ask(gateway, &mut client), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        // One after the other, as certbot does: for a moment they do not go together.
        fs::rename(at("new-cert.pem"), at("cert.pem")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        fs::rename(at("new-key.pem"), at("key.pem")).unwrap();
        wait_for("the new certificate", || {
            (loaded(&gateway, "loaded") >= 1.0).then_some(())
        });
        let enough = answered.load(Ordering::Relaxed) + 20;
        wait_for("requests after that", || {
            (answered.load(Ordering::Relaxed) > enough).then_some(())
        });
        over.store(true, Ordering::Relaxed);
    });
    let mut client = Http2::connect_trusting(address, &new);
    assert_eq!(ask(&gateway, &mut client), 200);
}

#[test]
fn a_bad_certificate_leaves_the_last_good_one_in_force_and_is_counted() {
    let backend = Backend::start();
    let gateway = with_tls(&backend);
    let good = gateway.folder.path().join("good.pem");
    fs::copy(gateway.folder.path().join("cert.pem"), &good).unwrap();
    fs::write(gateway.folder.path().join("cert.pem"), "nonsense").unwrap();
    wait_for("the rejection", || {
        (loaded(&gateway, "rejected") >= 1.0).then_some(())
    });
    let mut client = Http2::connect_trusting(gateway.tls_address.unwrap(), &[good]);
    assert_eq!(ask(&gateway, &mut client), 200);
}

#[test]
fn a_revocation_counts_from_the_next_request_on_an_open_http2_connection() {
    let gateway = with_tls(&Backend::start());
    let mut client = Http2::connect(gateway.tls_address.unwrap(), gateway.folder.path());
    assert_eq!(ask(&gateway, &mut client), 200);
    gateway.write_registry(&format!("{}    enabled: false\n", registry(&[&machine()])));
    wait_for("the reload", || {
        let loads = gateway.metric("countersign_registry_reloads_total{result=\"loaded\"}");
        (loads >= 2.0).then_some(())
    });
    assert_eq!(ask(&gateway, &mut client), 403);
}

#[test]
fn where_a_client_certificate_is_asked_for_nobody_connects_without() {
    let backend = Backend::start();
    let clients = tempfile::tempdir().unwrap();
    tls::write_as(clients.path(), "client-");
    tls::write_as(clients.path(), "other-");
    let at = |name: &str| clients.path().join(name).to_str().unwrap().to_owned();
    let options = Options {
        tls: true,
        tls_more: format!(", client_ca: {:?}", at("client-cert.pem")),
        ..Options::default()
    };
    let gateway = Gateway::with(&backend, options);
    let own = gateway.folder.path().join("cert.pem");
    let url = format!(
        "https://localhost:{}/a",
        gateway.tls_address.unwrap().port()
    );
    let status = |certificate: Option<&str>| {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--noproxy",
            "*",
            "--cacert",
        ]);
        curl.arg(&own).arg(&url);
        if let Some(name) = certificate {
            let (cert, key) = (
                at(&format!("{name}-cert.pem")),
                at(&format!("{name}-key.pem")),
            );
            curl.args(["--cert", &cert, "--key", &key]);
        }
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    // Through TLS, an unsigned request is refused as ever.
    assert_eq!(status(Some("client")), "401");
    assert_eq!(status(Some("other")), "000");
    assert_eq!(status(None), "000");
}
