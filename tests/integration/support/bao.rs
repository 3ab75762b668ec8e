//! The real OpenBao, as a development server on a free port: in memory, unsealed, with KV version 2
//! at `secret/` and a root token.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Response};
use super::gateway::wait_for;
use super::process::free_address;

pub const ROOT: &str = "root-of-the-test";

pub struct Bao {
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
    child: Child,
}

impl Bao {
    /// Starts it and waits until it answers. scripts/setup installs it.
    pub fn start() -> Bao {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program())
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; run scripts/setup test", program().display())
            });
        let bao = Bao {
            address,
            _folder: folder,
            child,
        };
        wait_for("OpenBao", || {
            let mut client = Client::try_connect(address)?;
            client.send(&request("GET", "/v1/secret/config", ROOT, b""));
            (client.receive_any()?.status == 200).then_some(())
        });
        bao
    }

    /// A request of its operator.
    pub fn ask(&self, method: &str, path: &str, body: Value) -> Response {
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let mut client = Client::connect_for(self.address, Duration::from_secs(30));
        client.send(&request(method, path, ROOT, &body));
        let answer = client.receive_any().unwrap();
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {answer:?}"
        );
        answer
    }

    /// Writes a secret of the mount `secret`.
    pub fn write(&self, path: &str, fields: Value) {
        self.ask(
            "POST",
            &format!("/v1/secret/data/{path}"),
            json!({ "data": fields }),
        );
    }

    /// A token with this policy, and the default one, which allows to look it up.
    pub fn token(&self, policy: &str) -> String {
        let body = json!({ "policy": policy });
        self.ask("PUT", "/v1/sys/policies/acl/test", body);
        let body = json!({ "policies": ["test"], "no_parent": true });
        let answer = self.ask("POST", "/v1/auth/token/create", body).json();
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where scripts/setup has put it.
#[allow(
    clippy::disallowed_methods,
    reason = "a test finds a tool; the gateway reads no environment"
)]
fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"));
    target.join("tools/usr/bin/bao")
}

fn request(method: &str, path: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: bao\r\nX-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
