//! The registry of a running gateway.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::backend::Backend;
use crate::support::client::{Client, exchange};
use crate::support::gateway::{Gateway, machine, raw, registry, wait_for};
use crate::support::process::{Process, unix_seconds};
use crate::support::signer::Machine;

fn status(gateway: &Gateway, machine: &Machine) -> u16 {
    let lines = gateway.sign(machine, "GET", "/a", b"").lines();
    exchange(gateway.address, raw("GET", "/a", &lines, b"")).status
}

#[test]
fn a_machine_that_is_added_is_known_without_a_restart() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let other = Machine::new("machine-2", 2);
    assert_eq!(status(&gateway, &other), 401);
    gateway.write_registry(&registry(&[&machine(), &other]));
    wait_for("the new machine", || {
        (status(&gateway, &other) == 200).then_some(())
    });
    let record = gateway.decisions("registry", 2).remove(1);
    assert_eq!(record["added"]["ids"][0], "machine-2");
    assert_eq!(gateway.metric("countersign_registry_machines"), 2.0);
}

#[test]
fn a_revocation_counts_from_the_next_request_on_an_open_connection() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::connect(gateway.address);
    let mut ask = || {
        let lines = gateway.sign(&machine(), "GET", "/a", b"").lines();
        client.exchange(&raw("GET", "/a", &lines, b""))
    };
    assert_eq!(ask().status, 200);
    gateway.write_registry(&format!("{}    enabled: false\n", registry(&[&machine()])));
    wait_for("the reload", || {
        (gateway.metric("countersign_registry_reloads_total{result=\"loaded\"}") >= 2.0)
            .then_some(())
    });
    assert_eq!(ask().code(), "machine_disabled");
    let record = gateway.decisions("registry", 2).remove(1);
    assert_eq!(record["changed"]["ids"][0], "machine-1");
}

#[test]
fn a_bad_file_keeps_the_last_good_one_and_is_counted() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for bad in ["", "machines: [", "machines:\n  - id: x\n", "other: 1\n"] {
        let before = gateway.metric("countersign_registry_reloads_total{result=\"rejected\"}");
        gateway.write_registry(bad);
        wait_for("the rejection", || {
            let now = gateway.metric("countersign_registry_reloads_total{result=\"rejected\"}");
            (now > before).then_some(())
        });
        assert_eq!(status(&gateway, &machine()), 200);
    }
}

#[test]
fn a_deleted_file_keeps_the_last_good_one_until_it_comes_back() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    fs::remove_file(gateway.registry_path()).unwrap();
    wait_for("an attempt", || {
        let name = "countersign_registry_reloads_total{result=\"unreadable\"}";
        (gateway.metric(name) > 0.0).then_some(())
    });
    assert_eq!(status(&gateway, &machine()), 200);
    let other = Machine::new("machine-2", 2);
    gateway.write_registry(&registry(&[&other]));
    wait_for("the new file", || {
        (status(&gateway, &other) == 200).then_some(())
    });
    assert_eq!(status(&gateway, &machine()), 401);
}

#[test]
fn a_symlink_that_is_swapped_as_kubernetes_does_is_a_change() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let other = Machine::new("machine-2", 2);
    let folder = gateway.folder.path();
    // machines.yaml -> ..data/machines.yaml, ..data -> a folder of its own.
    for (name, content) in [
        ("..1", registry(&[&machine()])),
        ("..2", registry(&[&machine(), &other])),
    ] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("machines.yaml"), content).unwrap();
    }
    symlink("..1", folder.join("..data")).unwrap();
    symlink("..data/machines.yaml", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), gateway.registry_path()).unwrap();
    assert_eq!(status(&gateway, &other), 401);
    symlink("..2", folder.join("..new")).unwrap();
    fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    wait_for("the swapped link", || {
        (status(&gateway, &other) == 200).then_some(())
    });
}

#[test]
fn sighup_loads_it_again() {
    let backend = Backend::start();
    let process = Process::serve(&backend, "{ delay: 0s, grace: 5s }");
    let other = Machine::new("machine-2", 2);
    let ask = || {
        let lines = other.sign("GET", "/a", unix_seconds(), b"").lines();
        exchange(process.address, raw("GET", "/a", &lines, b"")).status
    };
    assert_eq!(ask(), 401);
    fs::write(
        process.folder.path().join("machines.yaml"),
        registry(&[&other]),
    )
    .unwrap();
    process.signal("HUP");
    wait_for("the reload", || (ask() == 200).then_some(()));
    wait_for("the log line", || {
        process.log().contains("SIGHUP").then_some(())
    });
}
