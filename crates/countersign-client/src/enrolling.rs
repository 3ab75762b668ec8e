//! Enrols this machine: it makes a key on the spot, registers the public half with a secret that lets
//! it in, and stores the identity as SikkerKey's clients read it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::Request;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::agent::connect::Connector;
use crate::clock::Clock;
use crate::doctor;
use crate::gateway_url::GatewayUrl;
use crate::http_client::{self, ExchangeLimits};
use crate::quoted::quoted;
use crate::signing::{Signer, identity, new_key};
use countersign_core::enrolment::{EnrolmentToken, KeyProof, SecretDigest, is_vault};
use countersign_core::identity::MachineId;
use countersign_core::refusal::Code;

/// Bounds of one exchange: the gateway decides within 15 s.
const LIMITS: ExchangeLimits = ExchangeLimits {
    time: Duration::from_secs(30),
    answer: 64 * 1024,
};

/// How often the first signed request is repeated while the gateway does not know the machine, and
/// the pause in between: other gateways hear of a new machine within 2 s.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// The key file beside `identity.json` until the gateway has taken the key.
const NEXT_KEY: &str = "private.pem.new";

/// The secret that lets this machine in. It is wiped when it is dropped.
pub enum JoiningSecret {
    /// An enrolment token.
    Token(EnrolmentToken),
    /// A JSON Web Token of a platform.
    Jwt(Zeroizing<String>),
}

/// The machine's part of the request for an enrolment.
pub struct Enrolling<'a> {
    /// The gateway.
    pub connector: &'a Connector,
    /// The vault.
    pub vault: &'a str,
    /// The secret.
    pub secret: &'a JoiningSecret,
    /// The host name that it tells.
    pub hostname: &'a str,
    /// The name that it asks for; default: the host name.
    pub name: Option<&'a str>,
    /// The home of SikkerKey's clients.
    pub home: &'a Path,
    /// Replace an identity that is there.
    pub again: bool,
}

/// An identity that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentity {
    /// Its folder.
    pub folder: PathBuf,
    /// The machine's id.
    pub machine_id: String,
    /// The machine's name.
    pub machine_name: String,
    /// Where its requests go.
    pub api_url: String,
}

/// The result of the first signed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstRequest {
    /// The gateway verified it.
    Verified,
    /// The gateway has no route for the path, so it did not verify it.
    NotRouted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnrolmentAnswer {
    machine_id: String,
    vault_id: String,
    machine_name: Option<String>,
    api_url: Option<String>,
}

impl JoiningSecret {
    fn text(&self) -> &str {
        match self {
            JoiningSecret::Token(token) => token.reveal(),
            JoiningSecret::Jwt(jwt) => jwt,
        }
    }

    /// The field of the body, and the last segment of the path.
    const fn call(&self) -> (&'static str, &'static str) {
        match self {
            JoiningSecret::Token(_) => ("token", "register"),
            JoiningSecret::Jwt(_) => ("jwt", "jwt"),
        }
    }
}

