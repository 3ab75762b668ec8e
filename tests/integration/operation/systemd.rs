//! `conf/systemd`: the unit, and the configuration beside it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use countersign::config::{AuditSink, Loaded};
use countersign::registry::Registry;

use super::{load, root, text_of};
use crate::support::process::run;

const UNIT: &str = "conf/systemd/countersign.service";
const PROGRAM: &str = "countersign";

/// The values under a key, in order; comments are none.
fn values(key: &str) -> Vec<String> {
    let text = text_of(UNIT);
    let lines = text.lines().filter_map(|line| line.strip_prefix(key));
    let lines = lines.filter_map(|rest| rest.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

fn value(key: &str) -> String {
    let mut values = values(key);
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values.remove(0)
}

fn configuration() -> Loaded {
    let text = text_of("conf/systemd/countersign.yaml");
    load(&text, &[("backend-token", "s.token-of-the-gateway")])
}

/// The names of the units that are shipped.
fn units() -> Vec<String> {
    let folder = root().join("conf/systemd");
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let units: Vec<_> = names.filter(|name| name.ends_with(".service")).collect();
    assert!(!units.is_empty());
    units
}

/// `systemd-analyze` on a unit, whose programs are there only once it is installed.
fn analyze(arguments: &[&str], name: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    // A template is looked at as one of its instances.
    let unit = folder.path().join(name.replace("@.", "@web-1."));
    let text = text_of(&format!("conf/systemd/{name}"));
    let binary = env!("CARGO_BIN_EXE_countersign");
    let text = text.replace(&format!("={PROGRAM} "), &format!("={binary} "));
    fs::write(&unit, text).unwrap();
    (Command::new("systemd-analyze").args(arguments).arg(unit))
        .output()
        .expect("systemd-analyze is installed by `make test`")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    for name in units() {
        let output = analyze(&["verify", "--man=no"], &name);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // It also looks at other units of the machine; what it says of ours counts.
        let ours = text.lines().filter(|line| line.contains("countersign"));
        assert_eq!(ours.collect::<Vec<_>>(), [""; 0], "{name}");
        assert!(output.status.success(), "{name}: {text}");
    }
}

#[test]
fn systemd_rates_the_exposure_of_the_services_as_low() {
    for name in units() {
        // Tenths of its scale from 0 (none) to 10; a service without any of this has 9.6.
        let limit = "--threshold=20";
        let output = analyze(&["security", "--offline=true", "--no-pager", limit], &name);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Overall exposure level"), "{name}: {text}");
        assert!(output.status.success(), "{name}: {text}");
    }
}

#[test]
fn the_configuration_beside_the_unit_loads_without_a_warning() {
    assert_eq!(configuration().warnings, []);
}

#[test]
fn stopping_may_take_longer_than_delay_and_grace_together() {
    let limit = value("TimeoutStopSec");
    let limit: u64 = limit.strip_suffix('s').unwrap().parse().unwrap();
    let shutdown = configuration().config.shutdown;
    assert!(Duration::from_secs(limit) > shutdown.delay + shutdown.grace);
}

#[test]
fn there_are_descriptors_for_every_connection() {
    let limit: usize = value("LimitNOFILE").parse().unwrap();
    assert!(limit >= 2 * configuration().config.limits.connections + 256);
}

#[test]
fn the_audit_trail_is_where_the_service_may_write() {
    let AuditSink::File(file) = configuration().config.audit.sink else {
        panic!("it is not a file");
    };
    let logs = Path::new("/var/log").join(value("LogsDirectory"));
    assert_eq!(file.parent(), Some(&*logs));
    assert_eq!(value("ProtectSystem"), "strict");
    let state = Path::new("/var/lib").join(value("StateDirectory"));
    assert_eq!(configuration().config.replay.state_dir, Some(state));
}

#[test]
fn the_packaged_configuration_listens_on_loopback_only() {
    let config = configuration().config;
    assert!((config.listeners.iter()).all(|listener| listener.address.ip().is_loopback()));
    assert!(config.admin.ip().is_loopback());
}

#[test]
fn the_packaged_registry_is_empty_and_valid() {
    let text = text_of("conf/systemd/machines.yaml");
    let registry = Registry::from_bytes(Path::new("machines.yaml"), text.as_bytes(), None);
    assert_eq!(registry.unwrap().len(), 0);
}

#[test]
fn the_user_of_the_service_is_the_one_that_the_package_makes() {
    let sysusers = text_of("conf/systemd/countersign.sysusers");
    let user = value("User");
    assert!(sysusers.contains(&format!("\nu {user} - ")));
    assert_eq!(value("Group"), user);
}

#[test]
fn the_id_of_the_boot_stays_readable() {
    assert_eq!(values("ProcSubset"), [""; 0]);
}

#[test]
fn what_the_unit_runs_are_commands_of_the_binary() {
    for line in [value("ExecStart"), value("ExecReload")] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(
            words[0], PROGRAM,
            "systemd looks for it in /usr/local/bin and /usr/bin"
        );
        let help = run(&[words[1], "--help"]);
        assert!(help.status.success(), "{line}");
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{line}: {flag}");
        }
    }
}
