//! Diagnoses, from a machine, why a gateway refuses its requests: the key, the network, the clock,
//! the registry, a proxy in between.
//!
//! The doctor changes nothing. It sends signed GETs of one path and of a second one below it. The
//! operator may choose the path; at worst the backend answers 404. One request is replayed, to
//! check that the gateway refuses the copy. One is sent unsigned, because a gateway that accepts it
//! does not check signatures on that route.

mod judge;
mod probe;
mod reach;
mod report;

use std::path::PathBuf;

use ed25519_dalek::SigningKey;

pub use report::{Check, CheckResult, CheckStatus, Report};

use crate::agent::connect::Connector;
use crate::agent::skew;
use crate::clock::Clock;
use crate::gateway_url::GatewayUrl;
use crate::settings::MachineCredentials;
use crate::signing::{Headers, Signer, identity, key_file};
use countersign_core::identity::PublicKey;
use countersign_core::refusal::Code;
use judge::Judgement;
use probe::Probe;

/// The machine and the gateway to check.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The machine's id and key.
    pub credentials: MachineCredentials,
    /// The gateway; `None` takes the identity's `apiUrl`.
    pub gateway: Option<GatewayUrl>,
    /// A PEM file of trusted certificate authorities, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The path of the requests.
    pub path: String,
}

/// The default path: most gateways route it, and it is unlikely to exist.
pub const PATH: &str = "/v1/secret/countersign-doctor";

/// The suffix that shows whether a proxy rewrites paths: normalising decodes the escape or removes
/// the trailing slash.
const FRAGILE: &str = "%22/";

/// A larger clock skew, in seconds, is reported even if the gateway accepts it.
const TOLERABLE: i64 = 30;

/// Runs all checks, in the order in which a request meets them. A check that depends on a failed
/// one is skipped.
pub async fn examine(subject: &Subject, clock: &Clock) -> Report {
    let mut report = Report::default();
    let (signer, gateway) = machine(subject, &mut report);
    let Some(gateway) = gateway else {
        report.fail(
            Check::Name,
            "no gateway is given: set --gateway URL, or apiUrl in identity.json",
        );
        return report;
    };
    let connector = match Connector::new(gateway, subject.ca.as_deref()) {
        Ok(connector) => connector,
        Err(text) => {
            report.fail(Check::Tls, text);
            return report;
        }
    };
    if !reach::examine(&connector, &mut report).await {
        return report;
    }
    let Some(signer) = signer else {
        return report;
    };
    let examination = Examination {
        subject,
        connector,
        signer,
        clock,
    };
    examination.requests(&mut report).await;
    report
}

/// The machine's signer, if its key is usable, and the gateway, if there is one.
fn machine(subject: &Subject, report: &mut Report) -> (Option<Signer>, Option<GatewayUrl>) {
    let mut gateway = subject.gateway.clone();
    let (file, id) = match &subject.credentials {
        MachineCredentials::Key { file, machine_id } => (file.clone(), machine_id.clone()),
        MachineCredentials::Identity(folder) => match identity::read(folder) {
            Ok(found) => {
                let named = found.api_url.and_then(|url| GatewayUrl::parse(&url).ok());
                gateway = gateway.or(named);
                (found.key, found.machine_id)
            }
            Err(text) => {
                report.fail(Check::Key, text);
                return (None, gateway);
            }
        },
    };
    let key: Result<SigningKey, String> =
        key_file::read_private(&file).map_err(|fault| format!("{}: {fault}", file.display()));
    let signer = key.and_then(|key| Signer::new(&id, key).map_err(|why| why.to_string()));
    match signer {
        Ok(signer) => {
            report.ok(
                Check::Key,
                format!("{id} signs with {}", described(&signer)),
            );
            (Some(signer), gateway)
        }
        Err(text) => {
            let next = "use the right key file, or make a key with `countersign keygen`";
            report.fail(Check::Key, format!("{text}; {next}"));
            (None, gateway)
        }
    }
}

/// The public key as in the registry, and its fingerprint as in audit records.
fn described(signer: &Signer) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let public = signer.public_key();
    let fingerprint = PublicKey::from_bytes(&public).map(|key| key.fingerprint().to_string());
    format!(
        "public key {} (fingerprint {})",
        STANDARD.encode(public),
        fingerprint.unwrap_or_else(|_| "none: a weak key".into())
    )
}

