//! Finds out, from a machine's side, what keeps its requests from passing: the key, the way to the
//! gateway, the clock, the registry, whatever stands in between.
//!
//! It changes nothing. What it sends are signed GETs of one path and of another below it, which the
//! operator may choose; at worst the backend answers that there is nothing of that name. One of them is
//! sent twice, to see that the second is refused, and once without a signature, to see that this is: else
//! an answer would show nothing.

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
use judge::Judgement;
use probe::Probe;

/// What is examined.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The machine and its key.
    pub credentials: MachineCredentials,
    /// Where the gateway is; `None`: where the identity says.
    pub gateway: Option<GatewayUrl>,
    /// The authorities believed in place of the system's, PEM.
    pub ca: Option<PathBuf>,
    /// The path that is asked for.
    pub path: String,
}

/// The path that is asked for unless another is named: on most routes, and nobody's secret.
pub const PATH: &str = "/v1/secret/countersign-doctor";

/// What is put behind the path to see whether it arrives as it was sent: proxies that normalise decode
/// the one and drop the other.
const FRAGILE: &str = "%22/";

/// Further off than this, in seconds, a clock is worth a word even where it still passes.
const TOLERABLE: i64 = 30;

/// Examines everything that can be, in the order in which a request meets it. What cannot be told
/// because of an earlier fault is skipped.
pub async fn examine(subject: &Subject, clock: &Clock) -> Report {
    let mut report = Report::default();
    let (signer, gateway) = machine(subject, &mut report);
    let Some(gateway) = gateway else {
        report.fail(
            Check::Name,
            "no gateway is named; name it with --gateway URL",
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

/// The machine's signer, if its key is good, and the gateway that is meant.
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
            let what = "make one with `countersign keygen`, or name the right file";
            report.fail(Check::Key, format!("{text}; {what}"));
            (None, gateway)
        }
    }
}

/// A key as it stands in the registry, and as records call it.
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
        if probe.code() == Some("clock_skew") {
            let off = offset.unwrap_or(0);
            report.fail(
                Check::Clock,
                format!(
                    "this machine's clock is {off} s off the gateway's, which takes no request of \
                         that time; set it, and let NTP keep it"
                ),
            );
            // What else is wrong shows by the gateway's time.
            (headers, probe) = match self.ask(path, -off, report).await {
                Some(asked) => asked,
                None => return,
            };
        } else {
            match offset {
                None => report.skip(Check::Clock, "the answer has no Date"),
                Some(off) if off.abs() > TOLERABLE => report.ok(
                    Check::Clock,
                    format!("{off} s off the gateway's: it passes, but set it before it does not"),
                ),
                Some(off) => report.ok(Check::Clock, format!("{off} s off the gateway's")),
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
                report.extend(judge::untold(findings, path));
            }
            Ok(_) => {
                report.extend(findings);
                self.beyond(&headers, -offset.unwrap_or(0), report).await;
            }
            Err(text) => report.fail(Check::Gateway, text),
        }
    }

    /// What only a machine that passes can find out.
    async fn beyond(&self, headers: &Headers, correction: i64, report: &mut Report) {
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

    /// A signed request, and its answer. `correction` is added to the clock, in seconds.
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
                    format!("{path}: {why}; name another with --path"),
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
