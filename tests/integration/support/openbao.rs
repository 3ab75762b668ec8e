//! An OpenBao of the tests' own, in development mode and in memory, gone when the tests are over.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::gateway::wait_for;
use super::process::free_address;

pub const ROOT: &str = "root-token-of-the-tests";

/// The audience that gateways assert, and that roles ask for.
pub const AUDIENCE: &str = "openbao";

pub struct OpenBao {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    /// A shell that ends the server when its standard input does: with this process, at the latest.
    shell: Option<Child>,
}

impl OpenBao {
    pub fn start() -> OpenBao {
        let mut bao = OpenBao {
            address: free_address(),
            folder: tempfile::tempdir().unwrap(),
            shell: None,
        };
        bao.spawn();
        bao
    }

    /// Starts it, empty.
    pub fn spawn(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let script = "command -v bao >/dev/null || { echo missing; exit 1; }; \
                      bao server -dev -dev-no-store-token -dev-root-token-id=\"$1\" \
                      -dev-listen-address=\"$2\" & read -r _; kill $!; wait";
        let shell = Command::new("sh")
            .args(["-c", script, "bao", ROOT, &self.address.to_string()])
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let shell = self.shell.insert(shell);
        let id = shell.id();
        wait_for("OpenBao, which scripts/setup installs", || {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(
                !log.contains("missing"),
                "there is no bao on the PATH; see scripts/setup ({id})"
            );
            let health = self.try_call("GET", "/v1/sys/health", None, ROOT);
            health.filter(|(status, _)| *status == 200)
        });
    }

    pub fn stop(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }

    /// The key that opens it when it is sealed.
    pub fn unseal_key(&self) -> String {
        wait_for("the unseal key", || {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("Unseal Key: "));
            line.map(|key| key.trim().to_owned())
        })
    }

    /// A request with the root token, which must succeed.
    pub fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.try_call(method, path, Some(&body), ROOT);
        let (status, answer) = answer.unwrap_or_else(|| panic!("{method} {path}: no answer"));
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// Status and body of a request; `None` if there is no answer. HTTP/1.0, which has no chunks.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        token: &str,
    ) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let body = body.filter(|body| !body.is_null()).map(Value::to_string);
        let body = body.unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: bao\r\nX-Vault-Token: {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// Mounts the jwt method at a path of its own, with a role `machine` whose tokens reach the
    /// machine's own secrets alone: `secret/<id>/..`. `config` is the method's configuration.
    pub fn mount(&self, config: Value, role: Value) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let mount = format!("jwt-{}", COUNT.fetch_add(1, Ordering::SeqCst));
        self.mount_at(&mount, config, role);
        mount
    }

    pub fn mount_at(&self, mount: &str, config: Value, role: Value) {
        self.call(
            "POST",
            &format!("/v1/sys/auth/{mount}"),
            json!({"type": "jwt"}),
        );
        self.call("POST", &format!("/v1/auth/{mount}/config"), config);
        let mounts = self.call("GET", "/v1/sys/auth", Value::Null);
        let accessor = mounts["data"][format!("{mount}/")]["accessor"]
            .as_str()
            .unwrap()
            .to_owned();
        let name = format!("{{{{identity.entity.aliases.{accessor}.name}}}}");
        let policy = format!("path \"secret/data/{name}/*\" {{ capabilities = [\"read\"] }}");
        let path = format!("/v1/sys/policies/acl/{mount}");
        self.call("PUT", &path, json!({ "policy": policy }));
        let mut settings = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [AUDIENCE],
            "token_policies": [mount],
            "token_ttl": "10m",
        });
        settings
            .as_object_mut()
            .unwrap()
            .extend(role.as_object().unwrap().clone());
        self.call("POST", &format!("/v1/auth/{mount}/role/machine"), settings);
    }

    /// Writes a secret of the machine.
    pub fn write(&self, machine: &str, value: &str) {
        let path = format!("/v1/secret/data/{machine}/db");
        self.call("POST", &path, json!({"data": {"value": value}}));
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
    }
}