/// The clock skew `off`, in seconds, as a finding.
fn skew_text(off: i64) -> String {
    let direction = match off {
        0 => return "this machine's clock equals the gateway's".to_owned(),
        1.. => "ahead of",
        _ => "behind",
    };
    format!("clock skew {off} s: this machine's clock is {direction} the gateway's")
}

struct Examination<'a> {
    subject: &'a Subject,
    connector: Connector,
    signer: Signer,
    clock: &'a Clock,
}

impl Examination<'_> {
    async fn requests(&self, report: &mut Report) {
        let path = self.subject.path.as_str();
        let Some((mut headers, mut probe)) = self.ask(path, 0, report).await else {
            return;
        };
        let mut offset = self.offset(&probe);
        if probe.known_code() == Some(Code::ClockSkew) {
            let off = offset.unwrap_or(0);
            report.fail(
                Check::Clock,
                format!(
                    "{}, so the gateway refuses its requests; set it, and keep it with NTP",
                    skew_text(off)
                ),
            );
            // Signed by the gateway's time, so that the later checks can run.
            (headers, probe) = match self.ask(path, -off, report).await {
                Some(asked) => asked,
                None => return,
            };
        } else {
            match offset {
                None => report.skip(Check::Clock, "not checked: the response has no Date"),
                Some(off) if off.abs() > TOLERABLE => report.ok(
                    Check::Clock,
                    format!(
                        "{}; the gateway still accepts it, but set it, and keep it with NTP",
                        skew_text(off)
                    ),
                ),
                Some(off) => report.ok(Check::Clock, skew_text(off)),
            }
            offset = None;
        }
        let public = described(&self.signer);
        let findings = match judge::plain(&probe, path, self.signer.id().as_str(), &public) {
            Judgement::Verified(findings) => findings,
            Judgement::NotVerified(findings) => return report.extend(findings),
        };
        match probe::send(&self.connector, path, None).await {
            Ok(unsigned) if judge::passes(&unsigned) => {
                report.extend(judge::without_registry(findings, path));
            }
            Ok(_) => {
                report.extend(findings);
                self.after_verification(&headers, -offset.unwrap_or(0), report)
                    .await;
            }
            Err(text) => report.fail(Check::Gateway, text),
        }
    }

    /// The checks that need an accepted signature.
    async fn after_verification(&self, headers: &Headers, correction: i64, report: &mut Report) {
        let path = self.subject.path.as_str();
        let fragile = format!("{}{FRAGILE}", path.trim_end_matches('/'));
        match self.ask(&fragile, correction, report).await {
            Some((_, probe)) => report.extend(vec![judge::fragile(&probe, &fragile)]),
            None => return,
        }
        match probe::send(&self.connector, path, Some(headers)).await {
            Ok(probe) => report.extend(vec![judge::again(&probe)]),
            Err(text) => report.fail(Check::Gateway, text),
        }
    }

    /// Sends a signed request. `correction` is added to the clock, in seconds.
    async fn ask(
        &self,
        path: &str,
        correction: i64,
        report: &mut Report,
    ) -> Option<(Headers, Probe)> {
        let now = self
            .clock
            .now()
            .unix_seconds()
            .saturating_add_signed(correction);
        let headers = match self.signer.sign_text("GET", path, b"", now) {
            Ok(headers) => headers,
            Err(why) => {
                report.fail(
                    Check::Path,
                    format!("{path}: {why}; choose another path with --path"),
                );
                return None;
            }
        };
        match probe::send(&self.connector, path, Some(&headers)).await {
            Ok(probe) => Some((headers, probe)),
            Err(text) => {
                let text = reach::other_protocol(&self.connector, self.subject.ca.as_deref(), text);
                report.fail(Check::Gateway, text.await);
                None
            }
        }
    }

    /// How far this machine's clock is ahead of the gateway's, in seconds.
    fn offset(&self, probe: &Probe) -> Option<i64> {
        let theirs = (probe.refused.as_ref())
            .and_then(|refused| refused.server_time)
            .or(probe.date)?;
        Some(-skew::offset(theirs, self.clock.now().unix_seconds()))
    }
}
