//! A server in a process of its own, with whatever processes it starts: what they cost, and their
//! end.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Longest wait for a process to end when asked; then it is killed.
const PATIENCE: Duration = Duration::from_secs(8);

/// A process of a contender, under the name that the table calls it by.
pub(crate) struct Process {
    pub(crate) role: &'static str,
    child: Child,
}

impl Process {
    pub(crate) fn spawn(role: &'static str, command: &mut Command) -> Process {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{role}: {command:?}: {error}"));
        Process { role, child }
    }

    /// User and system time so far, of this process and those below it.
    pub(crate) fn cpu_time(&self) -> Duration {
        family(self.child.id()).into_iter().map(cpu_time).sum()
    }

    /// Resident memory of this process and those below it, in bytes. Pages that they share (the
    /// program itself) count once for each.
    pub(crate) fn resident(&self) -> u64 {
        family(self.child.id()).into_iter().map(resident).sum()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of this process so far.
pub(crate) fn own_cpu_time() -> Duration {
    cpu_time(std::process::id())
}

/// A process and its descendants: nginx works in children of its master.
fn family(id: u32) -> Vec<u32> {
    let mut family = vec![id];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let children = children.unwrap_or_default();
        family.extend(
            children
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok()),
        );
        next += 1;
    }
    family
}

/// User and system time, also of threads that have ended, to the nanosecond: `/proc/<pid>/stat` has
/// the same sum in hundredths of a second.
fn cpu_time(id: u32) -> Duration {
    let id = Pid::from_raw(i32::try_from(id).unwrap());
    let time = clock_gettime(clock_getcpuclockid(id).unwrap()).unwrap();
    Duration::from(time)
}

fn resident(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap() * 1024
}
