//! The status page and `/status.json`. How the page looks in a browser is tested in tests/clients.

use std::time::Duration;

use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{
    Gateway, Options, START, ask_admin, machine, raw, registry, wait_for,
};
use crate::support::signer::Machine;

const SECRET: &str = "the-token-of-the-backend";

fn status(gateway: &Gateway) -> Value {
    let (status, body) = gateway.admin_get("/status.json");
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    let rows = list["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect()
}

/// The whole answer to a GET, head and body.
fn whole(gateway: &Gateway, path: &str, lines: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(gateway.admin).unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn with_secret(backend: &Backend) -> Gateway {
    Gateway::with(
        backend,
        Options {
            upstream: "    credential: { header: X-Vault-Token, file: token }\n".into(),
            token: Some(SECRET.into()),
            ..Options::default()
        },
    )
}

#[test]
fn a_gateway_without_a_fault_is_well() {
    let backend = Backend::start();
    let gateway = with_secret(&backend);
    gateway.request("GET", "/a", b"");
    let status = wait_for("the count", || {
        let status = status(&gateway);
        (status["traffic"]["forwarded"] == 1).then_some(status)
    });
    assert_eq!(status["verdict"], "well", "{status:#}");
    assert_eq!(
        (&status["ready"], &status["reasons"]),
        (&true.into(), &Value::Array(vec![]))
    );
    assert_eq!(status["servers"]["rows"][0]["in_service"], true);
    assert_eq!(status["secrets"]["rows"][0]["usable"], true);
    assert_eq!(status["routes"]["rows"][0]["mode"], "enforce");
    assert_eq!(status["machines"]["source"]["kind"], "file");
    assert_eq!(status["machines"]["recent"]["rows"][0]["id"], "machine-1");
    assert_eq!(status["listeners"]["total"], 2);
    let page = gateway.admin_get("/").1;
    assert!(
        page.contains("<title>All is well · Countersign</title>"),
        "{page}"
    );
}

#[test]
fn neither_page_nor_data_holds_a_secret_a_nonce_or_a_signature() {
    let backend = Backend::start();
    let gateway = with_secret(&backend);
    let signed = gateway.sign(&machine(), "GET", "/a-secret-path", b"");
    let lines = signed.lines();
    exchange(gateway.address, raw("GET", "/a-secret-path", &lines, b""));
    exchange(gateway.address, raw("GET", "/a-secret-path", &lines, b""));
    let replayed = || status(&gateway)["traffic"]["refused"] == 1;
    wait_for("the refusal", || replayed().then_some(()));
    let told = [
        gateway.admin_get("/").1,
        gateway.admin_get("/status.json").1,
    ]
    .concat();
    let values = lines.lines().map(|line| line.split_once(": ").unwrap());
    for (name, value) in values.filter(|(name, _)| *name != "X-Machine-Id") {
        assert!(!told.contains(value), "{name}");
    }
    assert!(!told.contains(SECRET) && !told.contains("a-secret-path"));
    assert!(told.contains("replayed"));
}

#[test]
fn the_page_allows_its_own_style_and_nothing_else() {
    let gateway = Gateway::start(&Backend::start());
    let page = whole(&gateway, "/", "");
    let head = page.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert!(
        head.contains("content-type: text/html; charset=utf-8"),
        "{head}"
    );
    assert!(
        head.contains("default-src 'none'; style-src 'sha256-"),
        "{head}"
    );
    assert!(
        head.contains("frame-ancestors 'none'") && !head.contains("unsafe"),
        "{head}"
    );
    assert!(
        head.contains("cache-control: no-store") && head.contains("nosniff"),
        "{head}"
    );
    for banned in ["<script", " style=", "http://", "https://", "onload"] {
        // The icon names the namespace of SVG, which nobody fetches.
        let body = page.replace("http://www.w3.org/2000/svg", "");
        let body = body.split("\r\n\r\n").nth(1).unwrap();
        assert!(!body.contains(banned), "{banned}");
    }
}

#[test]
fn names_in_the_registry_cannot_become_markup() {
    let hostile = "<script>alert(1)</script>\\\"'>{{7*7}}";
    let machines = registry(&[&machine()])
        + &format!("    name: \"{hostile}\"\n    owner: \"{hostile}\"\n    vault: \"</style>\"\n");
    let gateway = Gateway::with(
        &Backend::start(),
        Options {
            machines,
            ..Options::default()
        },
    );
    gateway.request("GET", "/a", b"");
    let name = |status: Value| status["machines"]["recent"]["rows"][0]["name"].clone();
    assert_eq!(
        name(status(&gateway)),
        "<script>alert(1)</script>\"'>{{7*7}}"
    );
    let page = gateway.admin_get("/").1;
    assert!(!page.contains("<script") && page.matches("</style>").count() == 1);
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
}

#[test]
fn a_gateway_that_is_not_ready_says_why() {
    let gateway = Gateway::start(&Backend::start());
    gateway.hands.set(START * 1000 + 999);
    let status = status(&gateway);
    assert_eq!(
        (&status["verdict"], &status["ready"]),
        (&"not_ready".into(), &false.into())
    );
    let reason = status["reasons"][0].as_str().unwrap();
    assert!(reason.contains("quarantine"), "{reason}");
    let page = gateway.admin_get("/").1;
    assert!(
        page.contains(">Not ready<") || page.contains("Not ready</h1>"),
        "{page}"
    );
}

#[test]
fn a_file_with_a_mistake_is_told_with_its_mistake_until_it_is_mended() {
    let gateway = Gateway::start(&Backend::start());
    let good = std::fs::read_to_string(gateway.registry_path()).unwrap();
    gateway.write_registry("machines: <script>\n");
    let told = wait_for("the mistake", || {
        let status = status(&gateway);
        (status["verdict"] == "attention").then_some(status)
    });
    let rows = told["reloads"].as_array().unwrap();
    let registry = rows
        .iter()
        .find(|reload| reload["files"] == "registry")
        .unwrap();
    assert_eq!(registry["in_force"], false);
    assert!(
        registry["lines"]["total"].as_u64().unwrap() >= 2,
        "{registry}"
    );
    gateway.write_registry(&(good + "# mended\n"));
    wait_for("the end of it", || {
        (status(&gateway)["verdict"] == "well").then_some(())
    });
}

#[test]
fn an_upstream_without_a_server_in_service_fails() {
    let gateway = Gateway::with(
        &Backend::start(),
        Options {
            servers: Some(vec!["http://no-such-name.invalid:9".into()]),
            ..Options::default()
        },
    );
    let status = status(&gateway);
    assert_eq!(status["verdict"], "failing");
    assert_eq!(
        texts(&status["notices"]),
        ["upstream secrets: no server is in service"]
    );
    let server = &status["servers"]["rows"][0];
    assert_eq!(server["trouble"], "its name does not resolve");
}

#[test]
fn a_credential_without_a_file_fails() {
    let backend = Backend::start();
    let gateway = with_secret(&backend);
    std::fs::remove_file(gateway.folder.path().join("token")).unwrap();
    let status = wait_for("the loss", || {
        let status = status(&gateway);
        (status["verdict"] == "failing").then_some(status)
    });
    assert_eq!(status["secrets"]["rows"][0]["usable"], false);
    let told = texts(&status["notices"]);
    assert!(
        told[0].contains("credential upstream:secrets: there is no secret"),
        "{told:?}"
    );
}

#[test]
fn machines_that_expire_are_silent_or_have_a_wrong_clock_are_listed() {
    let (second, third) = (Machine::new("machine-2", 2), Machine::new("machine-3", 3));
    // START is 2027-01-15T08:00:00Z.
    let machines = registry(&[&machine()])
        + "    expires: 2027-01-18T08:00:00Z\n"
        + &registry(&[&second]).replace("machines:\n", "")
        + "    expires: 2027-01-16T07:00:00Z\n    owner: team b\n"
        + &registry(&[&third]).replace("machines:\n", "");
    let gateway = Gateway::with(
        &Backend::start(),
        Options {
            machines,
            ..Options::default()
        },
    );
    gateway.request("GET", "/a", b"");
    let early = second.sign("GET", "/a", gateway.now() + 130, b"");
    assert_eq!(
        exchange(gateway.address, raw("GET", "/a", &early.lines(), b"")).status,
        200
    );
    let today = status(&gateway);
    let machines = &today["machines"];
    assert_eq!(
        (&machines["expiring_24h"], &machines["expiring_7d"]),
        (&1.into(), &2.into())
    );
    assert_eq!(machines["expiring"]["rows"][0]["id"], "machine-2");
    assert_eq!(machines["expiring"]["rows"][0]["owner"], "team b");
    assert_eq!(machines["skewed"]["rows"][0]["skew_seconds"], -130);
    assert_eq!(
        (&machines["unused"], &machines["silent"]["total"]),
        (&1.into(), &0.into())
    );
    assert_eq!(today["verdict"], "attention");
    assert_eq!(
        texts(&today["notices"]),
        [
            "1 machine expires within 24 hours",
            "1 machine has a clock that is more than two minutes off",
            // It is the only one whose clock is known.
            "the clock of this gateway is -130 s from that of most machines"
        ]
    );
    assert_eq!(
        gateway.metric("countersign_machines_expiring{within=\"7d\"}"),
        2.0
    );
    gateway.hands.advance(Duration::from_secs(86_400));
    let tomorrow = status(&gateway);
    assert_eq!(tomorrow["machines"]["silent"]["total"], 2);
    assert_eq!(tomorrow["machines"]["expired"], 1);
}

#[test]
fn a_certificate_shows_its_days_and_its_metric() {
    let gateway = Gateway::with(
        &Backend::start(),
        Options {
            tls: true,
            ..Options::default()
        },
    );
    let status = status(&gateway);
    let certificate = &status["certificates"]["rows"][0];
    let file = gateway.folder.path().join("cert.pem");
    assert_eq!(certificate["file"], file.to_str().unwrap());
    assert_eq!(certificate["use"], "listener");
    let series = format!(
        "countersign_certificate_not_after_timestamp_seconds{{file=\"{}\"}}",
        file.display()
    );
    let days = (gateway.metric(&series) - gateway.now() as f64) / 86_400.0;
    assert_eq!(certificate["days_left"].as_f64().unwrap(), days.floor());
}

#[test]
fn a_scraper_that_asks_for_openmetrics_gets_it() {
    let gateway = Gateway::start(&Backend::start());
    let asked = "Accept: application/openmetrics-text; version=1.0.0\r\n";
    let open = whole(&gateway, "/metrics", asked);
    assert!(open.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.to_ascii_lowercase().contains("vary: accept") && open.ends_with("\n# EOF\n"));
    let text = whole(&gateway, "/metrics", "");
    assert!(text.contains("text/plain; version=0.0.4") && !text.contains("# EOF"));
}

#[test]
fn a_head_request_has_the_length_and_no_page() {
    let gateway = Gateway::start(&Backend::start());
    let lines = "Host: localhost\r\nConnection: close\r\n\r\n";
    let (status, body) = ask_admin(gateway.admin, &format!("HEAD / HTTP/1.1\r\n{lines}"));
    assert_eq!((status, &*body), (200, ""));
    let (status, _) = ask_admin(gateway.admin, &format!("POST / HTTP/1.1\r\n{lines}"));
    assert_eq!(status, 405);
}
