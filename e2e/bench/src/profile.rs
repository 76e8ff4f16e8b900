//! One row's work in a loop, for a profiler to look at.

use std::time::{Duration, Instant};

use crate::load::{Pattern, Until};
use crate::ram::RamDisk;
use crate::throughput::{ROWS, fill, fresh_write};
use crate::{Bench, Outcome};

/// Works for about `seconds`.
pub fn run(bench: &Bench, name: &str, seconds: u64) -> Outcome<()> {
    let (start, time) = (Instant::now(), Duration::from_secs(seconds));
    let pattern = if name.contains("seq") { Pattern::Sequential } else { Pattern::Random };
    let clients = if name.ends_with("_1t") { 1 } else { 2 };
    if !ROWS.contains(&name) {
        return Err(format!("--profile takes one of {}", ROWS.join(", ")).into());
    }
    println!("process {}: {name} for {seconds} s", std::process::id());
    if name.contains("read") {
        let filled = fill(bench)?;
        let done = filled.clients(clients, 1).read(pattern, Until::Time(time))?;
        println!("{:.0} requests/s, {:.0} MB/s", done.requests_per_second(), done.bytes_per_second() * 1e-6);
        return Ok(());
    }
    let ram = RamDisk::new()?;
    for seed in 0.. {
        if start.elapsed() >= time {
            break;
        }
        let done = fresh_write(bench, &ram, pattern, clients, seed)?;
        println!("{:.0} requests/s, {:.0} MB/s", done.requests_per_second(), done.bytes_per_second() * 1e-6);
    }
    Ok(())
}
