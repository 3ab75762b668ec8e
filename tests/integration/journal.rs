//! Nothing passes twice across crashes: the real binary, killed and restarted, with its journal
//! whole, damaged or gone. The backend writes down what reaches it, which must be nothing twice.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::client::{Client, Response, exchange};
use crate::support::gateway::{PATIENCE, machine, raw, wait_for};
use crate::support::process::{Process, clock, unix_seconds};

const SHUTDOWN: &str = "{ delay: 0s, grace: 5s }";

/// A gateway, and every request that it has accepted.
struct Scene {
    backend: Backend,
    process: Process,
    accepted: Vec<Vec<u8>>,
    next: u32,
}

impl Scene {
    fn new() -> Scene {
        let backend = Backend::start();
        let process = Process::serve(&backend, SHUTDOWN);
        Scene {
            backend,
            process,
            accepted: Vec::new(),
            next: 0,
        }
    }

    /// A request that no other is like, signed by a machine whose clock is off by `skew` seconds.
    fn request(&mut self, skew: i64) -> Vec<u8> {
        self.next += 1;
        let path = format!("/{}", self.next);
        let now = unix_seconds().saturating_add_signed(skew);
        raw(
            "GET",
            &path,
            &machine().sign("GET", &path, now, b"").lines(),
            b"",
        )
    }

    fn accept(&mut self, skew: i64) {
        let request = self.request(skew);
        let answer = exchange(self.process.address, &request);
        assert_eq!(answer.status, 200, "{answer:?} {}", self.process.log());
        self.accepted.push(request);
    }

    /// A few, from machines whose clocks are right, fast, and ahead of the reservation.
    fn accept_some(&mut self) {
        for skew in [0, 0, 5, 12, 22, 0] {
            self.accept(skew);
        }
    }

    /// Sends everything that was accepted once more.
    fn replay_all(&self) {
        let mut client = Client::connect(self.process.address);
        for request in &self.accepted {
            client.send(request);
            let answer = match client.try_receive(false) {
                Some(answer) => answer,
                None => {
                    client = Client::connect(self.process.address);
                    client.exchange(request)
                }
            };
            assert_refused(&answer);
        }
    }

    /// Replays everything until an honest request passes, which must be within `limit`, and once
    /// more after that.
    fn recover(&mut self, limit: Duration) {
        let start = clock();
        wait_for("the listener", || {
            std::net::TcpStream::connect(self.process.address).ok()
        });
        loop {
            self.replay_all();
            let honest = self.request(0);
            let answer = exchange(self.process.address, &honest);
            if answer.status == 200 {
                self.accepted.push(honest);
                break;
            }
            assert_eq!(answer.code(), "replay_unavailable");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            assert!(
                clock() - start < limit,
                "no service: {}",
                self.process.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self.process.wait_until_ready();
        self.accept_some();
        self.replay_all();
    }

    fn restart(&mut self) {
        self.process.kill();
        self.process.start_again();
    }

    fn state(&self, name: &str) -> PathBuf {
        self.process.folder.path().join("state").join(name)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.state(""))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().contains("journal-"))
            .collect();
        files.sort();
        files
    }

    /// Kills the gateway, spoils its state, starts it again, and looks that nothing passes twice,
    /// that it says what is wrong, and that service comes back.
    fn survives(mut self, spoil: impl FnOnce(&Scene), says: &str) {
        self.accept_some();
        self.process.kill();
        spoil(&self);
        self.process.start_again();
        self.recover(PATIENCE);
        let log = self.process.log();
        assert!(log.contains(says), "{log}");
        self.check_deliveries();
    }

    /// Every one of so many starts knew what was accepted before, so that no honest request had to
    /// wait.
    fn was_never_in_doubt(&self, starts: usize) {
        let log = self.process.log();
        assert_eq!(
            log.matches("nonces from the journal").count(),
            starts,
            "{log}"
        );
        assert!(
            !log.contains("damaged") && !log.contains("ends by itself"),
            "{log}"
        );
    }

    fn check_deliveries(&self) {
        let seen = self.backend.seen();
        let targets: HashSet<&str> = seen.iter().map(|s| s.target.as_str()).collect();
        assert_eq!(targets.len(), seen.len(), "something was delivered twice");
    }
}

fn assert_refused(answer: &Response) {
    assert!(
        matches!(answer.code().as_str(), "replayed" | "replay_unavailable"),
        "{answer:?}"
    );
}

#[test]
fn killed_and_restarted_it_knows_everything_and_serves_at_once() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.accept_some();
        scene.restart();
        scene.recover(PATIENCE);
    }
    scene.was_never_in_doubt(5);
    scene.check_deliveries();
}

