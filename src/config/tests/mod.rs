//! The values that configuration files give, and the texts of their mistakes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::env::VarError;
use std::io;
use std::time::Duration;

use super::*;

mod adapter;
mod audit;
mod credential;
mod enrolment;
mod files;
mod login;
mod management;
mod modes;
mod proxies;
mod redis;
mod reference;
mod registry;
mod routes;
mod servers;
mod settings;
mod takeover;
mod upstreams;

/// Only what has no default.
pub(super) const MINIMAL: &str = "\
listeners: [{ address: 0.0.0.0:8080 }]
registry: { file: machines.yaml }
upstreams: { secrets: { servers: ['http://127.0.0.1:8200'] } }
routes: [{ path: /, upstream: secrets }]
";

/// 2027-01-15, at 08:00 UTC.
pub(super) const NOW: u64 = 1_800_000_000;

const SECRET: &str = "s.VerySecretToken";

/// Knows the variable VAULT_TOKEN, some odd ones, and the host vault.internal.
pub(super) fn environment() -> Environment {
    Environment {
        variable: |name| match name {
            "VAULT_TOKEN" | "REDIS_PASSWORD" => Ok(SECRET.to_owned()),
            "EMPTY" => Ok(String::new()),
            "TWO_LINES" => Ok(format!("{SECRET}\n{SECRET}")),
            _ => Err(VarError::NotPresent),
        },
        resolve: |authority| match authority {
            "vault.internal:8200" => Ok(vec![
                SocketAddr::from(([10, 0, 0, 1], 8200)),
                SocketAddr::from(([10, 0, 0, 2], 8200)),
            ]),
            "nowhere.internal:8200" => Ok(Vec::new()),
            _ => authority
                .parse()
                .map(|address| vec![address])
                .map_err(|_| io::Error::other("no such host")),
        },
        now: NOW,
    }
}

fn read_text(text: &str) -> Result<Loaded, Mistakes> {
    read(text, Path::new("conf/countersign.yaml"), &environment())
}

fn good(text: &str) -> Config {
    read_text(text)
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
        .config
}

fn wrong(text: &str) -> String {
    read_text(text).unwrap_err().to_string()
}

/// The only mistake of a text, without the file's name.
fn only(text: &str) -> String {
    let mistakes = read_text(text).unwrap_err();
    assert_eq!(mistakes.list.len(), 1, "{mistakes}");
    mistakes.to_string().replace("conf/countersign.yaml:", "")
}

fn minimal_and(more: &str) -> String {
    format!("{MINIMAL}{more}\n")
}

fn with_route(more: &str) -> String {
    MINIMAL.replace("upstream: secrets", &format!("upstream: secrets, {more}"))
}

fn with_path(path: &str) -> String {
    MINIMAL.replace("path: /", &format!("path: '{path}'"))
}

fn with_upstream(more: &str) -> String {
    MINIMAL.replace("8200'] }", &format!("8200'], {more} }}"))
}

fn with_server(url: &str) -> String {
    MINIMAL.replace("http://127.0.0.1:8200", url)
}
