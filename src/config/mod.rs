//! The configuration file, from YAML to checked types.
//!
//! [`yaml`](crate::yaml) parses the text and collects the mistakes; each file here reads the values
//! under its keys. Only a file without a mistake becomes a [`Config`], so all its values are
//! checked. Otherwise [`Mistakes`] holds every mistake of the file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::HeaderName;
use sha2::{Digest, Sha256};

pub use countersign_client::gateway_headers::{self as headers, HEADER_BYTES};
pub use countersign_client::gateway_url::GatewayUrl;
pub use countersign_client::settings::{AgentSettings, Listen, MachineCredentials};

use countersign_client::address;

mod adapter;
mod agent;
mod assertion;
mod assertion_option;
mod audit;
mod certificate;
mod credential;
mod enrolment;
mod environment;
pub mod instant;
mod joiner;
mod lifetime;
mod limits;
mod listeners;
mod login;
pub mod machine_terms;
mod management;
mod mode;
mod operation;
mod proxies;
mod redis;
mod registry;
mod registry_source;
mod replay;
mod route_lists;
mod route_options;
mod route_path;
mod routes;
mod takeover;
mod throttle;
mod units;
mod upstreams;

#[cfg(test)]
mod tests;

pub use crate::yaml::{Finding, Mistakes};
pub use adapter::{Adapter, AdapterKind};
pub use agent::AgentFile;
pub use assertion::Assertion;
pub use audit::{Audit, AuditSink, GatewayKey, Refusals, Rotate};
pub use certificate::CertificateValidity;
pub use credential::{Credential, SHORTEST_CHECKED_SECRET, is_name as is_credential_name};
pub use enrolment::Enrolment;
pub use environment::{Environment, Resolve};
pub use joiner::{Joiner, KeySource, NameTemplate};
pub use lifetime::{lifetime, show_lifetime};
pub use limits::Limits;
pub use listeners::{AdminAccess, AdminTls, DEFAULT_ADMIN, Listener, TlsFiles, only_ipv6};
pub use login::{Login, LoginRole};
pub use mode::{Gate, Mode};
pub use operation::{Format, Log, Shutdown};
pub use proxies::TrustedProxies;
pub use redis::{Endpoint, Password, Redis};
pub use registry::{DatabaseAddress, DatabaseConfig, DatabaseTls, RegistryConfig, RegistrySource};
pub use replay::Replay;
pub use routes::{Route, RouteService, Routes};
pub use throttle::ThrottleSettings;
pub use upstreams::{
    ClientFiles, ClientTls, ConnectionReuse, Health, Server, TlsMaterial, Upstream,
};

use crate::yaml::{Field, Notes, Table, document};

/// Largest configuration file read, in bytes. A hand-written one has a few KiB; the bound keeps a
/// wrong path (a log, a device) from filling the memory. A larger file is a mistake.
const MAX_FILE: usize = 1024 * 1024;

