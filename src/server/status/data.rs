//! The status of a gateway as data. The status page and `/status.json` are both made of it.

use serde::Serialize;

use super::text::Moment;

/// A bounded list: how many there are, and the first of them.
#[derive(Debug, Serialize)]
pub(crate) struct Rows<T> {
    pub(crate) total: usize,
    pub(crate) rows: Vec<T>,
}

impl<T> Rows<T> {
    /// The first `most` of all.
    pub(super) fn first(mut all: Vec<T>, most: usize) -> Rows<T> {
        let total = all.len();
        all.truncate(most);
        Rows { total, rows: all }
    }

    /// How many are not listed.
    pub(crate) fn more(&self) -> usize {
        self.total.saturating_sub(self.rows.len())
    }
}

/// What the whole comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Well,
    /// Requests pass, and something should be looked at.
    Attention,
    /// Good requests fail now.
    Failing,
    /// The gateway takes no requests: it starts, stops, or cannot.
    NotReady,
}

/// How much a notice matters: as the severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NoticeLevel {
    /// Good requests fail now.
    Failing,
    /// They will, or something is odd.
    Attention,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StatusNotice {
    pub(crate) level: NoticeLevel,
    pub(crate) text: String,
    /// The section of the page about it.
    pub(crate) section: &'static str,
}

/// The status at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct GatewayStatus {
    pub(crate) version: &'static str,
    pub(crate) now: Moment,
    pub(crate) started: Moment,
    pub(crate) uptime_seconds: u64,
    pub(crate) verdict: Verdict,
    pub(crate) ready: bool,
    /// Every reason why it is not ready.
    pub(crate) reasons: Vec<String>,
    pub(crate) notices: Rows<StatusNotice>,
    pub(crate) traffic: TrafficStatus,
    pub(crate) machines: MachinesStatus,
    pub(crate) servers: Rows<ServerStatus>,
    pub(crate) secrets: Rows<SecretStatus>,
    pub(crate) routes: Rows<RouteStatus>,
    pub(crate) listeners: Rows<ListenerStatus>,
    pub(crate) certificates: Rows<CertificateStatus>,
    pub(crate) reloads: Vec<ReloadStatus>,
    /// How long the longest of the running reloads has been running; 0 if none is.
    pub(crate) reload_running_seconds: u64,
    pub(crate) configuration: ConfigurationStatus,
}

/// The requests of the last hour.
#[derive(Debug, Serialize)]
pub(crate) struct TrafficStatus {
    /// The time that the numbers are of: an hour, or since the start.
    pub(crate) seconds: u64,
    pub(crate) forwarded: u64,
    pub(crate) failed: u64,
    pub(crate) observed: u64,
    pub(crate) refused: u64,
    /// By minute, the latest last.
    pub(crate) minutes: Vec<MinuteStatus>,
    /// The refusals, the most frequent first.
    pub(crate) refusals: Vec<RefusalStatus>,
}

/// The requests of one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MinuteStatus {
    /// Forwarded or observed.
    pub(crate) passed: u64,
    /// Refused, or failed at the backend.
    pub(crate) not_passed: u64,
}

/// The refusals with one code.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalStatus {
    pub(crate) code: &'static str,
    pub(crate) status: u16,
    pub(crate) count: u64,
}

/// The machines.
#[derive(Debug, Serialize)]
pub(crate) struct MachinesStatus {
    pub(crate) source: SourceStatus,
    /// When the registry in force was loaded.
    pub(crate) loaded: Moment,
    /// The SHA-256 of its content.
    pub(crate) digest: String,
    pub(crate) registered: usize,
    pub(crate) disabled: usize,
    pub(crate) expired: usize,
    /// Machines with an accepted request in the last hour, as far as they are listed.
    pub(crate) active: usize,
    /// Enabled machines without an accepted request since the start; `None` where more machines have
    /// sent requests than are listed.
    pub(crate) unused: Option<usize>,
    pub(crate) expiring_24h: usize,
    pub(crate) expiring_7d: usize,
    /// The machines and keys that expire within seven days.
    pub(crate) expiring: Rows<ExpiryStatus>,
    pub(crate) skewed: Rows<MachineStatus>,
    /// Those whose last accepted request is a day old or more.
    pub(crate) silent: Rows<MachineStatus>,
    pub(crate) recent: Rows<MachineStatus>,
}

/// Where the machines come from.
#[derive(Debug, Serialize)]
pub(crate) struct SourceStatus {
    pub(crate) kind: &'static str,
    pub(crate) place: String,
}

/// One machine with its last accepted request.
#[derive(Debug, Serialize)]
pub(crate) struct MachineStatus {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) vault: Option<String>,
    pub(crate) last_used: Moment,
    /// The gateway's clock minus the machine's, in seconds.
    pub(crate) skew_seconds: i64,
}

/// A machine or a key that expires soon.
#[derive(Debug, Serialize)]
pub(crate) struct ExpiryStatus {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) owner: Option<String>,
    /// The fingerprint of the key; `None` if the machine itself expires.
    pub(crate) key: Option<String>,
    pub(crate) at: Moment,
    /// Whether the machine will be refused from then on. If not, it has another key.
    pub(crate) is_last: bool,
}

/// One address of a server.
#[derive(Debug, Serialize)]
pub(crate) struct ServerStatus {
    pub(crate) upstream: String,
    pub(crate) server: String,
    pub(crate) address: Option<String>,
    pub(crate) in_service: bool,
    pub(crate) trouble: Option<String>,
}

/// A credential, or the logins of an upstream.
#[derive(Debug, Serialize)]
pub(crate) struct SecretStatus {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) source: String,
    pub(crate) usable: bool,
    pub(crate) trouble: Option<String>,
}

/// A route.
#[derive(Debug, Serialize)]
pub(crate) struct RouteStatus {
    pub(crate) path: String,
    /// None: the gateway itself answers, to operators.
    pub(crate) upstream: Option<String>,
    /// The mode at this moment: `enforce`, `observe`, `bearer` or `open`.
    pub(crate) mode: &'static str,
    /// When it begins to enforce.
    pub(crate) until: Option<Moment>,
    /// Requests without a signature that have passed since the start.
    pub(crate) unsigned: u64,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ListenerStatus {
    pub(crate) address: String,
    pub(crate) admin: bool,
    pub(crate) tls: bool,
    pub(crate) client_certificates: bool,
    pub(crate) proxy_protocol: bool,
    pub(crate) health: Option<String>,
}

/// A certificate in force.
#[derive(Debug, Serialize)]
pub(crate) struct CertificateStatus {
    pub(crate) file: String,
    #[serde(rename = "use")]
    pub(crate) usage: &'static str,
    pub(crate) owner: String,
    pub(crate) not_after: Moment,
    /// Negative if it has expired.
    pub(crate) days_left: i64,
}

/// The last attempt to load a kind of file.
#[derive(Debug, Serialize)]
pub(crate) struct ReloadStatus {
    pub(crate) files: &'static str,
    pub(crate) at: Moment,
    pub(crate) trigger: &'static str,
    pub(crate) in_force: bool,
    pub(crate) lines: Rows<String>,
}

/// The configuration and what it opened.
#[derive(Debug, Serialize)]
pub(crate) struct ConfigurationStatus {
    pub(crate) file: String,
    /// The directory of the journal.
    pub(crate) state_dir: Option<String>,
    pub(crate) nonces: Option<u64>,
    pub(crate) nonce_quota: u64,
    /// The median of the gateway's clock minus those of the machines, in seconds.
    pub(crate) clock_offset_seconds: i64,
}
