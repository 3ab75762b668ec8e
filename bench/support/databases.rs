//! The same fleet in SQLite and in a PostgreSQL of the benchmark's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::config::{DatabaseAddress, DatabaseConfig, DatabaseTls};
use countersign::registry::database::{Author, Database, ImportMode, RegistryContents};
use countersign::registry::{CheckedEntry, Follower, IdCase, Losses, RegistryStore};
use countersign_client::clock::Clock;
use countersign_core::identity::MachineId;
use serde_json::json;
use tokio::runtime::Runtime;

/// PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// Measures both databases with the machines of a file.
pub(crate) fn measure(text: &str, ids: &[String], more: &[String]) {
    let contents = RegistryContents::parse(Path::new("machines.yaml"), text).unwrap();
    println!(
        "\ndatabase    import     start   memory     peak   one changed   1,000 added   find one"
    );
    let folder = tempfile::tempdir().unwrap();
    one("SQLite", &sqlite(folder.path()), &contents, ids, more);
    match Server::start() {
        Some(server) => one("PostgreSQL", &server.config(), &contents, ids, more),
        None => println!("PostgreSQL is not installed; see scripts/setup test"),
    }
}

fn one(
    name: &str,
    config: &DatabaseConfig,
    contents: &RegistryContents,
    ids: &[String],
    more: &[String],
) {
    let runtime = Runtime::new().unwrap();
    let clock = Clock::system();
    let author = Author {
        by: "bench".into(),
        request_id: String::new(),
        at: 1,
    };
    runtime.block_on(async {
        Database::migrate(config).await.unwrap();
        let database = Database::new(config);
        let (import, _) = timed(database.import(contents, ImportMode::Replace, &author)).await;
        super::clear_peak();
        let before = super::memory("VmRSS:");
        let store = Arc::new(RegistryStore::in_database(database.clone(), IdCase::Exact));
        let mut follower = Follower::new(Arc::clone(&store)).unwrap();
        let look = follower.look(clock.now(), Losses::Any, true);
        let (start, _) = timed(look).await;
        let taken = super::memory("VmRSS:").saturating_sub(before);
        let peak = super::memory("VmHWM:").saturating_sub(before);
        assert_eq!(store.current().len(), contents.machines.len());

        let mut changed = Duration::MAX;
        for round in 0..5 {
            let patch = json!({"owner": format!("team-x{round}")});
            let id = MachineId::parse(&ids[5]).unwrap();
            let start = Instant::now();
            let patched = database.patch(&id, patch.as_object().unwrap(), &author).await;
            patched.unwrap();
            let looked = follower.look(clock.now(), Losses::Few, false).await;
            assert_eq!(looked.unwrap().unwrap().change.touched(), 1);
            changed = changed.min(start.elapsed());
        }
        let entry = |(number, key): (usize, &String)| {
            let value = json!({"id": format!("new-{number}"), "public_keys": [key]});
            CheckedEntry::parse(&value).unwrap()
        };
        let begin = Instant::now();
        let entries: Vec<CheckedEntry> = more.iter().enumerate().map(entry).collect();
        database.add(&entries, &author).await.unwrap();
        let looked = follower.look(clock.now(), Losses::Few, false).await;
        assert_eq!(looked.unwrap().unwrap().change.added.len(), more.len());
        let added = begin.elapsed();
        let find = super::find(&store.current(), ids.len() as u64);
        println!(
            "{name:<10}  {:>6.1} s  {:>6.2} s  {taken:>4} MB  {peak:>4} MB     {:>7.3} s     {:>7.3} s     {:>4.0} ns",
            import.as_secs_f64(),
            start.as_secs_f64(),
            changed.as_secs_f64(),
            added.as_secs_f64(),
            find.as_secs_f64() * 1e9,
        );
    });
}

async fn timed<T, E: std::fmt::Debug>(work: impl Future<Output = Result<T, E>>) -> (Duration, T) {
    let start = Instant::now();
    let done = work.await.unwrap();
    (start.elapsed(), done)
}

fn config(address: DatabaseAddress) -> DatabaseConfig {
    DatabaseConfig {
        address,
        password: None,
        tls: DatabaseTls::Off,
        max_stale: Duration::from_secs(300),
        state_dir: None,
    }
}

fn sqlite(folder: &Path) -> DatabaseConfig {
    config(DatabaseAddress::Sqlite(folder.join("registry.db")))
}

struct Server {
    port: u16,
    _folder: tempfile::TempDir,
    child: Child,
}

impl Server {
    fn start() -> Option<Server> {
        let bin = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().next()?;
        let bin = bin.path().join("bin");
        let folder = tempfile::tempdir().unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        if is_root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let command = |program: &str| {
            let mut command = Command::new(PathBuf::from(&bin).join(program));
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
                .current_dir("/")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        let data = folder.path().join("data");
        let made = command("initdb")
            .args([
                "--username=countersign",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .status();
        assert!(made.unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = command("postgres")
            .arg("-D")
            .arg(&data)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-p",
            ])
            .arg(port.to_string())
            .spawn()
            .unwrap();
        let server = Server {
            port,
            _folder: folder,
            child,
        };
        let runtime = Runtime::new().unwrap();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            if runtime
                .block_on(Database::migrate(&server.config()))
                .is_ok()
            {
                return Some(server);
            }
        }
        panic!("PostgreSQL does not answer");
    }

    fn config(&self) -> DatabaseConfig {
        config(DatabaseAddress::Postgres {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "countersign".into(),
            database: "postgres".into(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
