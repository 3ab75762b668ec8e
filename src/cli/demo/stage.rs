//! The parts of the demo: a folder with a key, a registry and a configuration as a user would write
//! them, the backend, and a client.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use http::{Request, Response, request};
use zeroize::Zeroizing;

use super::backend;
use crate::cli::command_error::CommandError;
use crate::config::GatewayUrl;
use countersign_client::agent::connect::Connector;
use countersign_client::clock::Clock;
use countersign_client::http_client::{self, ExchangeLimits};
use countersign_client::signing::{Headers, Signer};

/// The demo's one machine.
pub(super) const MACHINE: &str = "demo-machine";

/// The stage; its folder goes away with it.
pub(super) struct Stage {
    folder: PathBuf,
    backend: SocketAddr,
    signer: Signer,
    clock: Clock,
}

/// An answer of the gateway.
pub(super) struct DemoAnswer {
    pub(super) status: u16,
    pub(super) body: String,
    request_id: String,
}

/// Longest wait for readiness and for a metric.
const PATIENCE: Duration = Duration::from_secs(10);

const LIMITS: ExchangeLimits = ExchangeLimits {
    time: PATIENCE,
    answer: 16 * 1024 * 1024,
};

impl Stage {
    /// Makes the folder, writes the files, and starts the backend.
    pub(super) fn set() -> Result<Stage, CommandError> {
        let token = format!("demo-token-{}", hex(&random::<8>()?));
        let backend = backend::start(token.clone()).map_err(|e| {
            CommandError::Operation(format!("the demo's backend does not start: {e}"))
        })?;
        let stage = Stage::before(backend)?;
        stage.write("token", &token)?;
        let credential = format!(
            "credential: {{ header: {}, file: token }}",
            backend::TOKEN_HEADER
        );
        stage.configure(&credential, "")?;
        Ok(stage)
    }

    /// Makes the folder, with the machine's key and the registry, in front of a backend.
    pub(super) fn before(backend: SocketAddr) -> Result<Stage, CommandError> {
        let secret: [u8; 32] = random()?;
        let folder =
            std::env::temp_dir().join(format!("countersign-demo-{}", hex(&random::<6>()?)));
        make_private_folder(&folder).map_err(|e| failed(&folder, &e))?;

        let key = SigningKey::from_bytes(&secret);
        let pem = pem(&key)?;
        let public = STANDARD.encode(key.verifying_key().as_bytes());
        let stage = Stage {
            folder,
            backend,
            signer: Signer::new(MACHINE, key)?,
            clock: Clock::system(),
        };
        stage.write("key.pem", &pem)?;
        stage.write(
            "machines.yaml",
            &format!(
                "machines:\n  - id: {MACHINE}\n    name: the demo's machine\n    owner: you\n    \
                 public_keys: [\"{public}\"]\n"
            ),
        )?;
        Ok(stage)
    }

    /// Makes another key, and writes it to a file of the folder.
    pub(super) fn make_key(&self, name: &str) -> Result<SigningKey, CommandError> {
        let key = SigningKey::from_bytes(&random()?);
        self.write(name, &pem(&key)?)?;
        Ok(key)
    }

    /// Writes the configuration: a setting of the upstream, and more lines at the top.
    pub(super) fn configure(&self, upstream: &str, more: &str) -> Result<(), CommandError> {
        let backend = self.backend;
        self.write(
            "countersign.yaml",
            &format!(
                "listeners:\n  - address: 127.0.0.1:0\nadmin: {{ address: 127.0.0.1:0 }}\n\
                 registry: {{ file: machines.yaml }}\nupstreams:\n  secrets:\n    \
                 servers: [\"http://{backend}\"]\n    {upstream}\n\
                 routes:\n  - {{ path: /, upstream: secrets }}\n\
                 audit: {{ file: audit.jsonl }}\nshutdown: {{ delay: 0s, grace: 5s }}\n{more}"
            ),
        )
    }

