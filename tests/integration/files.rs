//! The files that a configuration or a command names: what is read, what is refused, and that
//! nothing keeps a revocation from counting.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gateway::{ask_admin, get, machine, raw, registry, wait_for};
use crate::support::process::write_configuration;
use crate::support::process::{Process, clock, countersign, free_address, run, unix_seconds};
use crate::support::tls::{Authority, write_certificate};

/// A change counts within this time of the write.
const IN_FORCE: Duration = Duration::from_secs(2);

fn make_pipe(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs the binary to its end, which must come by itself.
fn run_briefly(arguments: &[&str]) -> Output {
    let command = countersign(arguments);
    let mut limited = Command::new("timeout");
    limited.arg("20").arg(command.get_program());
    let output = limited
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(124), "{arguments:?} hangs");
    output
}

/// Disables the common machine in one step, as an editor does.
fn revoke(folder: &Path) {
    let disabled = registry(&[&machine()]) + "    enabled: false\n";
    fs::write(folder.join("new"), disabled).unwrap();
    fs::rename(folder.join("new"), folder.join("machines.yaml")).unwrap();
}

fn ask(client: &mut Client) -> u16 {
    let lines = machine().sign("GET", "/a", unix_seconds(), b"").lines();
    client.exchange(&raw("GET", "/a", &lines, b"")).status
}

