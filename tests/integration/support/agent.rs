//! `countersign agent` in a process of its own, and clients that know nothing of signatures.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::{Client, Response};
use super::gateway::{machine, wait_for};
use super::process::{clock, countersign, free_address};
use super::signer::Machine;

pub struct Agent {
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    child: Child,
}

impl Agent {
    /// Signs as the common machine, for a gateway that listens here without TLS.
    pub fn before(gateway: SocketAddr) -> Agent {
        Agent::start(&format!("http://{gateway}"), &[], Vec::new())
    }

    /// With more options, and more in its environment.
    pub fn start(gateway: &str, more: &[&str], environment: Vec<(&'static str, String)>) -> Agent {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let mut arguments = common(folder.path(), &address.to_string(), gateway);
        arguments.extend(more.iter().map(ToString::to_string));
        let agent = Agent::spawn(folder, address, arguments, environment);
        agent.wait_until_it_listens();
        agent
    }

    /// On something else than a TCP address, without waiting.
    pub fn listening(listen: &str, gateway: &str) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let arguments = common(folder.path(), listen, gateway);
        Agent::spawn(folder, free_address(), arguments, Vec::new())
    }

    /// With these options alone, which are told the address.
    pub fn with(options: impl FnOnce(&str) -> Vec<String>) -> Agent {
        let address = free_address();
        let mut arguments = vec!["agent".to_owned()];
        arguments.extend(options(&address.to_string()));
        let agent = Agent::spawn(tempfile::tempdir().unwrap(), address, arguments, Vec::new());
        agent.wait_until_it_listens();
        agent
    }

    /// With the file that is written for the address.
    pub fn of_file(folder: tempfile::TempDir, file: impl FnOnce(SocketAddr) -> PathBuf) -> Agent {
        let address = free_address();
        let file = file(address).to_str().unwrap().to_owned();
        let arguments = vec!["agent".into(), "--config".into(), file];
        let agent = Agent::spawn(folder, address, arguments, Vec::new());
        agent.wait_until_it_listens();
        agent
    }

    fn spawn(
        folder: tempfile::TempDir,
        address: SocketAddr,
        arguments: Vec<String>,
        environment: Vec<(&'static str, String)>,
    ) -> Agent {
        let child = spawn(folder.path(), &arguments, &environment);
        Agent {
            address,
            folder,
            arguments,
            environment,
            child,
        }
    }

    pub fn wait_until_it_listens(&self) {
        wait_for("the agent", || TcpStream::connect(self.address).ok());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), &self.arguments, &self.environment);
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        let kill = std::process::Command::new("kill").arg(id).status();
        assert!(kill.unwrap().success());
    }

    pub fn wait(&mut self) -> i32 {
        let until = clock() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(clock() < until, "it has not ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// A request of a client that knows nothing of signatures, on a connection of its own.
    pub fn request(&self, method: &str, target: &str, lines: &str, body: &[u8]) -> Response {
        self.try_request(method, target, lines, body)
            .unwrap_or_else(|| panic!("no answer: {}", self.log()))
    }

    /// `None` where the agent is gone.
    pub fn try_request(
        &self,
        method: &str,
        target: &str,
        lines: &str,
        body: &[u8],
    ) -> Option<Response> {
        let host = format!("Host: {}\r\n", self.address);
        self.send(method, target, &(host + lines), body)
    }

    /// With every header as given.
    pub fn send(&self, method: &str, target: &str, lines: &str, body: &[u8]) -> Option<Response> {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head = format!("{method} {target} HTTP/1.1\r\n{lines}{length}\r\n");
        let mut client = Client::try_connect(self.address)?;
        client.send(&[head.as_bytes(), body].concat());
        client.receive_any()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The options of an agent that signs as the common machine.
fn common(folder: &Path, listen: &str, gateway: &str) -> Vec<String> {
    let key = folder.join("key.pem");
    write_key(&key, &machine());
    let (key, id) = (key.to_str().unwrap(), machine().id);
    [
        "agent",
        "--listen",
        listen,
        "--gateway",
        gateway,
        "--key",
        key,
        "--machine-id",
        &id,
    ]
    .map(str::to_owned)
    .into()
}

/// Writes a machine's key, for its owner alone.
pub fn write_key(file: &Path, machine: &Machine) {
    let mut options = fs::OpenOptions::new();
    let mut file = (options.write(true).create(true).truncate(true).mode(0o600))
        .open(file)
        .unwrap();
    file.write_all(machine.pem().as_bytes()).unwrap();
}

fn spawn(folder: &Path, arguments: &[String], environment: &[(&'static str, String)]) -> Child {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    countersign(&arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Stands where a gateway should be, and answers each connection's first request with the next of
/// these; the last one again and again. Nothing at all: the connection is closed once the request
/// has been read.
pub struct Impostor {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Impostor {
    pub fn answering(answers: &[&str]) -> Impostor {
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let Some(head) = read_head(&mut stream) else {
                    continue;
                };
                let mut seen = seen.lock().unwrap();
                let answer = &answers[seen.len().min(answers.len() - 1)];
                seen.push(head);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Impostor { address, requests }
    }

    /// The heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    use std::io::Read;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// An answer in the form of the gateway's refusals, after which the connection is closed.
pub fn refusal(status: &str, code: &str, lines: &str) -> String {
    let body = format!(r#"{{"error":"e","errors":["e"],"code":"{code}","request_id":"0a"}}"#);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Request-Id: 0a\r\n{lines}\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
