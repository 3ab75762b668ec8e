//! The place of the machines: a file, a directory of files, or a database.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address;
use super::environment::Environment;
use super::operation;
use super::replay::default_state_dir;
use super::units::duration;
use crate::yaml::{Field, Table};

/// Where the machines and the operators stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The machines.
    pub source: RegistrySource,
    /// The file of the operators, who may manage the machines. A file, so that no call can make an
    /// operator.
    pub operators: Option<PathBuf>,
}

/// Where the machines stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrySource {
    /// One file.
    File(PathBuf),
    /// The `*.yaml` files of a directory, which together are one registry.
    Directory(PathBuf),
    /// A database.
    Database(DatabaseConfig),
}

/// A database of machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Its address.
    pub address: DatabaseAddress,
    /// The file of the password; it is read again for each connection.
    pub password: Option<PathBuf>,
    /// How the connection is protected.
    pub tls: DatabaseTls,
    /// The longest time for which the machines last seen count while the database is away; default
    /// 5 minutes. With 0 a lost database refuses every request.
    pub max_stale: Duration,
    /// The directory of the local copy, from which a gateway starts while PostgreSQL is away;
    /// default as of `replay.state_dir`. `None`, written `none`: there is no copy.
    pub state_dir: Option<PathBuf>,
}

impl DatabaseConfig {
    /// Whether it is a server, and so may be away while the gateway runs.
    pub fn is_remote(&self) -> bool {
        matches!(self.address, DatabaseAddress::Postgres { .. })
    }
}

/// The address of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres {
        /// A name or an address; an IPv6 address has no brackets here.
        host: String,
        /// Default 5432.
        port: u16,
        /// The role.
        user: String,
        /// The name of the database.
        database: String,
    },
}

/// The protection of a connection to PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseTls {
    /// None, the default on the loopback interface.
    Off,
    /// TLS, the certificate checked against these authorities (PEM), or the system's; the default
    /// elsewhere.
    Verified(Option<PathBuf>),
}

impl RegistryConfig {
    /// Machines in one file.
    pub fn file(path: impl Into<PathBuf>) -> RegistryConfig {
        RegistryConfig {
            source: RegistrySource::File(path.into()),
            operators: None,
        }
    }

    /// The files that a change of the registry touches: a file, or the directory.
    pub fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    /// The database, if the machines stand in one.
    pub fn database(&self) -> Option<&DatabaseConfig> {
        match &self.source {
            RegistrySource::Database(database) => Some(database),
            RegistrySource::File(_) | RegistrySource::Directory(_) => None,
        }
    }
}

/// For messages. It holds no secret.
impl fmt::Display for RegistrySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistrySource::File(path) | RegistrySource::Directory(path) => path.display().fmt(f),
            RegistrySource::Database(database) => database.address.fmt(f),
        }
    }
}

/// The address as the configuration writes it.
impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseAddress::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            DatabaseAddress::Postgres {
                host,
                port,
                user,
                database,
            } => match host.contains(':') {
                true => write!(f, "postgres://{user}@[{host}]:{port}/{database}"),
                false => write!(f, "postgres://{user}@{host}:{port}/{database}"),
            },
        }
    }
}

const MAX_STALE: Duration = Duration::from_secs(5 * 60);

/// Longest `max_stale`: a revoked machine may act for so long.
const LONGEST_STALE: Duration = Duration::from_secs(24 * 3600);

/// Reads the table.
pub(super) fn read(
    mut table: Table<'_>,
    base: &Path,
    environment: &Environment,
) -> Option<RegistryConfig> {
    let operators = table.field("operators");
    let operators = operators.and_then(|field| operation::file(&field, base));
    let file = table.field("file");
    let directory = table.field("directory");
    let database = table.field("database");
    let settings = database_settings(&mut table, base, environment, database.is_some());
    let source = match (file, directory, database) {
        (Some(file), None, None) => RegistrySource::File(operation::file(&file, base)?),
        (None, Some(field), None) => RegistrySource::Directory(operation::file(&field, base)?),
        (None, None, Some(field)) => {
            RegistrySource::Database(database_at(&field, base, settings?)?)
        }
        (None, None, None) => {
            table.mistake(
                "file",
                "is missing; name a `file`, a `directory` or a `database`",
            );
            return None;
        }
        _ => {
            let text = "is set beside another place; keep one of `file`, `directory`, `database`";
            table.mistake("file", text);
            return None;
        }
    };
    Some(RegistryConfig { source, operators })
}