    pub(super) fn backend(&self) -> SocketAddr {
        self.backend
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("countersign.yaml")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    pub(super) fn registry(&self) -> PathBuf {
        self.folder.join("machines.yaml")
    }

    pub(super) fn audit(&self) -> PathBuf {
        self.folder.join("audit.jsonl")
    }

    /// Signs a GET of `path`.
    pub(super) fn sign(&self, path: &str) -> Result<Headers, CommandError> {
        let now = self.clock.now().unix_seconds();
        Ok(self.signer.sign_text("GET", path, b"", now)?)
    }

    /// Sends a GET, signed or not.
    pub(super) fn get(
        &self,
        gateway: &str,
        target: &str,
        signed: Option<&Headers>,
    ) -> Result<DemoAnswer, CommandError> {
        let mut request = Request::get(target);
        for (header, value) in signed.into_iter().flatten() {
            request = request.header(header.name(), value);
        }
        let answer = ask(gateway, request)?;
        let request_id = answer.headers().get("x-request-id");
        let request_id = request_id.and_then(|id| id.to_str().ok());
        Ok(DemoAnswer {
            status: answer.status().as_u16(),
            request_id: request_id.unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(answer.body()).into_owned(),
        })
    }

    /// The audit record of an accepted request.
    pub(super) fn record_of(&self, answer: &DemoAnswer) -> Result<String, CommandError> {
        self.find_record(answer, "\"accepted\"")?
            .ok_or_else(no_record)
    }

    /// The response record of a forwarded request, which is written after the answer.
    pub(super) fn response_record_of(&self, answer: &DemoAnswer) -> Result<String, CommandError> {
        let deadline = self.clock.now().mono + PATIENCE;
        loop {
            match self.find_record(answer, "\"response\"")? {
                Some(record) => return Ok(record),
                None if self.clock.now().mono > deadline => return Err(no_record()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn find_record(
        &self,
        answer: &DemoAnswer,
        decision: &str,
    ) -> Result<Option<String>, CommandError> {
        let path = self.audit();
        let log = fs::read_to_string(&path).map_err(|e| failed(&path, &e))?;
        let is_it = |line: &&str| line.contains(&answer.request_id) && line.contains(decision);
        Ok(log.lines().find(is_it).map(str::to_owned))
    }

    /// Waits for `/readyz`: in its first second a gateway refuses what an earlier one may have
    /// accepted.
    pub(super) fn wait_until_ready(&self, admin: &str) -> Result<(), CommandError> {
        let deadline = self.clock.now().mono + PATIENCE;
        while self.clock.now().mono < deadline {
            let probe = ask(admin, Request::get("/readyz"));
            if probe.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(CommandError::Operation(
            "the demo's gateway did not become ready within 10 s".into(),
        ))
    }

    /// The lines of `/metrics`.
    pub(super) fn metrics(&self, admin: &str) -> Result<Vec<String>, CommandError> {
        let answer = ask(admin, Request::get("/metrics"))?;
        let text = String::from_utf8_lossy(answer.body());
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The lines of `/metrics`, once `line` is one of them.
    pub(super) fn wait_for_metric(
        &self,
        admin: &str,
        line: &str,
    ) -> Result<Vec<String>, CommandError> {
        let deadline = self.clock.now().mono + PATIENCE;
        loop {
            let lines = self.metrics(admin)?;
            if lines.iter().any(|l| l == line) {
                return Ok(lines);
            }
            if self.clock.now().mono > deadline {
                return Err(CommandError::Operation(format!(
                    "the demo's metrics do not show within 10 s: {line}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn write(&self, name: &str, content: &str) -> Result<(), CommandError> {
        let path = self.folder.join(name);
        fs::write(&path, content).map_err(|e| failed(&path, &e))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder holds a key and a token, so only its owner may read it.
fn make_private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn pem(key: &SigningKey) -> Result<Zeroizing<String>, CommandError> {
    key.to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| CommandError::Operation("the demo's key cannot be encoded".into()))
}

fn no_record() -> CommandError {
    CommandError::Operation("the demo's request has no audit record".into())
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], CommandError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| CommandError::Operation(format!("the system gives no random numbers: {e}")))?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn failed(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::Operation(format!("{}: {error}", path.display()))
}

fn ask(server: &str, request: request::Builder) -> Result<Response<Bytes>, CommandError> {
    ask_with(server, request, Bytes::new())
}

pub(super) fn ask_with(
    server: &str,
    request: request::Builder,
    body: Bytes,
) -> Result<Response<Bytes>, CommandError> {
    let failed = |cause| CommandError::Operation(format!("no answer from {server}: {cause}"));
    let gateway = GatewayUrl::parse(server).map_err(failed)?;
    let connector = Connector::new(gateway, None).map_err(failed)?;
    let request = request.body(body).map_err(|e| failed(e.to_string()))?;
    http_client::send(&connector, request, LIMITS).map_err(|e| failed(e.cause()))
}