impl Enrolling<'_> {
    /// Makes the key, registers it and stores the identity. The private key never leaves this
    /// machine, and is not printed.
    ///
    /// # Errors
    ///
    /// An identity is there already; the gateway refuses or cannot be reached; a file cannot be
    /// written. The text holds no secret. Without an identity no key stays.
    pub fn run(&self, clock: &Clock) -> Result<NewIdentity, String> {
        if !is_vault(self.vault) {
            return Err(format!(
                "{} is not a vault: 1 to 128 of the characters A-Z a-z 0-9 . _ -",
                quoted(self.vault)
            ));
        }
        let folder = identity::of_vault(self.home, self.vault);
        let file = folder.join("identity.json");
        if file.exists() && !self.again {
            return Err(format!(
                "{} exists: this machine is enrolled already. To make another identity in its place, \
                 run the command again with --again",
                file.display()
            ));
        }
        let failed = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, &error))?;
        let next = folder.join(NEXT_KEY);
        // A run that was killed may have left it; nothing is registered under it that is used.
        let _ = fs::remove_file(&next);
        let key = new_key::generate().map_err(|error| error.to_string())?;
        new_key::write(&next, &key).map_err(|error| failed(&next, &error))?;
        let registered = self.register(&key, clock);
        let stored = registered.and_then(|answer| self.store(&folder, &next, answer));
        stored.inspect_err(|_| {
            let _ = fs::remove_file(&next);
        })
    }

    fn register(&self, key: &SigningKey, clock: &Clock) -> Result<EnrolmentAnswer, String> {
        let gateway = &self.connector.gateway;
        let (field, call) = self.secret.call();
        let path = format!("{}/v1/{}/enroll/{call}", gateway.prefix, self.vault);
        let public = key.verifying_key().to_bytes();
        let now = clock.now().unix_seconds();
        let digest = SecretDigest::of(self.secret.text());
        let proof = KeyProof::of_enrolment(self.vault, &digest, &public, now);
        let mut body = json!({
            field: self.secret.text(), "publicKey": STANDARD.encode(public),
            "hostname": self.hostname, "timestamp": now, "proof": proof.sign(key),
        });
        if let Some(name) = self.name {
            body["name"] = json!(name);
        }
        let request = Request::post(&path)
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()))
            .map_err(|error| format!("the request cannot be built: {error}"))?;
        let answer = http_client::send(self.connector, request, LIMITS);
        let answer = answer
            .map_err(|error| format!("cannot reach the gateway at {gateway}: {}", error.cause()))?;
        if !answer.status().is_success() {
            return Err(refused(gateway, answer.status().as_u16(), answer.body()));
        }
        let parsed: Option<EnrolmentAnswer> = serde_json::from_slice(answer.body()).ok();
        let is_good = |answer: &EnrolmentAnswer| {
            MachineId::parse(&answer.machine_id).is_some() && answer.vault_id == self.vault
        };
        parsed.filter(is_good).ok_or_else(|| {
            format!("the answer of {gateway} is no enrolment. Is this a Countersign gateway?")
        })
    }

    fn store(
        &self,
        folder: &Path,
        next: &Path,
        answer: EnrolmentAnswer,
    ) -> Result<NewIdentity, String> {
        let key = folder.join("private.pem");
        let file = folder.join("identity.json");
        let machine_name = answer.machine_name.unwrap_or_default();
        let api_url = match answer.api_url {
            Some(url) => url,
            None => self.connector.gateway.to_string(),
        };
        let content = json!({
            "machineId": answer.machine_id, "machineName": machine_name, "vaultId": self.vault,
            "apiUrl": api_url, "privateKeyPath": key.to_string_lossy(),
        });
        let failed = |error: io::Error| {
            format!(
                "the machine {} is registered, and its identity cannot be stored in {}: {error}. \
                 Remove the machine, and enrol again",
                answer.machine_id,
                folder.display()
            )
        };
        let new = folder.join("identity.json.new");
        let _ = fs::remove_file(&new);
        new_key::write_new(&new, format!("{content:#}\n").as_bytes()).map_err(failed)?;
        // A folder is found by its identity.json, so the key comes first.
        fs::rename(next, &key)
            .and_then(|()| fs::rename(&new, &file))
            .map_err(failed)?;
        Ok(NewIdentity {
            folder: folder.to_owned(),
            machine_id: answer.machine_id,
            machine_name,
            api_url,
        })
    }
}

impl NewIdentity {
    /// Sends one signed request, to show that the identity works.
    ///
    /// # Errors
    ///
    /// Why it does not. The identity stays.
    pub fn try_out(&self, ca: Option<&Path>, clock: &Clock) -> Result<FirstRequest, String> {
        let found = identity::read(&self.folder)?;
        let key = crate::signing::key_file::read_private(&found.key)
            .map_err(|fault| format!("{}: {fault}", found.key.display()))?;
        let signer = Signer::new(&found.machine_id, key).map_err(|why| why.to_string())?;
        let gateway = GatewayUrl::parse(&self.api_url)
            .map_err(|why| format!("the URL that the gateway gave: {why}"))?;
        let connector = Connector::new(gateway, ca)?;
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            match first_request(&connector, &signer, clock)? {
                Ok(shown) => return Ok(shown),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

/// The outer error is final, the inner one may pass.
fn first_request(
    connector: &Connector,
    signer: &Signer,
    clock: &Clock,
) -> Result<Result<FirstRequest, String>, String> {
    let gateway = &connector.gateway;
    let now = clock.now().unix_seconds();
    let headers = signer.sign_text("GET", doctor::PATH, b"", now);
    let headers = headers.map_err(|why| why.to_string())?;
    let mut request = Request::get(format!("{}{}", gateway.prefix, doctor::PATH));
    for (header, value) in &headers {
        request = request.header(header.name(), value);
    }
    let request = request.body(Bytes::new());
    let request = request.map_err(|error| format!("the request cannot be built: {error}"))?;
    let answer = http_client::send(connector, request, LIMITS)
        .map_err(|error| format!("cannot reach the gateway at {gateway}: {}", error.cause()))?;
    let status = answer.status().as_u16();
    match code(answer.body()) {
        Some(Code::NoRoute) => Ok(Ok(FirstRequest::NotRouted)),
        Some(Code::BadSignature | Code::RegistryUnavailable | Code::ReplayUnavailable) => {
            Ok(Err(refused(gateway, status, answer.body())))
        }
        // The signature has verified before the gateway or the backend says one of these.
        Some(
            Code::NotPermitted
            | Code::UpstreamCredential
            | Code::UpstreamUnreachable
            | Code::UpstreamTimeout
            | Code::UpstreamError,
        )
        | None => Ok(Ok(FirstRequest::Verified)),
        Some(_) => Err(refused(gateway, status, answer.body())),
    }
}

fn code(body: &[u8]) -> Option<Code> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Code::parse(body.get("code")?.as_str()?)
}

/// The gateway's answer. Its texts hold no secret.
fn refused(gateway: &GatewayUrl, status: u16, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = body.get("errors").and_then(Value::as_array);
    let errors: Vec<&str> = (errors.into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    match errors[..] {
        [] => format!("the gateway at {gateway} answered {status}"),
        _ => format!(
            "the gateway at {gateway} answered {status}: {}",
            errors.join(" ")
        ),
    }
}
