//! What this machine is: no figure means anything without it.

use std::fs;
use std::path::Path;

use crate::Bench;

/// Names and values for the head of the table.
pub fn describe(bench: &Bench) -> Vec<(String, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "an unnamed CPU".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let mut rows = vec![
        ("cpu".to_owned(), format!("{model}, {cores} cores, {} MiB of memory", memory / 1024)),
        ("cipher".to_owned(), holdfast_seal::cipher_name()),
        ("kernel".to_owned(), format!("Linux {}, {}", kernel.trim(), std::env::consts::ARCH)),
        ("disk".to_owned(), disk(bench.scratch.path())),
    ];
    if bench.quick {
        rows.push(("quick".to_owned(), "small sizes and short times: no figure here is worth keeping".to_owned()));
    }
    rows
}

/// The mount that a path is on, as the kernel names it.
fn disk(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(mount), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let length = mount.len();
        if path.starts_with(mount) && best.as_ref().is_none_or(|(longest, _)| length >= *longest) {
            best = Some((length, format!("{device}, {kind} ({options}), at {mount}; O_DIRECT")));
        }
    }
    best.map_or_else(|| "an unknown disk".to_owned(), |(_, words)| words)
}