#[test]
fn killed_under_load_it_forgets_nothing_that_was_delivered() {
    let mut scene = Scene::new();
    for round in 0..5 {
        let stop = AtomicBool::new(false);
        let sent = Mutex::new(Vec::new());
        let address = scene.process.address;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (stop, sent) = (&stop, &sent);
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    for n in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let path = format!("/load/{round}/{thread}/{n}");
                        let lines = machine().sign("GET", &path, unix_seconds(), b"").lines();
                        let request = raw("GET", &path, &lines, b"");
                        // Written down first: the answer may be lost, and the request count.
                        sent.lock().unwrap().push((path, request.clone()));
                        client.send(&request);
                        if client.try_receive(false).is_none() {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(300));
            wait_for("load", || (sent.lock().unwrap().len() > 20).then_some(()));
            scene.process.kill();
            stop.store(true, Ordering::SeqCst);
        });
        let delivered: HashSet<String> =
            scene.backend.seen().into_iter().map(|s| s.target).collect();
        let sent = sent.into_inner().unwrap();
        scene.accepted.extend(
            sent.into_iter()
                .filter(|(path, _)| delivered.contains(path))
                .map(|(_, request)| request),
        );
        scene.process.start_again();
        scene.recover(PATIENCE);
    }
    scene.was_never_in_doubt(5);
    scene.check_deliveries();
}

#[test]
fn after_a_stop_in_order_nothing_is_forgotten_either() {
    let mut scene = Scene::new();
    scene.accept_some();
    scene.process.signal("TERM");
    assert!(scene.process.wait(PATIENCE).success());
    let reservation = fs::read_to_string(scene.state("reservation")).unwrap();
    assert!(reservation.contains("\nclean true\n"), "{reservation}");
    scene.process.start_again();
    scene.recover(PATIENCE);
    scene.check_deliveries();
}

#[test]
fn a_deleted_journal_lets_nothing_through_twice() {
    Scene::new().survives(
        |scene| {
            for segment in scene.segments() {
                fs::remove_file(segment).unwrap();
            }
        },
        "the file is missing",
    );
}

#[test]
fn a_truncated_journal_lets_nothing_through_twice() {
    Scene::new().survives(
        |scene| {
            let file = fs::File::options()
                .write(true)
                .open(&scene.segments()[0])
                .unwrap();
            file.set_len(64 + 3 * 40).unwrap();
        },
        "it has 184 bytes",
    );
}

#[test]
fn a_flipped_bit_in_the_journal_lets_nothing_through_twice() {
    Scene::new().survives(
        |scene| {
            let segment = &scene.segments()[0];
            let mut content = fs::read(segment).unwrap();
            content[64 + 50] ^= 1;
            fs::write(segment, content).unwrap();
        },
        "record 1 is corrupt",
    );
}

/// Nothing says any more how far ahead requests were stamped: the whole future window is closed,
/// which is short here.
fn with_a_short_future() -> Scene {
    let mut scene = Scene::new();
    scene.process.kill();
    let path = scene.process.folder.path().join("countersign.yaml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(path, config + "replay: { window: 5m, future: 45s }\n").unwrap();
    scene.process.start_again();
    scene.process.wait_until_ready();
    scene
}

#[test]
fn a_deleted_reservation_closes_the_future_window() {
    let mut scene = with_a_short_future();
    scene.accept_some();
    scene.process.kill();
    fs::remove_file(scene.state("reservation")).unwrap();
    scene.process.start_again();
    scene.recover(2 * PATIENCE);
    assert!(scene.process.log().contains("`reservation` is missing"));
    scene.check_deliveries();
}

#[test]
fn an_emptied_directory_closes_the_future_window() {
    let mut scene = with_a_short_future();
    scene.accept_some();
    scene.process.kill();
    for entry in fs::read_dir(scene.state("")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    scene.process.start_again();
    scene.recover(2 * PATIENCE);
    scene.check_deliveries();
}

#[test]
fn a_second_gateway_waits_for_the_first_and_takes_over() {
    let mut scene = Scene::new();
    scene.accept_some();
    let second = scene.process.beside();
    wait_for("its word", || {
        second
            .log()
            .contains("another process holds it")
            .then_some(())
    });
    // It says so before it listens.
    wait_for("its listener", || {
        std::net::TcpStream::connect(second.address)
            .is_ok()
            .then_some(())
    });
    assert!(!second.is_ready());
    let honest = scene.request(0);
    let answer = exchange(second.address, &honest);
    assert_eq!(answer.code(), "replay_unavailable");
    scene.accept_some();

    scene.process.kill();
    let first = std::mem::replace(&mut scene.process, second);
    scene.recover(PATIENCE);
    drop(first);
    scene.check_deliveries();
}