/// The settings beside `database`.
struct DatabaseSettings<'a> {
    password: Option<(Field<'a>, PathBuf)>,
    tls: Option<(Field<'a>, DatabaseTls)>,
    max_stale: Duration,
    state_dir: Option<PathBuf>,
}

fn database_settings<'a>(
    table: &mut Table<'a>,
    base: &Path,
    environment: &Environment,
    has_database: bool,
) -> Option<DatabaseSettings<'a>> {
    if !has_database {
        for key in ["password", "tls", "max_stale", "state_dir"] {
            if table.has_any(&[key]) {
                table.mistake(key, "is for a database; add `database`, or remove it");
                table.field(key);
            }
        }
        return None;
    }
    let password = table.field("password").and_then(|field| {
        let file = field.table().required("file")?;
        let path = operation::file(&file, base)?;
        operation::warn_of_mode(&file, &path);
        Some((field, path))
    });
    let tls = table.field("tls").and_then(|field| {
        if !field.is_table() {
            let off = |text: &str| match text {
                "off" => Ok(DatabaseTls::Off),
                _ => Err("must be { ca: FILE }, {} for the system's authorities, or off".into()),
            };
            let tls = field.parse(off)?;
            return Some((field, tls));
        }
        let ca = field.table().field("ca");
        let ca = ca.map(|ca| operation::file(&ca, base));
        match ca {
            Some(None) => None,
            ca => Some((field, DatabaseTls::Verified(ca.flatten()))),
        }
    });
    let max_stale = table.value("max_stale", MAX_STALE, stale);
    let state_dir = match table.field("state_dir") {
        Some(field) => field.parse(|text| match text {
            "none" => Ok(None),
            _ => operation::path(text, base).map(Some),
        })?,
        None => Some(default_state_dir(base, environment)),
    };
    Some(DatabaseSettings {
        password,
        tls,
        max_stale,
        state_dir,
    })
}

/// `0`, or a duration of some seconds: gateways look for changes each second.
fn stale(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => duration(Duration::from_secs(5)..=LONGEST_STALE)(text).map_err(|text| text + ", or 0"),
    }
}

fn database_at(
    field: &Field<'_>,
    base: &Path,
    settings: DatabaseSettings<'_>,
) -> Option<DatabaseConfig> {
    let address = field.parse(|text| address_of(text, base))?;
    let mut protection = DatabaseTls::Off;
    match &address {
        DatabaseAddress::Sqlite(_) => {
            let password = settings.password.map(|it| it.0);
            for key in password.into_iter().chain(settings.tls.map(|it| it.0)) {
                key.mistake("is for PostgreSQL; remove it");
            }
            return Some(DatabaseConfig {
                address,
                password: None,
                tls: protection,
                max_stale: settings.max_stale,
                state_dir: None,
            });
        }
        DatabaseAddress::Postgres { host, .. } => match settings.tls {
            Some((field, DatabaseTls::Off)) if !is_loopback(host) => field.warning(
                "is off, and the server is on another machine: everybody between the two can read \
                 and change what machines may do",
            ),
            Some((_, tls)) => protection = tls,
            None if is_loopback(host) => {}
            None => protection = DatabaseTls::Verified(None),
        },
    }
    Some(DatabaseConfig {
        address,
        password: settings.password.map(|(_, path)| path),
        tls: protection,
        max_stale: settings.max_stale,
        state_dir: settings.state_dir,
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// No message repeats a URL: it may hold a password, at its proper place or by mistake.
fn address_of(url: &str, base: &Path) -> Result<DatabaseAddress, String> {
    const FORM: &str = "must be sqlite:FILE, or postgres://USER@HOST/DATABASE with HOST:PORT for a \
                        port other than 5432";
    if let Some(file) = url.strip_prefix("sqlite:") {
        return match file.contains(['?', '#']) || file.starts_with("//") || file.starts_with(':') {
            true => Err(FORM.into()),
            false => operation::path(file, base).map(DatabaseAddress::Sqlite),
        };
    }
    let rest = match url.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => rest,
        _ => return Err(FORM.into()),
    };
    let (user, rest) = rest.rsplit_once('@').ok_or(FORM)?;
    if user.contains(':') {
        return Err(
            "holds a password, which a file like this one should not; use `password`".into(),
        );
    }
    let (authority, database) = rest.split_once('/').ok_or(FORM)?;
    let authority: http::uri::Authority = authority.parse().map_err(|_| FORM)?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = match address::port_of(&authority)? {
        Some(0) => return Err(FORM.into()),
        port => port.unwrap_or(5432),
    };
    if host.is_empty() || !is_word(user) || !is_word(database) {
        return Err(FORM.into());
    }
    address::host(host)?;
    Ok(DatabaseAddress::Postgres {
        host: host.to_owned(),
        port,
        user: user.to_owned(),
        database: database.to_owned(),
    })
}

/// A name of a role or a database as people choose them: others would need escapes.
fn is_word(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&text.len()) && text.bytes().all(is_good)
}
