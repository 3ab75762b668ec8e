//! Real power loss, as near as one machine comes to it: the state directory is on a file system of
//! its own, in an image file, and what "the disk" holds at a moment under load is a copy of that
//! image. Whatever the gateway had written and not synchronised is not in it. The gateway that
//! starts on the copy finds another boot.
//!
//! And a disk that is full. Both take root and a loop device, so they run apart: `make test-root`.
#![allow(clippy::print_stdout, reason = "`--nocapture` shows the figures")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::gateway::{PATIENCE, wait_for};
use crate::support::process::{Process, run as countersign_run};
use crate::support::siege::{FUTURE, PAST, Siege};

/// Seconds within which honest requests pass again.
const AFTER_POWER_LOSS: Duration = Duration::from_secs(30);

const LOSSES: u64 = 3;

/// A file system in a file, mounted beside it.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn format(folder: &Path) -> Disk {
        let image = folder.join("disk-0");
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        Disk::mount(image, folder.join("mounted"))
    }

    fn mount(image: PathBuf, mounted: PathBuf) -> Disk {
        fs::create_dir_all(&mounted).unwrap();
        let paths = [image.to_str().unwrap(), mounted.to_str().unwrap()];
        run("mount", &["-o", "loop", paths[0], paths[1]]);
        Disk { image, mounted }
    }

    /// What is on the disk now, without what the system has yet to write to it.
    fn copy(&self, to: &Path) {
        fs::copy(&self.image, to).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[test]
#[ignore = "takes root and a loop device: make test-root"]
fn after_power_loss_nothing_is_delivered_twice() {
    let (backend, folder) = (Backend::start(), tempfile::tempdir().unwrap());
    let mut disk = Disk::format(folder.path());
    let state = disk.mounted.join("state");
    let more = format!("replay: {{ window: {PAST}s, future: {FUTURE}s, state_dir: {state:?} }}\n");
    let mut gateway = Process::start(&backend, &more, Vec::new());
    let siege = Siege::begin(vec![gateway.address]);
    siege.passes_within(Duration::from_secs(20), || gateway.log());
    let mut report = Vec::new();
    for loss in 1..=LOSSES {
        // Longer and longer, so that the reservation is raised in some and not in others.
        std::thread::sleep(Duration::from_secs(3 * loss - 1));
        gateway.signal("STOP");
        let image = folder.path().join(format!("disk-{loss}"));
        disk.copy(&image);
        gateway.kill();
        let mounted = disk.mounted.clone();
        drop(disk);
        disk = Disk::mount(image, mounted);
        gateway.start_again_in_another_boot(&format!("boot-{loss}"));
        let back = siege.passes_within(AFTER_POWER_LOSS, || gateway.log());
        report.push(format!("{:.1} s", back.as_secs_f64()));
        gateway.wait_until_ready();
    }
    let log = gateway.log();
    let noticed = log.matches("stopped without notice").count() as u64;
    assert_eq!(noticed, LOSSES, "{log}");
    assert!(!log.contains("damaged"), "{log}");
    let outcome = siege.end(&backend);
    println!(
        "power lost {LOSSES} times, service after {}: {outcome}",
        report.join(", ")
    );
    assert!(outcome.delivered > 1000, "{outcome}");
    drop(gateway);
}

#[test]
#[ignore = "takes root and a loop device: make test-root"]
fn on_a_full_disk_requests_are_refused_and_pass_again_when_there_is_room() {
    let (backend, folder) = (Backend::start(), tempfile::tempdir().unwrap());
    let disk = Disk::format(folder.path());
    let more = format!(
        "audit: {{ file: {:?} }}\nreplay: {{ window: {PAST}s, future: {FUTURE}s }}\n",
        disk.mounted.join("audit.jsonl")
    );
    let mut gateway = Process::start(&backend, &more, Vec::new());
    gateway.wait_until_ready();
    let siege = Siege::begin(vec![gateway.address]);
    siege.passes_within(Duration::from_secs(20), || gateway.log());
    let ballast = disk.mounted.join("ballast");
    for _ in 0..3 {
        // Until not a byte more goes in.
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok_and(|written| written > 0) {}
        drop(file);
        wait_for("unreadiness", || (!gateway.is_ready()).then_some(()));
        fs::remove_file(&ballast).unwrap();
        siege.passes_within(Duration::from_secs(3), || gateway.log());
        gateway.wait_until_ready();
    }
    let outcome = siege.end(&backend);
    gateway.signal("TERM");
    assert!(gateway.wait(PATIENCE).success());
    println!("full three times: {outcome}");
    assert!(gateway.log().contains("audit records cannot be written"));
    // Every delivery has its record, and the lines that were cut off are said to be.
    let (log, machines) = (
        disk.mounted.join("audit.jsonl"),
        gateway.folder.path().join("machines.yaml"),
    );
    let files = [
        "--log",
        log.to_str().unwrap(),
        "--registry",
        machines.to_str().unwrap(),
    ];
    let verified = countersign_run(&[&["audit", "verify"][..], &files].concat());
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.matches("\"accepted\"").count() >= outcome.delivered);
}
