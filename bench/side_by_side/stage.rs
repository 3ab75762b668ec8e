//! How each contender is set up and started. All of them run throughout, on free ports of the
//! loopback interface, with as many threads as there are cores, and log each request.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::contender::{
    BARE, Checks, Contender, ENVOY, ENVOY_AUTH, NGINX, NGINX_AUTH, REDIS, UNTHROTTLED,
    wait_for_port,
};
use crate::load::Tls;
use crate::process::Process;
use crate::requests::MACHINE;
use crate::support::{free_address, key};

/// Where a contender finds what it needs.
pub(crate) struct Stage {
    pub(crate) backend: SocketAddr,
    /// Envoy's program; it has no package in Debian.
    pub(crate) envoy: Option<PathBuf>,
}

impl Stage {
    /// The gateway; `more` is for its `replay:`.
    pub(crate) fn countersign(&self, name: &'static str, mode: &str, more: &str) -> Contender {
        self.countersign_with(name, mode, more, Vec::new())
    }

    /// The gateway with a store of its own, which counts as a part of it.
    pub(crate) fn countersign_with_redis(&self) -> Contender {
        let address = free_address();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis.conf");
        let text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nsave \"\"\nappendonly yes\nappendfsync always\n",
            address.port(),
            folder.path().display()
        );
        fs::write(&file, text).unwrap();
        // The server's binary has several names, and Debian's package of this one starts no
        // service.
        let mut command = Command::new("redis-check-rdb");
        command
            .arg0("redis-server")
            .arg(&file)
            .stdout(Stdio::null());
        let redis = Process::spawn("Redis", &mut command);
        wait_for_port(address);
        // A new store is one that may have forgotten, so it waits for `future` and the margin. The
        // default time-out, 50 ms, is for a machine whose cores the load does not share.
        let store = format!("url: \"redis://{address}\", timeout: 1s, clock_margin: 1s");
        let more = format!("future: 2s, store: redis, redis: {{ {store} }}");
        let mut contender = self.countersign_with(REDIS, "enforce", &more, vec![redis]);
        contender.folders.push(folder);
        contender
    }

    fn countersign_with(
        &self,
        name: &'static str,
        mode: &str,
        more: &str,
        mut processes: Vec<Process>,
    ) -> Contender {
        let site = Site::new();
        let admin = free_address();
        let public = STANDARD.encode(key().verifying_key().as_bytes());
        let machines = format!("machines:\n  - id: {MACHINE}\n    public_keys: [\"{public}\"]\n");
        site.write("machines.yaml", &machines);
        // Without a throttle, so that a flood of refusals is refused one by one.
        let failures = if name == UNTHROTTLED { "0" } else { "100" };
        let text = include_str!("conf/countersign.yaml")
            .replace("@ADMIN@", &admin.to_string())
            .replace("@MODE@", mode)
            .replace("@REPLAY@", more)
            .replace("@FAILURES@", failures);
        let file = site.write("countersign.yaml", &self.fill(&site, None, &text));
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .arg("serve")
            .arg("--config")
            .arg(file)
            .stderr(site.log());
        processes.insert(0, Process::spawn("gateway", &mut command));
        let checks = if mode == "open" {
            Checks::Nothing
        } else {
            Checks::All
        };
        let mut contender = site.contender(name, checks, processes);
        contender.admin = Some(admin);
        contender
    }

    pub(crate) fn bare(&self) -> Contender {
        let site = Site::new();
        let mut command = this_program("bare");
        command.args([site.plain, site.tls, self.backend].map(|address| address.to_string()));
        command.arg(site.folder.path()).stderr(site.log());
        let process = Process::spawn("proxy", &mut command);
        site.contender(BARE, Checks::Nothing, vec![process])
    }

    pub(crate) fn nginx(&self, with_verifier: bool) -> Contender {
        let site = Site::new();
        let verifier = with_verifier.then(|| start_verifier(&site));
        let text = include_str!("conf/nginx.conf");
        let text = match with_verifier {
            true => text.replace("@AUTH@\n", include_str!("conf/nginx-auth.conf")),
            false => text.replace("@AUTH@\n", ""),
        };
        let address = verifier.as_ref().map(|(address, _)| *address);
        let file = site.write("nginx.conf", &self.fill(&site, address, &text));
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).stderr(site.log());
        let mut processes = vec![Process::spawn("nginx", &mut command)];
        processes.extend(verifier.map(|(_, process)| process));
        match with_verifier {
            true => site.contender(NGINX_AUTH, Checks::Heads, processes),
            false => site.contender(NGINX, Checks::Nothing, processes),
        }
    }

    /// `None` where there is no Envoy.
    pub(crate) fn envoy(&self, with_verifier: bool) -> Option<Contender> {
        let program = self.envoy.as_ref()?;
        let site = Site::new();
        let verifier = with_verifier.then(|| start_verifier(&site));
        let text = include_str!("conf/envoy.yaml");
        let text = match with_verifier {
            true => text.replace("@AUTH@\n", include_str!("conf/envoy-auth.yaml")),
            false => text.replace("@AUTH@\n", ""),
        };
        let address = verifier.as_ref().map(|(address, _)| *address);
        let file = site.write("envoy.yaml", &self.fill(&site, address, &text));
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(file)
            .args(["--disable-hot-restart", "-l", "error"]);
        command.stderr(site.log());
        let mut processes = vec![Process::spawn("Envoy", &mut command)];
        processes.extend(verifier.map(|(_, process)| process));
        Some(match with_verifier {
            true => site.contender(ENVOY_AUTH, Checks::All, processes),
            false => site.contender(ENVOY, Checks::Nothing, processes),
        })
    }

    fn fill(&self, site: &Site, verifier: Option<SocketAddr>, text: &str) -> String {
        // Where there is no verifier nobody asks it, but its address has to be one.
        let verifier = verifier.unwrap_or(self.backend);
        let mut text = text.replace("@FOLDER@", site.folder.path().to_str().unwrap());
        for (name, address) in [
            ("PLAIN", site.plain),
            ("TLS", site.tls),
            ("BACKEND", self.backend),
            ("VERIFIER", verifier),
        ] {
            text = text
                .replace(&format!("@{name}@"), &address.to_string())
                .replace(&format!("@{name}_PORT@"), &address.port().to_string());
        }
        text
    }
}

/// A folder and two ports for one contender.
struct Site {
    folder: TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Site {
    fn new() -> Site {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let site = Site {
            folder: tempfile::tempdir().unwrap(),
            plain: free_address(),
            tls: free_address(),
            certificate: made.cert.der().clone(),
        };
        site.write("cert.pem", &made.cert.pem());
        site.write("key.pem", &made.signing_key.serialize_pem());
        site
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    fn log(&self) -> fs::File {
        fs::File::create(self.folder.path().join("log")).unwrap()
    }

    fn contender(self, name: &'static str, checks: Checks, processes: Vec<Process>) -> Contender {
        let mut contender = Contender {
            name,
            checks,
            plain: self.plain,
            tls: self.tls,
            certificate: Tls::believing(self.certificate),
            admin: None,
            idle: 0,
            processes,
            folders: vec![self.folder],
        };
        contender.settle();
        contender
    }
}

fn start_verifier(site: &Site) -> (SocketAddr, Process) {
    let address = free_address();
    let mut command = this_program("verifier");
    command.arg(address.to_string()).stderr(site.log());
    let process = Process::spawn("verifier", &mut command);
    wait_for_port(address);
    (address, process)
}

/// This benchmark's own binary in another role: one profile, one allocator, one build.
fn this_program(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(role);
    command
}
