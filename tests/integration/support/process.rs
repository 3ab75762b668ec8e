//! The real binary, as an operator runs it.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::backend::Backend;
use super::gateway::{machine, registry};

/// The binary with arguments.
pub fn countersign(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    countersign(arguments).output().unwrap()
}

/// `countersign serve` in a process of its own.
pub struct Process {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: tempfile::TempDir,
    child: Child,
}

impl Process {
    /// Starts it in front of a backend and waits until it is ready.
    pub fn serve(backend: &Backend, shutdown: &str) -> Process {
        Process::serve_with(backend, shutdown, &[])
    }

    /// Starts it with more in its environment.
    pub fn serve_with(backend: &Backend, shutdown: &str, environment: &[(&str, &str)]) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        write_configuration(folder.path(), backend, address, admin, shutdown);
        let config = folder.path().join("countersign.yaml");
        let child = countersign(&["serve", "--config", config.to_str().unwrap()])
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let process = Process {
            address,
            admin,
            folder,
            child,
        };
        super::gateway::wait_for("readiness", || process.is_ready().then_some(()));
        process
    }

    pub fn is_ready(&self) -> bool {
        run(&["health", "--admin", &self.admin.to_string()])
            .status
            .success()
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = clock() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                clock() < deadline,
                "it has not ended after {limit:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = fs::File::open(self.folder.path().join("log"))
            .unwrap()
            .read_to_string(&mut text);
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a configuration, a registry with the common machine, and nothing else.
pub fn write_configuration(
    folder: &Path,
    backend: &Backend,
    address: SocketAddr,
    admin: SocketAddr,
    shutdown: &str,
) {
    fs::write(folder.join("machines.yaml"), registry(&[&machine()])).unwrap();
    fs::write(
        folder.join("countersign.yaml"),
        format!(
            "listeners:\n  - address: {address}\nadmin: {{ address: {admin} }}\n\
             registry: {{ file: machines.yaml }}\nupstreams:\n  secrets:\n    servers: [\"http://{}\"]\n\
             routes:\n  - {{ path: /, upstream: secrets }}\naudit: {{ file: audit.jsonl }}\n\
             shutdown: {shutdown}\n",
            backend.address
        ),
    )
    .unwrap();
}

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

/// The real time, for real processes.
#[allow(
    clippy::disallowed_methods,
    reason = "a real process lives in real time"
)]
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[allow(
    clippy::disallowed_methods,
    reason = "a real process lives in real time"
)]
pub fn clock() -> Instant {
    Instant::now()
}
