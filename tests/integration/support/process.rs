//! The real binary, as an operator runs it.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Socket, Type};

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
    environment: Vec<(&'static str, String)>,
    child: Child,
}

impl Process {
    /// Starts it in front of a backend and waits until it is ready.
    pub fn serve(backend: &Backend, shutdown: &str) -> Process {
        let process = Process::spawn(backend, shutdown, "", Vec::new());
        process.wait_until_ready();
        process
    }

    /// Starts it with more lines in its configuration and more in its environment, without
    /// waiting.
    pub fn start(
        backend: &Backend,
        more: &str,
        environment: Vec<(&'static str, String)>,
    ) -> Process {
        Process::spawn(backend, "{ delay: 0s, grace: 5s }", more, environment)
    }

    /// Starts it in front of this upstream, written as YAML, and waits until it is ready.
    pub fn with_upstream(upstream: &str) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        fs::write(folder.path().join("machines.yaml"), registry(&[&machine()])).unwrap();
        let config = format!(
            "listeners: [{{ address: {address} }}]\nadmin: {{ address: {admin} }}\n\
             registry: {{ file: machines.yaml }}\nupstreams: {{ secrets: {upstream} }}\n\
             routes: [{{ path: /, upstream: secrets }}]\naudit: {{ file: audit.jsonl }}\n\
             shutdown: {{ delay: 0s, grace: 5s }}\n"
        );
        fs::write(folder.path().join("countersign.yaml"), config).unwrap();
        let child = spawn(folder.path(), &[]);
        let process = Process {
            address,
            admin,
            folder,
            environment: Vec::new(),
            child,
        };
        process.wait_until_ready();
        process
    }

    fn spawn(
        backend: &Backend,
        shutdown: &str,
        more: &str,
        environment: Vec<(&'static str, String)>,
    ) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        write_configuration(folder.path(), backend, address, admin, shutdown);
        let file = folder.path().join("countersign.yaml");
        let mut config = fs::read_to_string(&file).unwrap();
        if more.contains("audit:") {
            config = config.replace("audit: { file: audit.jsonl }\n", "");
        }
        if more.contains("routes:") {
            config = config.replace("routes:\n  - { path: /, upstream: secrets }\n", "");
        }
        fs::write(file, config + more).unwrap();
        let child = spawn(folder.path(), &environment);
        Process {
            address,
            admin,
            folder,
            environment,
            child,
        }
    }

    pub fn wait_until_ready(&self) {
        super::gateway::wait_for("readiness", || self.is_ready().then_some(()));
    }

    /// Ends it as the kernel does when memory runs out: without a word to it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew, in the same folder and on the same addresses, without waiting.
    pub fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), &self.environment);
    }

    /// Starts it anew, and gives its standard output.
    pub fn start_again_piped(&mut self) -> ChildStdout {
        let mut command = serve(self.folder.path(), &self.environment);
        let log = log_of(self.folder.path());
        self.child = (command.stdin(Stdio::null()).stdout(Stdio::piped()))
            .stderr(log)
            .spawn()
            .unwrap();
        self.child.stdout.take().unwrap()
    }

    /// Starts it anew as after a reboot: the kernel tells it another name for this boot. Takes
    /// root.
    pub fn start_again_in_another_boot(&mut self, name: &str) {
        let file = self.folder.path().join("boot");
        fs::write(&file, format!("{name}\n")).unwrap();
        const REPLACE: &str =
            "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
        let serve = serve(self.folder.path(), &self.environment);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", REPLACE, "sh"]);
        command
            .arg(&file)
            .arg(serve.get_program())
            .args(serve.get_args());
        self.child = logged(&mut command, self.folder.path());
    }

    /// Starts it anew with room for so many descriptors.
    pub fn start_again_with_descriptors(&mut self, most: u32) {
        let serve = serve(self.folder.path(), &self.environment);
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {most} && exec \"$@\"");
        command.args(["-c", &limited, "sh"]);
        command.arg(serve.get_program()).args(serve.get_args());
        self.child = logged(&mut command, self.folder.path());
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.unwrap().count()
    }

    /// A second one of the same folder, on addresses of its own, without waiting.
    pub fn beside(&self) -> Process {
        let (address, admin) = (free_address(), free_address());
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = read("countersign.yaml")
            .replace(&self.address.to_string(), &address.to_string())
            .replace(&self.admin.to_string(), &admin.to_string());
        let state = self.folder.path().join("state");
        let config = config + &format!("replay: {{ state_dir: {state:?} }}\n");
        fs::write(folder.path().join("countersign.yaml"), config).unwrap();
        fs::write(folder.path().join("machines.yaml"), read("machines.yaml")).unwrap();
        let child = spawn(folder.path(), &[]);
        Process {
            address,
            admin,
            folder,
            environment: Vec::new(),
            child,
        }
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

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
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

/// Serves the configuration of a folder.
fn spawn(folder: &Path, environment: &[(&'static str, String)]) -> Child {
    logged(&mut serve(folder, environment), folder)
}

fn serve(folder: &Path, environment: &[(&'static str, String)]) -> Command {
    let config = folder.join("countersign.yaml");
    let mut command = countersign(&["serve", "--config", config.to_str().unwrap()]);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// What it logs is added to `log` in the folder.
fn logged(command: &mut Command, folder: &Path) -> Child {
    (command.stdin(Stdio::null()).stdout(Stdio::null()))
        .stderr(log_of(folder))
        .spawn()
        .unwrap()
}

fn log_of(folder: &Path) -> fs::File {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a configuration, a registry with the common machine, and nothing else.
/// Without a throttle: machines and attackers of a test come from one address.
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
             throttle: {{ failures_per_minute: 0 }}\nshutdown: {shutdown}\n",
            backend.address
        ),
    )
    .unwrap();
}

/// An address that nobody listens on, and that nobody else is given.
///
/// The port stays bound here, without listening, as long as the tests run: the kernel hands out no
/// port that is bound. With `SO_REUSEADDR` on both sides, which every server here sets, a server
/// can still listen there, as often as it is started.
pub fn free_address() -> SocketAddr {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    HELD.lock().unwrap().push(socket);
    address
}

#[test]
fn a_free_address_is_given_to_nobody_else_and_a_server_can_listen_there_again_and_again() {
    let address = free_address();
    // What the kernel looks for when it chooses a port: one that can be bound without reuse.
    let another = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert!(another.bind(&address.into()).is_err());
    for _ in 0..3 {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(address).unwrap();
        drop(listener.accept().unwrap());
        drop((client, listener));
    }
    assert!(TcpStream::connect(address).is_err());
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
