//! A PostgreSQL of a test's own, in a temporary folder, gone when the test is over.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use countersign::config::{DatabaseAddress, DatabaseConfig, DatabaseTls};
use countersign::registry::database::Database;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::runtime::Runtime;

use super::gateway::wait_for;
use super::process::free_address;

/// The password of its role; no file of a gateway may hold it but the one that names it.
pub const PASSWORD: &str = "s3cret-of-the-database";

/// A user without rights: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

pub struct Postgres {
    pub address: SocketAddr,
    folder: tempfile::TempDir,
    /// The directory of its data, below the folder.
    data: String,
    settings: String,
    /// What the tests log in with.
    pub password: String,
    child: Option<Child>,
}

impl Postgres {
    /// A server with an empty database, once it answers.
    pub fn start() -> Postgres {
        Postgres::with("")
    }

    /// A server with a registry in it.
    pub fn with_registry() -> Postgres {
        let postgres = Postgres::start();
        block_on(Database::migrate(&postgres.config())).unwrap();
        postgres
    }

    /// A server with these settings; FOLDER is its folder.
    pub fn with(settings: &str) -> Postgres {
        Postgres::prepared(settings, |_| {})
    }

    /// A server whose folder `prepare` fills first.
    pub fn prepared(settings: &str, prepare: impl FnOnce(&Path)) -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), PASSWORD).unwrap();
        prepare(folder.path());
        own(folder.path());
        let mut postgres = Postgres {
            address: free_address(),
            settings: settings.replace("FOLDER", folder.path().to_str().unwrap()),
            folder,
            password: PASSWORD.into(),
            data: "data".into(),
            child: None,
        };
        let path = postgres.folder.path();
        let made = command("initdb")
            .args([
                "--no-sync",
                "--username=countersign",
                "--auth=scram-sha-256",
            ])
            .args(["--encoding=UTF8", "--locale=C", "--pwfile"])
            .arg(path.join("password"))
            .arg("-D")
            .arg(path.join("data"))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.spawn();
        postgres
    }

    /// Starts it, with the data that it left behind.
    pub fn spawn(&mut self) {
        let path = self.folder.path();
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             max_connections = 60\nshared_buffers = 16MB\n{}",
            self.address.port(),
            self.settings
        );
        let data = path.join(&self.data);
        fs::write(data.join("postgresql.auto.conf"), text).unwrap();
        let child = wait_for("the server", || {
            let log = fs::File::options()
                .create(true)
                .append(true)
                .open(path.join("log"));
            let log = log.unwrap();
            let mut child = command("postgres")
                .arg("-D")
                .arg(&data)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("postgres: {error}; see scripts/setup"));
            // A predecessor that was killed may hold its memory for a moment.
            let answers = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                child.try_wait().unwrap().is_some() || self.answers()
            });
            if !answers || child.try_wait().unwrap().is_some() {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            Some(child)
        });
        self.child = Some(child);
    }

    fn answers(&self) -> bool {
        TcpStream::connect(self.address).is_ok() && block_on(self.connect()).is_ok()
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.address.port())
            .username("countersign")
            .database("postgres")
            .password(&self.password);
        PgConnection::connect_with(&options).await
    }

    /// Runs statements.
    pub fn sql(&self, sql: &str) {
        block_on(async {
            let mut connection = self.connect().await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        });
    }

    /// The number that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        block_on(async {
            let mut connection = self.connect().await.unwrap();
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        })
    }

    /// The settings of a gateway's registry.
    pub fn config(&self) -> DatabaseConfig {
        DatabaseConfig {
            address: DatabaseAddress::Postgres {
                host: "127.0.0.1".into(),
                port: self.address.port(),
                user: "countersign".into(),
                database: "postgres".into(),
            },
            password: Some(self.folder.path().join("password")),
            tls: DatabaseTls::Off,
            max_stale: Duration::from_secs(300),
            state_dir: None,
        }
    }

    /// `registry:` of a configuration, with more settings.
    pub fn registry(&self, more: &str) -> String {
        format!(
            "{{ database: 'postgres://countersign@127.0.0.1:{}/postgres', password: {{ file: {:?} }}, \
             {more} }}",
            self.address.port(),
            self.folder.path().join("password")
        )
    }

    /// A handle on the registry in it.
    pub fn database(&self) -> Database {
        Database::new(&self.config())
    }

    /// Signals the server and all its children, which are no group.
    pub fn signal(&self, name: &str) {
        let parent = self.child.as_ref().unwrap().id();
        let mut all = vec![parent.to_string()];
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after = stat.rsplit(')').next().unwrap_or_default().to_owned();
            if after.split_whitespace().nth(1) == Some(&parent.to_string()) {
                all.push(entry.file_name().into_string().unwrap());
            }
        }
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .args(all)
            .status();
    }

    /// Ends it as the kernel does when memory runs out.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it in order; clients are cut off.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let id = child.id().to_string();
            let sent = Command::new("kill").args(["-INT", &id]).status();
            assert!(sent.unwrap().success());
            child.wait().unwrap();
        }
    }

    /// Keeps a copy of the data of a stopped server.
    pub fn back_up(&self, name: &str) {
        assert!(self.child.is_none(), "it still runs");
        let path = self.folder.path();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(path.join(&self.data))
            .arg(path.join(name))
            .status();
        assert!(copied.unwrap().success());
    }

    /// From now on it has the data of a copy.
    pub fn use_data(&mut self, name: &str) {
        assert!(self.child.is_none(), "it still runs");
        self.data = name.to_owned();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal("CONT");
        }
        self.kill();
    }
}

/// Runs a future to its end, on one runtime for all: a connection lives on the one it was made on.
pub fn block_on<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    RUNTIME.block_on(future)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Gives a folder and its files to the user of the server.
fn own(folder: &Path) {
    if !is_root() {
        return;
    }
    for entry in fs::read_dir(folder).unwrap().flatten() {
        chown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn command(program: &str) -> Command {
    let mut command = Command::new(directory().join(program));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

/// Debian keeps the programs of each version in a directory of its own.
fn directory() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/lib/postgresql");
    let places = [tools, "/usr/lib/postgresql".into()];
    let versions = places
        .iter()
        .filter_map(|place| fs::read_dir(place).ok())
        .flatten();
    let mut found = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists());
    let found = found.next();
    found.unwrap_or_else(|| panic!("PostgreSQL is missing; run scripts/setup test"))
}