/// A configuration without a mistake.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The SHA-256 of its text.
    pub digest: [u8; 32],
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// The trusted proxies in front of the gateway; default: none.
    pub trusted_proxies: TrustedProxies,
    /// Where the status page, `/metrics`, `/livez` and `/readyz` are: default `127.0.0.1:9790`.
    /// Without client certificates anything but a loopback address is a warning.
    pub admin: SocketAddr,
    /// The `Host` names that the admin listener takes besides `localhost` and addresses, in lower
    /// case and without a port; default: none.
    pub admin_hosts: Vec<String>,
    /// Where the machines and the operators stand.
    pub registry: RegistryConfig,
    /// The TLS of the admin listener; default: plain HTTP.
    pub admin_tls: Option<AdminTls>,
    /// The `Host` values taken, in lower case and compared whole, port included; any other is
    /// refused with `bad_request`. Empty, the default: every well-formed one is taken.
    pub hosts: Vec<String>,
    /// The gateway's assertions about machines. Default: none are made.
    pub assertion: Option<Assertion>,
    /// The credentials that machines may be given in the registry, by name.
    pub credentials: Vec<Credential>,
    /// The backends, in the order of the file; [`Route::upstream`] is an index here.
    pub upstreams: Vec<Upstream>,
    /// The routes from paths to upstreams.
    pub routes: Routes,
    /// How machines register themselves. Default: they cannot.
    pub enrolment: Option<Enrolment>,
    /// The header that names the machine to the backend, default `x-machine-identity`.
    pub identity_header: HeaderName,
    /// The window, the quotas and the store of replay protection.
    pub replay: Replay,
    /// Deadlines and budgets on the client's side.
    pub limits: Limits,
    /// The ban of a source after failed authentications.
    pub throttle: ThrottleSettings,
    /// The audit log.
    pub audit: Audit,
    /// The diagnostic log.
    pub log: Log,
    /// How the gateway stops.
    pub shutdown: Shutdown,
    /// Worker threads; 0, the default, means one per core, and at least two.
    pub threads: usize,
}

/// A configuration and its warnings.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Remarks for the operator, in the order in which they were found.
    pub warnings: Vec<Finding>,
}

/// Reads and checks the configuration file at `path`.
///
/// Relative paths in it are relative to its directory. Names of servers are resolved, which may
/// block, and files and variables of credentials are read.
///
/// # Errors
///
/// Every mistake in it, at least one; nothing of a file with a mistake is used.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Mistakes> {
    read(&text_of(path)?, path, environment)
}

/// The admin listener that the configuration at `path` names, in spite of mistakes elsewhere in it:
/// for a command that looks for the running gateway.
///
/// # Errors
///
/// The file cannot be read, is no YAML, or has a mistake there.
pub fn admin_access(path: &Path) -> Result<AdminAccess, Mistakes> {
    let text = text_of(path)?;
    let notes = Notes::new(path);
    let base = path.parent().unwrap_or(Path::new(""));
    let access = document(&text, &notes, EMPTY).and_then(|root| match root.entry("admin") {
        None => Some(AdminAccess::default()),
        Some(admin) => listeners::admin_alone(admin, &notes, base),
    });
    notes.conclude(access).map(|(access, _)| access)
}

/// The file or directory of machines that the configuration at `path` names, in spite of mistakes
/// elsewhere in it.
pub fn registry_source(path: &Path) -> Option<RegistrySource> {
    registry_in(&text_of(path).ok()?, path)
}

fn registry_in(text: &str, file: &Path) -> Option<RegistrySource> {
    let root = document(text, &Notes::new(file), EMPTY)?;
    registry_source::source_in(&root, file.parent().unwrap_or(Path::new("")))
}

/// The text of a configuration file.
///
/// # Errors
///
/// That it cannot be read, is too large, or is no text.
pub fn text_of(path: &Path) -> Result<String, Mistakes> {
    crate::yaml::text_of(path, MAX_FILE, "configuration")
}

/// Reads and checks the text of a configuration file that is, or would be, at `file`; see [`load`].
///
/// # Errors
///
/// Every mistake in it, at least one.
pub fn read(text: &str, file: &Path, environment: &Environment) -> Result<Loaded, Mistakes> {
    let notes = Notes::new(file);
    let config = read_noting(text, file, environment, &notes);
    let (config, warnings) = notes.conclude(config)?;
    Ok(Loaded { config, warnings })
}

/// The configuration, as far as it can be read; every mistake is in `notes`.
fn read_noting(
    text: &str,
    file: &Path,
    environment: &Environment,
    notes: &Notes,
) -> Option<Config> {
    let root = document(text, notes, EMPTY)?;
    let root = Field::root(&root, notes).table();
    let base = file.parent().unwrap_or(Path::new(""));
    config(root, digest(text), file, base, environment)
}

