//! Where and of what the figures are.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A list in Markdown: the machine, the versions, the commit.
pub(crate) fn description(envoy: Option<&Path>) -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let envoy = envoy.map_or("not to be had, **left out**".to_owned(), |envoy| {
        let text = said(Command::new(envoy).arg("--version"));
        let versions = text.split("version: ").nth(1).unwrap_or_default();
        versions.split('/').nth(1).unwrap_or("unknown").to_owned()
    });
    let sources = [
        "src",
        "bench",
        "Cargo.toml",
        "Cargo.lock",
        ":!bench/RESULTS.md",
    ];
    let changed = said(
        Command::new("git")
            .args(["status", "--porcelain", "--"])
            .args(sources),
    );
    format!(
        "- {cores} cores, {model}; avx512ifma: {}\n\
         - Linux {}\n\
         - commit {}{}; {}; curve25519 backend: {}\n\
         - {}; Envoy {envoy}; {}\n",
        if cpu_info.contains("avx512ifma") {
            "yes"
        } else {
            "no"
        },
        said(Command::new("uname").arg("-r")),
        said(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])),
        if changed.is_empty() {
            ""
        } else {
            " **with changes**"
        },
        said(Command::new("rustc").arg("--version")),
        countersign::metrics::curve25519_backend(),
        said(Command::new("nginx").arg("-v")).replace("nginx version: nginx/", "nginx "),
        said(Command::new("redis-check-rdb").arg("--version")).replace("redis-check-rdb", "Redis"),
    )
}

/// How much of the cores is taken while this benchmark does nothing, in percent: by other programs,
/// and by other machines on the same hardware. It takes three seconds.
pub(crate) fn others() -> f64 {
    let before = ticks();
    thread::sleep(Duration::from_secs(3));
    let after = ticks();
    let (all, idle) = (after.0 - before.0, after.1 - before.1);
    100.0 * (all - idle) as f64 / all.max(1) as f64
}

/// All ticks of all cores so far, and the idle ones (proc(5), the first line of `stat`).
fn ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().next().unwrap();
    // user nice system idle iowait irq softirq steal; what follows is contained in user and nice.
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|n| n.parse().unwrap())
        .collect();
    (fields.iter().sum(), fields[3] + fields[4])
}

/// The first line of what a command prints that is not empty.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return "unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.is_empty());
    line.unwrap_or_default().to_owned()
}
