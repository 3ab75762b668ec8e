//! The real binary, with a wall clock that somebody sets while it runs. Its monotonic clock goes
//! on: libfaketime (Debian: faketime) stands between the process and the system's clock.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::exchange;
use crate::support::gateway::{Gateway, Options, PATIENCE, get, machine, raw, wait_for};
use crate::support::process::{
    Process, clock, countersign, free_address, unix_seconds, write_configuration,
};

/// What an attacker has recorded, and the gateway it was sent to.
struct Scene {
    backend: Backend,
    process: Process,
    clock: Faketime,
    accepted: Vec<Vec<u8>>,
    sent: usize,
}

/// The clock of a process: that of the system and so much.
pub(crate) struct Faketime {
    /// Holds so much, in seconds.
    offset: PathBuf,
    _folder: tempfile::TempDir,
}

impl Faketime {
    pub(crate) fn new() -> Faketime {
        let folder = tempfile::tempdir().unwrap();
        let clock = Faketime {
            offset: folder.path().join("offset"),
            _folder: folder,
        };
        clock.set(0);
        clock
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let file = self.offset.to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD", libfaketime()),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// The process reads the file at each look at a clock: it must never be half written.
    pub(crate) fn set(&self, off: i64) {
        let new = self.offset.with_extension("new");
        fs::write(&new, format!("{off:+}\n")).unwrap();
        fs::rename(new, &self.offset).unwrap();
    }
}

impl Scene {
    fn start() -> Scene {
        let (clock, backend) = (Faketime::new(), Backend::start());
        let process = Process::start(&backend, "", clock.environment());
        process.wait_until_ready();
        Scene {
            backend,
            process,
            clock,
            accepted: Vec::new(),
            sent: 0,
        }
    }

    /// A machine signs by a clock that is off by so much. Whether it was accepted.
    fn request(&mut self, off: i64) -> bool {
        self.sent += 1;
        let target = format!("/{}", self.sent);
        let now = unix_seconds().saturating_add_signed(off);
        let lines = machine().sign("GET", &target, now, b"").lines();
        let request = raw("GET", &target, &lines, b"");
        let accepted = exchange(self.process.address, &request).status == 200;
        if accepted {
            self.accepted.push(request);
        }
        accepted
    }

    /// Sends again all that was ever accepted.
    fn replay(&self) {
        for request in &self.accepted {
            let answer = exchange(self.process.address, request);
            assert!(
                ["replayed", "clock_skew", "replay_unavailable"].contains(&&*answer.code()),
                "{answer:?}"
            );
        }
    }

    fn deliveries(&self) -> HashMap<String, usize> {
        let mut deliveries = HashMap::new();
        for seen in self.backend.seen() {
            *deliveries.entry(seen.target).or_default() += 1;
        }
        deliveries
    }

    fn steps_counted(&self) -> f64 {
        let (_, page) = get(self.process.admin, "/metrics");
        page.lines()
            .find_map(|line| line.strip_prefix("countersign_clock_steps_total "))
            .unwrap()
            .parse()
            .unwrap()
    }
}

fn libfaketime() -> String {
    let architectures = fs::read_dir("/usr/lib").unwrap().flatten();
    let library = architectures
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is installed: scripts/setup test");
    library.to_str().unwrap().to_owned()
}

#[test]
fn nothing_is_delivered_twice_while_the_clock_is_set_back_and_forth() {
    let mut scene = Scene::start();
    for off in [0, 400, 0, -400, 0, 3600, -3600, 200, -200, 250, 0] {
        scene.clock.set(off);
        let stepped = clock();
        if off == 0 {
            while !scene.request(0) {
                assert!(
                    stepped.elapsed() < PATIENCE, // a lock-out would take 200 s
                    "the clock is right again, and so is the machine's"
                );
            }
        }
        // Some machines have the right time, some the gateway's; those of the window's ends too.
        while stepped.elapsed() < Duration::from_millis(1200) {
            for machine_off in [0, off, off + 290, off - 290] {
                scene.request(machine_off);
            }
            scene.replay();
        }
    }
    let deliveries = scene.deliveries();
    assert_eq!(deliveries.len(), scene.accepted.len());
    assert!(
        deliveries.values().all(|&times| times == 1),
        "{deliveries:?}"
    );
    // There were ten; on a busy machine two may fall between two looks.
    assert!(scene.steps_counted() >= 5.0);
    let log = scene.process.log();
    assert!(
        log.contains("set back by") && log.contains("went ahead by"),
        "{log}"
    );
}

#[test]
fn a_clock_before_the_release_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (address, admin) = (free_address(), free_address());
    write_configuration(
        folder.path(),
        &Backend::start(),
        address,
        admin,
        "{ delay: 0s }",
    );
    let config = folder.path().join("countersign.yaml");
    let output = countersign(&["serve", "--config", config.to_str().unwrap()])
        .envs([
            ("LD_PRELOAD", &*libfaketime()),
            ("DONT_FAKE_MONOTONIC", "1"),
        ])
        .env("FAKETIME", "@1999-12-31 23:59:00")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("the system clock says 1999-12-31"), "{text}");
    assert!(text.contains("timedatectl"), "{text}");
}

#[test]
fn a_step_of_the_clock_is_counted_within_a_look() {
    let gateway = Gateway::start(&Backend::start());
    assert_eq!(gateway.metric("countersign_clock_steps_total"), 0.0);
    gateway.hands.set((gateway.now() - 100) * 1000);
    wait_for("the step", || {
        (gateway.metric("countersign_clock_steps_total") == 1.0).then_some(())
    });
}

#[test]
fn the_offset_is_the_median_of_what_was_accepted_however_often_it_is_sent_again() {
    let gateway = Gateway::with(&Backend::start(), Options::default());
    for off in [-20_i64, -20, 100] {
        let now = gateway.now().saturating_add_signed(off) + 40;
        let lines = machine().sign("GET", "/a", now, b"").lines();
        let request = raw("GET", "/a", &lines, b"");
        assert_eq!(exchange(gateway.address, &request).status, 200);
        for _ in 0..5 * usize::from(off == 100) {
            assert_eq!(exchange(gateway.address, &request).code(), "replayed");
        }
    }
    assert_eq!(gateway.metric("countersign_clock_offset_seconds"), -20.0);
}