/// The mistake of an empty configuration.
const EMPTY: &str = "is empty; start from conf/countersign.yaml";

/// The SHA-256 of the text of a configuration file.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn config(
    mut root: Table<'_>,
    digest: [u8; 32],
    file: &Path,
    base: &Path,
    environment: &Environment,
) -> Option<Config> {
    let trusted_proxies = proxies::read(&mut root);
    let registry = registry::read(root.table("registry"), base, environment);
    let (listeners, access) = listeners::read(&mut root, base, &trusted_proxies);
    let hosts = hosts(&mut root);
    let identity_header =
        (root.table("identity")).value("header", headers::DEFAULT_IDENTITY, headers::identity);
    // Whether it is there, not whether it is good: one mistake in it must not become several.
    let can_assert = root.has_any(&["assertion"]);
    let (assertion, jwks_path) = assertion::read(&mut root, base);
    let credentials = credential::named(&mut root, &identity_header, base, environment);
    let secret_headers: Vec<HeaderName> = (credentials.iter())
        .map(|(credential, ..)| credential.header.clone())
        .collect();
    let named = upstreams::read(
        &mut root,
        &identity_header,
        &secret_headers,
        base,
        environment,
        can_assert,
    );
    let names: Vec<&str> = named.iter().map(|named| named.name).collect();
    let credentials = credential::bind(credentials, &names);
    let own_headers = (named.iter())
        .filter_map(|named| named.upstream.as_ref()?.secret_header())
        .cloned();
    let secret_headers: Vec<HeaderName> = secret_headers.into_iter().chain(own_headers).collect();
    let (routes, enrolment_routes) = route_options::read(
        &mut root,
        &named,
        &route_options::RouteContext {
            identity: &identity_header,
            secret_headers: &secret_headers,
            can_assert,
            credentials: &credentials,
            registry: registry.as_ref(),
            now: environment.now,
        },
    );
    let enrolment = enrolment::read(&mut root, base, enrolment_routes, registry.as_ref());
    jwks_path.check(&listeners, |path| {
        let route = routes.find(path).map(|index| &routes[index]);
        route
            .filter(|route| route.mode != Mode::Open)
            .map(|route| &*route.path)
    });
    let largest_body = routes.iter().map(|route| route.max_body).max().unwrap_or(0);
    let manages = (routes.iter()).any(|route| route.service == RouteService::Management);
    let shares_calls = (manages || enrolment.is_some())
        && (registry.as_ref().and_then(RegistryConfig::database))
            .is_some_and(DatabaseConfig::is_remote);
    let replay = replay::read(root.table("replay"), base, environment, shares_calls);
    let limits = limits::read(root.table("limits"), largest_body);
    let throttle = throttle::read(root.table("throttle"));
    let audit = audit::read(root.table("audit"), base);
    let log = operation::log(root.table("log"));
    let shutdown = operation::shutdown(root.table("shutdown"));
    let threads = root.whole("threads", 0, 0..=1024);
    let upstreams: Option<Vec<Upstream>> = named.into_iter().map(|named| named.upstream).collect();
    registry.zip(upstreams).map(|(registry, upstreams)| Config {
        file: file.to_path_buf(),
        digest,
        listeners,
        trusted_proxies,
        admin: access.address,
        admin_hosts: access.hosts,
        admin_tls: access.tls,
        registry,
        hosts,
        assertion,
        credentials,
        upstreams,
        routes,
        enrolment,
        identity_header,
        replay,
        limits,
        throttle,
        audit,
        log,
        shutdown,
        threads,
    })
}

fn hosts(root: &mut Table<'_>) -> Vec<String> {
    let Some(field) = root.field("hosts") else {
        return Vec::new();
    };
    field
        .some_items("is empty, which would refuse every request; remove it to take any host")
        .iter()
        .filter_map(|item| {
            item.parse(|text| headers::host(text).map(|_| text.to_ascii_lowercase()))
        })
        .collect()
}
