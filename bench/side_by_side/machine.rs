//! Where and of what the figures are.

use std::fs;
use std::path::Path;
use std::process::Command;

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
    format!(
        "- {cores} cores, {model}; avx512ifma: {}; load average at the start: {}\n\
         - Linux {}\n\
         - commit {}{}; {}; curve25519 backend: {}\n\
         - {}; Envoy {envoy}; {}\n",
        if cpu_info.contains("avx512ifma") {
            "yes"
        } else {
            "no"
        },
        fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .split(' ')
            .next()
            .unwrap_or_default(),
        said(Command::new("uname").arg("-r")),
        said(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])),
        match said(Command::new("git").args([
            "status",
            "--porcelain",
            "src",
            "Cargo.toml",
            "Cargo.lock"
        ]))
        .is_empty()
        {
            true => "",
            false => " **with changes**",
        },
        said(Command::new("rustc").arg("--version")),
        countersign::metrics::curve25519_backend(),
        said(Command::new("nginx").arg("-v")).replace("nginx version: nginx/", "nginx "),
        said(Command::new("redis-check-rdb").arg("--version")).replace("redis-check-rdb", "Redis"),
    )
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
