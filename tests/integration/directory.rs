//! A registry that is a directory: its files come, go and change under a running gateway.

use std::fs;
use std::path::Path;

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, raw, registry, wait_for};
use crate::support::signer::Machine;

fn one() -> Machine {
    Machine::new("one", 1)
}

fn two() -> Machine {
    Machine::new("two", 2)
}

/// Writes a file in one step.
fn write(directory: &Path, name: &str, text: &str) {
    let beside = directory.join(".new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, directory.join(name)).unwrap();
}

fn gateway(backend: &Backend, directory: &Path) -> Gateway {
    let options = Options {
        registry: format!("{{ directory: {} }}", directory.display()),
        ..Options::default()
    };
    Gateway::with(backend, options)
}

fn status(gateway: &Gateway, machine: &Machine) -> u16 {
    let lines = gateway.sign(machine, "GET", "/a", b"").lines();
    exchange(gateway.address, raw("GET", "/a", &lines, b"")).status
}

fn wait_for_status(gateway: &Gateway, machine: &Machine, wanted: u16) {
    wait_for("the change to be in force", || {
        (status(gateway, machine) == wanted).then_some(())
    });
}

fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric(&format!(
        "countersign_registry_reloads_total{{result=\"{result}\"}}"
    ))
}

#[test]
fn a_team_adds_and_removes_its_file_without_a_restart() {
    let (backend, directory) = (Backend::start(), tempfile::tempdir().unwrap());
    write(directory.path(), "one.yaml", &registry(&[&one()]));
    let gateway = gateway(&backend, directory.path());
    assert_eq!(status(&gateway, &one()), 200);
    assert_eq!(status(&gateway, &two()), 401);
    write(directory.path(), "two.yaml", &registry(&[&two()]));
    wait_for_status(&gateway, &two(), 200);
    fs::remove_file(directory.path().join("two.yaml")).unwrap();
    wait_for_status(&gateway, &two(), 401);
    assert_eq!(status(&gateway, &one()), 200);
}

#[test]
fn a_mistake_in_one_file_holds_up_the_change_of_another_until_it_is_mended() {
    let (backend, directory) = (Backend::start(), tempfile::tempdir().unwrap());
    write(directory.path(), "one.yaml", &registry(&[&one()]));
    let gateway = gateway(&backend, directory.path());
    write(directory.path(), "bad.yaml", "machines: [{ id: x }]\n");
    wait_for("the refusal", || {
        (reloads(&gateway, "rejected") >= 1.0).then_some(())
    });
    let disabled = registry(&[&one()]) + "    enabled: false\n";
    write(directory.path(), "one.yaml", &disabled);
    wait_for("the second refusal", || {
        (reloads(&gateway, "rejected") >= 2.0).then_some(())
    });
    assert_eq!(status(&gateway, &one()), 200);
    fs::remove_file(directory.path().join("bad.yaml")).unwrap();
    wait_for_status(&gateway, &one(), 403);
}

#[test]
fn a_directory_that_is_unmounted_locks_nobody_out() {
    let (backend, directory) = (Backend::start(), tempfile::tempdir().unwrap());
    let mounted = directory.path().join("machines.d");
    fs::create_dir(&mounted).unwrap();
    write(&mounted, "one.yaml", &registry(&[&one()]));
    let gateway = gateway(&backend, &mounted);
    let elsewhere = directory.path().join("elsewhere");
    for unmount in [true, false] {
        let before = reloads(&gateway, "unreadable");
        fs::rename(&mounted, &elsewhere).unwrap();
        if unmount {
            fs::create_dir(&mounted).unwrap();
        }
        wait_for("the failed read", || {
            (reloads(&gateway, "unreadable") > before).then_some(())
        });
        assert_eq!(status(&gateway, &one()), 200);
        if unmount {
            fs::remove_dir(&mounted).unwrap();
        }
        fs::rename(&elsewhere, &mounted).unwrap();
    }
    let disabled = registry(&[&one()]) + "    enabled: false\n";
    write(&mounted, "one.yaml", &disabled);
    wait_for_status(&gateway, &one(), 403);
}