/// Revokes the machine and measures how long it is still let through on this connection.
fn revocation_counts_in_time(gateway: &Process, client: &mut Client) {
    assert_eq!(ask(client), 200, "before");
    let start = clock();
    revoke(gateway.folder.path());
    while ask(client) != 403 {
        let passed = clock() - start;
        assert!(
            passed < IN_FORCE,
            "it passes after {passed:?}: {}",
            gateway.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A gateway with a credential that machines may name, in a file of its own.
fn with_credential(backend: &Backend) -> (Process, tempfile::TempDir, PathBuf) {
    let elsewhere = tempfile::tempdir().unwrap();
    let token = elsewhere.path().join("token");
    fs::write(&token, "t0ken\n").unwrap();
    let more = format!("credentials: {{ team-a: {{ header: X-Vault-Token, file: {token:?} }} }}\n");
    let gateway = Process::start(backend, &more, Vec::new());
    gateway.wait_until_ready();
    (gateway, elsewhere, token)
}

#[test]
fn a_revocation_counts_while_a_credential_file_is_a_named_pipe() {
    let backend = Backend::start();
    let (gateway, _elsewhere, token) = with_credential(&backend);
    make_pipe(&token);
    wait_for("the word in the log", || {
        gateway.log().contains("is a named pipe").then_some(())
    });
    let mut client = Client::connect(gateway.address);
    revocation_counts_in_time(&gateway, &mut client);

    let admin = gateway.admin.to_string();
    let start = clock();
    let output = run_briefly(&["reload", "--admin", &admin]);
    assert!(clock() - start < Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("credential team-a") && text.contains("is a named pipe"),
        "{text}"
    );
    // A file again, it is read without being told of.
    fs::remove_file(&token).unwrap();
    fs::write(&token, "other\n").unwrap();
    wait_for("the credential", || {
        gateway
            .log()
            .contains("credentials were loaded: team-a")
            .then_some(())
    });
}

/// A file system that answers nothing, as a network file system does whose server is gone. It takes
/// root.
struct Hanging {
    folder: tempfile::TempDir,
    mounted: Child,
}

impl Hanging {
    fn mount() -> Hanging {
        const MOUNT: &str = "\
import ctypes, os, sys
libc, folder = ctypes.CDLL(None, use_errno=True), sys.argv[1].encode()
server = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={server},rootmode=40000,user_id=0,group_id=0'.encode()
assert libc.mount(b'hanging', folder, b'fuse', 0, options) == 0, os.strerror(ctypes.get_errno())
print('mounted', flush=True)
sys.stdin.read()
libc.umount2(folder, 2)
";
        let folder = tempfile::tempdir().unwrap();
        let mut mounted = Command::new("python3")
            .args(["-c", MOUNT])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0; 7];
        let out = mounted.stdout.as_mut().unwrap();
        out.read_exact(&mut told).expect("it is mounted");
        Hanging { folder, mounted }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // It unmounts when its input ends.
        drop(self.mounted.stdin.take());
        let _ = self.mounted.wait();
    }
}

#[test]
fn a_revocation_counts_while_the_file_system_of_a_credential_hangs() {
    let backend = Backend::start();
    let (gateway, elsewhere, token) = with_credential(&backend);
    let hanging = Hanging::mount();
    let link = elsewhere.path().join("link");
    symlink(hanging.folder.path().join("token"), &link).unwrap();
    fs::rename(&link, &token).unwrap();
    let mut client = Client::connect(gateway.address);
    revocation_counts_in_time(&gateway, &mut client);

    let start = clock();
    let output = run(&["reload", "--admin", &gateway.admin.to_string()]);
    let took = clock() - start;
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    for says in [
        "the registry has not changed",
        "credential team-a: ",
        "the file system does not answer",
        "the last good one stays in force",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_revocation_counts_while_idle_connections_want_every_descriptor() {
    let backend = Backend::start();
    let mut gateway = Process::start(&backend, "", Vec::new());
    gateway.wait_until_ready();
    gateway.kill();
    gateway.start_again_with_descriptors(120);
    gateway.wait_until_ready();
    let mut client = Client::connect(gateway.address);
    assert_eq!(ask(&mut client), 200);
    let idle: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(gateway.address).unwrap())
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    revocation_counts_in_time(&gateway, &mut client);
    drop(idle);
    assert_eq!(ask(&mut client), 403);
}

#[test]
fn a_revocation_counts_while_no_descriptor_is_left() {
    let backend = Backend::start();
    let mut gateway = Process::start(&backend, "", Vec::new());
    gateway.wait_until_ready();
    let usual = gateway.descriptors();
    gateway.kill();
    // Room for fewer than the admin listener takes, which the limit of client connections does not
    // bound.
    let most = usual + 40;
    gateway.start_again_with_descriptors(u32::try_from(most).unwrap());
    gateway.wait_until_ready();
    let mut client = Client::connect(gateway.address);
    assert_eq!(ask(&mut client), 200);
    // The connection to the backend rests before it is used again; there will be no other.
    std::thread::sleep(Duration::from_millis(100));
    let _idle: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(gateway.admin).unwrap())
        .collect();
    wait_for("the last descriptor to be taken", || {
        (gateway.descriptors() >= most).then_some(())
    });
    revocation_counts_in_time(&gateway, &mut client);
}

#[test]
fn a_registry_that_was_away_when_it_was_read_is_read_when_it_is_back() {
    let backend = Backend::start();
    let gateway = Process::start(&backend, "", Vec::new());
    gateway.wait_until_ready();
    fs::remove_file(gateway.folder.path().join("machines.yaml")).unwrap();
    wait_for("two attempts", || {
        let (_, page) = get(gateway.admin, "/metrics");
        let line = page.lines().find_map(|line| {
            line.strip_prefix("countersign_registry_reloads_total{result=\"unreadable\"} ")
        });
        (line?.parse::<f64>().unwrap() >= 2.0).then_some(())
    });
    // It is complained of once, however often it is tried.
    let complaints = gateway
        .log()
        .matches("machines.yaml: cannot be read")
        .count();
    assert_eq!(complaints, 1, "{}", gateway.log());
    let mut client = Client::connect(gateway.address);
    revocation_counts_in_time(&gateway, &mut client);
}

/// The files of a whole configuration, each in its place.
fn everything(backend: &Backend) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_configuration(folder.path(), backend, free_address(), free_address(), "{}");
    write_certificate(folder.path());
    Authority::new(&at("ca.pem"));
    let tls = "tls: { cert: cert.pem, key: key.pem, client_ca: ca.pem }";
    let config = fs::read_to_string(at("countersign.yaml")).unwrap();
    let config = config
        .replacen(
            "listeners:\n",
            &format!(
                "listeners:\n  - {{ address: '{}', {tls} }}\n",
                free_address()
            ),
            1,
        )
        .replace(
            "audit: { file: audit.jsonl }",
            "audit: { file: audit.jsonl, signing_key: sign.pem }",
        )
        + "credentials: { team-a: { header: X-Vault-Token, file: token } }\n";
    fs::write(at("countersign.yaml"), config).unwrap();
    fs::write(at("token"), "t0ken-of-team-a\n").unwrap();
    let key = at("sign.pem");
    assert!(
        run(&["keygen", "--out", key.to_str().unwrap()])
            .status
            .success()
    );
    for secret in ["token", "key.pem"] {
        fs::set_permissions(at(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let file = at("countersign.yaml");
    (folder, file)
}

#[test]
fn check_and_serve_refuse_what_is_no_file_and_wait_for_none() {
    let backend = Backend::start();
    for name in [
        "countersign.yaml",
        "machines.yaml",
        "token",
        "sign.pem",
        "cert.pem",
        "key.pem",
        "ca.pem",
    ] {
        let (folder, file) = everything(&backend);
        let output = run(&["check", "--config", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        make_pipe(&folder.path().join(name));
        for command in ["check", "serve"] {
            let output = run_briefly(&[command, "--config", file.to_str().unwrap()]);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(78), "{command} {name}: {text}");
            assert!(
                text.contains(name) && text.contains("is a named pipe, not a regular file"),
                "{command} {name}: {text}"
            );
        }
    }
}

#[test]
fn no_command_waits_for_a_named_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, pipe, machines) = (at("key.pem"), at("pipe"), at("machines.yaml"));
    assert!(run(&["keygen", "--out", &key]).status.success());
    make_pipe(Path::new(&pipe));
    fs::write(&machines, "machines: []\n").unwrap();
    let in_pipe = format!("@{pipe}");
    let who = ["--key", &key, "--machine-id", "m"];
    let commands: [Vec<&str>; 9] = [
        vec![
            "machine",
            "add",
            "--registry",
            &machines,
            "--public-key",
            &in_pipe,
        ],
        vec!["machine", "list", "--registry", &pipe],
        vec!["machine", "disable", "--registry", &pipe, "m"],
        [&["sign"], &who[..], &["--body", &pipe, "POST", "/a"]].concat(),
        vec!["sign", "--key", &pipe, "--machine-id", "m", "GET", "/a"],
        [
            &["request"],
            &who[..],
            &["--data", &pipe, "POST", "http://127.0.0.1:1/"],
        ]
        .concat(),
        [
            &["request"],
            &who[..],
            &["--cacert", &pipe, "GET", "https://127.0.0.1:1/"],
        ]
        .concat(),
        [
            &[
                "agent",
                "--listen",
                "127.0.0.1:0",
                "--gateway",
                "https://127.0.0.1:1",
            ],
            &who[..],
            &["--cacert", &pipe],
        ]
        .concat(),
        vec!["agent", "--config", &pipe],
    ];
    for arguments in commands {
        let output = run_briefly(&arguments);
        let text = stderr(&output);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            text.contains("is a named pipe, not a regular file"),
            "{arguments:?}: {text}"
        );
    }
}

/// Replaces something in a configuration that is otherwise good.
fn edited(backend: &Backend, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let (folder, file) = everything(backend);
    let config = fs::read_to_string(&file).unwrap();
    assert!(config.contains(from), "{config}");
    fs::write(&file, config.replace(from, to)).unwrap();
    (folder, file)
}

#[test]
fn check_names_every_directory_that_serve_could_not_write_to() {
    let backend = Backend::start();
    for (to, says) in [
        ("file: missing/audit.jsonl", "audit.file: "),
        ("file: machines.yaml/audit.jsonl", "audit.file: "),
        ("file: .", "audit.file: "),
        (
            "file: /dev/null",
            "audit.file: /dev/null: it is not a regular file",
        ),
        (
            "file: audit.jsonl, refusals: { file: missing/refused }",
            "audit.refusals.file: ",
        ),
        (
            "file: audit.jsonl, refusals: { file: /dev/zero }",
            "audit.refusals.file: ",
        ),
    ] {
        let (_folder, file) = edited(&backend, "file: audit.jsonl", to);
        for command in ["check", "serve"] {
            let output = run_briefly(&[command, "--config", file.to_str().unwrap()]);
            let text = stderr(&output);
            assert!(text.contains(says), "{command} {to}: {text}");
            assert!(!output.status.success());
        }
    }
    for state in ["missing/state", "machines.yaml"] {
        let (_folder, file) = everything(&backend);
        let config = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{config}replay: {{ state_dir: {state} }}\n")).unwrap();
        for command in ["check", "serve"] {
            let output = run_briefly(&[command, "--config", file.to_str().unwrap()]);
            let text = stderr(&output);
            assert!(
                text.contains("replay.state_dir: "),
                "{command} {state}: {text}"
            );
            // A directory may be mounted later: a supervisor may try again.
            let code = if command == "check" { 78 } else { 1 };
            assert_eq!(
                output.status.code(),
                Some(code),
                "{command} {state}: {text}"
            );
        }
    }
}

#[test]
fn check_makes_nothing() {
    let backend = Backend::start();
    let (folder, file) = everything(&backend);
    let names = || -> Vec<_> {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = names();
    assert!(
        run(&["check", "--config", file.to_str().unwrap()])
            .status
            .success()
    );
    assert_eq!(names(), before);
}

#[test]
fn serve_names_as_many_mistakes_as_check() {
    let backend = Backend::start();
    let (folder, file) = everything(&backend);
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.clone() + "thread: 1\n").unwrap();
    fs::remove_file(folder.path().join("machines.yaml")).unwrap();
    let said = |command: &str| stderr(&run_briefly(&[command, "--config", file.to_str().unwrap()]));
    assert!(said("check").contains("thread") && said("check").contains("machines.yaml"));
    assert_eq!(said("serve"), said("check"));

    fs::write(
        &file,
        config.replace("file: audit.jsonl", "file: /dev/null"),
    )
    .unwrap();
    fs::remove_file(folder.path().join("cert.pem")).unwrap();
    for word in ["machines.yaml", "cert.pem", "/dev/null"] {
        assert!(said("check").contains(word), "{word}: {}", said("check"));
    }
    assert_eq!(said("serve"), said("check"));
}

#[test]
fn records_are_not_sent_where_they_are_lost() {
    let backend = Backend::start();
    let (_folder, file) = edited(&backend, "file: audit.jsonl", "file: \"-\"");
    let serve = |redirection: &str| {
        let command = format!("exec timeout 10 \"$0\" serve --config \"$1\" {redirection}");
        let program = countersign(&[]).get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).arg(program).arg(&file);
        shell.stdin(Stdio::null()).output().unwrap()
    };
    for redirection in [">&-", ">/dev/null", ">/dev/zero"] {
        let output = serve(redirection);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{redirection}: {text}");
        assert!(
            text.contains("standard output is closed, or is the null device"),
            "{redirection}: {text}"
        );
    }
}

#[test]
fn a_secret_that_other_users_may_read_is_warned_of() {
    let backend = Backend::start();
    let (folder, file) = everything(&backend);
    let check = || {
        let output = run(&["check", "--config", file.to_str().unwrap()]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!check().contains("holds a secret"), "{}", check());
    for (name, mode, key) in [
        ("token", 0o644, "credentials.team-a.file"),
        ("key.pem", 0o604, "listeners[0].tls.key"),
        ("sign.pem", 0o660, "audit.signing_key"),
    ] {
        let secret = folder.path().join(name);
        let set = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        set(mode);
        let text = check();
        let line = text.lines().find(|line| line.contains("holds a secret"));
        let line = line.unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(
            line.contains(key) && line.contains(&format!("mode {mode:04o}")),
            "{line}"
        );
        set(0o640);
        assert!(!check().contains("holds a secret"), "{}", check());
    }
    let registry = folder.path().join("machines.yaml");
    fs::set_permissions(&registry, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        check().contains("machines.yaml is open to writers (mode 0666)"),
        "{}",
        check()
    );
}

#[test]
fn a_machine_key_that_others_may_read_is_used_by_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let path = key.to_str().unwrap();
    assert!(run(&["keygen", "--out", path]).status.success());
    let who = ["--key", path, "--machine-id", "m"];
    let sign = [&["sign"], &who[..], &["GET", "/a"]].concat();
    assert!(run(&sign).status.success());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let request = [&["request"], &who[..], &["GET", "http://127.0.0.1:1/"]].concat();
    let agent = [
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--gateway",
        "http://127.0.0.1:1",
    ];
    let agent = [&agent[..], &who].concat();
    let doctor = [&["doctor", "--gateway", "http://127.0.0.1:1"], &who[..]].concat();
    for arguments in [sign, request, agent, doctor] {
        let output = run_briefly(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let text = stderr(&output) + &String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("is open to others than its owner (mode 0644): chmod 600"),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn a_certificate_that_has_expired_or_soon_will_is_warned_of_and_shown() {
    let backend = Backend::start();
    let (folder, file) = everything(&backend);
    let authority = Authority::new(&folder.path().join("issuer.pem"));
    authority.issue(folder.path(), &["localhost"], 2020);
    fs::set_permissions(
        folder.path().join("key.pem"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        text.contains("cert.pem: the certificate expired on 2020-01-01"),
        "{text}"
    );

    let mut gateway = Process::start(&backend, "", Vec::new());
    gateway.kill();
    let own = gateway.folder.path();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(folder.path().join(name), own.join(name)).unwrap();
    }
    let config = fs::read_to_string(own.join("countersign.yaml")).unwrap();
    let address = free_address();
    let listener = format!(
        "listeners:\n  - {{ address: '{address}', tls: {{ cert: cert.pem, key: key.pem }} }}\n"
    );
    fs::write(
        own.join("countersign.yaml"),
        config.replacen("listeners:\n", &listener, 1),
    )
    .unwrap();
    gateway.start_again();
    gateway.wait_until_ready();
    assert!(
        gateway
            .log()
            .contains("the certificate expired on 2020-01-01")
    );
    let sample = |until: u64| {
        let series = "countersign_certificate_expiry_timestamp_seconds";
        let line = format!("{series}{{name=\"{address}\",use=\"listener\"}} {until}\n");
        let (_, page) = get(gateway.admin, "/metrics");
        page.contains(&line).then_some(())
    };
    wait_for("the end of the certificate", || sample(1_577_836_800));
    // Renewed, and shown as it is now.
    let own = gateway.folder.path().to_owned();
    Authority::new(&own.join("issuer.pem")).issue(&own, &["localhost"], 2090);
    wait_for("the end of the new one", || sample(3_786_912_000));
}

#[test]
fn a_file_behind_links_is_a_file() {
    let backend = Backend::start();
    let (folder, file) = everything(&backend);
    fs::rename(folder.path().join("token"), folder.path().join("..token")).unwrap();
    symlink("..token", folder.path().join("token")).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn an_address_that_yaml_would_misread_is_printed_with_its_quotes() {
    let backend = Backend::start();
    let (_folder, file) = everything(&backend);
    let config = fs::read_to_string(&file).unwrap();
    for (address, says) in [
        (
            "[::]:8080",
            "an IPv6 address in brackets needs quotes, such as \"[::]:8080\"",
        ),
        ("not-an-address", "such as 0.0.0.0:8080 or \"[::]:8080\""),
        ("\"[::1]:9\"", "\"[::1]:9\" is in use by \"[::1]:9\" above"),
    ] {
        let twice = format!("listeners:\n  - address: \"[::1]:9\"\n  - address: {address}\n");
        fs::write(&file, config.replacen("listeners:\n", &twice, 1)).unwrap();
        let text = stderr(&run(&["check", "--config", file.to_str().unwrap()]));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_reload_names_the_registry_first() {
    let backend = Backend::start();
    let gateway = Process::serve(&backend, "{ delay: 0s, grace: 1s }");
    let host = gateway.admin;
    let order = format!(
        "POST /reload HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Countersign-Reload: yes\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let (status, body) = ask_admin(gateway.admin, &order);
    assert_eq!(status, 200, "{body}");
    assert!(body.starts_with("the registry has not changed\n"), "{body}");
}
