//! What a request costs whose machine has a token from its login, beside one that carries a
//! credential of the configuration: instructions of the whole gateway as callgrind counts them, and
//! CPU time. The two take turns.
//!
//!     make bench-login
//!
//! `ROUNDS` and `REQUESTS` (of a round of CPU time) may be set; `REQUESTS=0` counts instructions
//! alone.
#![allow(
    missing_docs,
    reason = "a benchmark has no reader of its documentation"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::env;
use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

mod support;

use support::{Gateway, key, request, start_backend_with, status};

const TOKEN: &str = "s.CxGbtuihbxLH6gid14XFdicS";
const CREDENTIAL: &str = "credential: { header: X-Vault-Token, file: token }";
const LOGIN: &str =
    "login: { method: jwt, mount: jwt, role: machine, audience: openbao, header: X-Vault-Token }";
const MORE: &str = "assertion: { issuer: gw, keys: [assertion.pem] }\n\
                    routes: [{ path: /, upstream: secrets }]";

/// Requests under callgrind, before and in the count: the difference leaves the start and the login
/// out.
const FEW: u64 = 100;
const MANY: u64 = 1_100;

/// Connections of the load of CPU time.
const CONNECTIONS: u64 = 4;

fn main() {
    let (rounds, requests) = (number("ROUNDS", 5), number("REQUESTS", 20_000));
    println!(
        "instructions of the gateway for each request (callgrind, {} requests)\n",
        MANY - FEW
    );
    println!("round  credential   login   difference");
    let mut of = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        let counted = [CREDENTIAL, LOGIN].map(instructions);
        row(round, counted, 0, &mut of);
    }
    conclude(of, 0);
    if requests > 0 {
        println!("\nCPU time of the gateway for each of {requests} requests, in microseconds\n");
        println!("round  credential   login   difference");
        let mut of = [Vec::new(), Vec::new()];
        for round in 1..=rounds {
            let micros = [CREDENTIAL, LOGIN].map(|secret| micros(secret, requests));
            row(round, micros, 2, &mut of);
        }
        conclude(of, 2);
    }
}

fn row(round: u64, [credential, login]: [f64; 2], digits: usize, of: &mut [Vec<f64>; 2]) {
    of[0].push(credential);
    of[1].push(login);
    println!(
        "{round:>5}  {credential:>10.digits$}  {login:>6.digits$}   {:>+10.digits$}",
        login - credential
    );
}

fn conclude(of: [Vec<f64>; 2], digits: usize) {
    let [credential, login] = of.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "median {credential:>10.digits$}  {login:>6.digits$}   {:>+10.digits$}",
        login - credential
    );
}

#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark is told by its environment how long to run"
)]
fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A gateway whose requests carry a secret so, under another program if there is one.
fn start(program: &[&str], folder: &Path, secret: &str) -> Gateway {
    let token = folder.join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let key = folder.join("assertion.pem");
    let made = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["keygen", "--out"])
        .arg(&key)
        .output();
    assert!(made.unwrap().status.success());
    let backend = start_backend_with(|path| match path {
        "/v1/auth/jwt/login" => {
            format!(r#"{{"auth":{{"client_token":"{TOKEN}","lease_duration":3600}}}}"#)
        }
        _ => "ok".to_owned(),
    });
    let upstream = format!("servers: [\"http://{backend}\"], {secret}");
    Gateway::start_under(program, folder, &upstream, MORE)
}

/// The instructions for each request.
fn instructions(secret: &str) -> f64 {
    let counted = [FEW, MANY].map(|requests| {
        let folder = tempfile::tempdir().unwrap();
        let valgrind = [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
        ];
        let gateway = start(&valgrind, folder.path(), secret);
        send(gateway.address, "counted", requests);
        gateway.stop();
        let said = fs::read_to_string(folder.path().join("gateway.log")).unwrap();
        let line = said
            .lines()
            .find_map(|line| line.split_once("Collected : "));
        assert!(line.is_some(), "callgrind collected nothing:\n{said}");
        let (_, count) = line.unwrap();
        count.trim().parse::<u64>().unwrap()
    });
    (counted[1] - counted[0]) as f64 / (MANY - FEW) as f64
}

/// The CPU time for each request.
fn micros(secret: &str, requests: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&[], folder.path(), secret);
    let all = |tag: &str, count: u64| {
        thread::scope(|scope| {
            for connection in 0..CONNECTIONS {
                let (tag, address) = (format!("{tag}-{connection}"), gateway.address);
                scope.spawn(move || send(address, &tag, count / CONNECTIONS));
            }
        });
    };
    all("warm-up", 800);
    let before = gateway.cpu_time();
    all("measured", requests);
    let spent = gateway.cpu_time() - before;
    gateway.stop();
    spent.as_secs_f64() * 1e6 / requests as f64
}

fn send(server: SocketAddr, tag: &str, count: u64) {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    for n in 0..count {
        let request = request("bench", &key(), &format!("nonce-{tag}"), n);
        reader.get_mut().write_all(&request).unwrap();
        assert_eq!(status(&mut reader), Some(200));
    }
}
