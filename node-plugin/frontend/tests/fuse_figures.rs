//! The frontend's own cost: fio on a loop device over FUSE over memory. Nothing is judged here, only printed. The CPU time
//! is that of the server's process, the kernel's work for it included, but not the loop driver's nor fio's; it means
//! something on a busy machine as well.
//!
//! `cargo test --release -p holdfast-frontend --test fuse_figures -- --ignored --nocapture`

mod support;

use holdfast_frontend::target::Target;
use support::{MemoryTarget, Mounted, has_tool, run};

const SIZE: u64 = 1 << 30;
/// What fio is to do, and what of its figures counts.
const WORKS: [(&str, &str); 7] = [
    ("4 KiB random write QD32", "--rw=randwrite --bs=4k --iodepth=32"),
    ("4 KiB random read QD32", "--rw=randread --bs=4k --iodepth=32"),
    ("4 KiB random write QD1", "--rw=randwrite --bs=4k --iodepth=1"),
    ("4 KiB random read QD1", "--rw=randread --bs=4k --iodepth=1"),
    ("4 KiB write+fsync QD1", "--rw=randwrite --bs=4k --iodepth=1 --fsync=1"),
    ("1 MiB write QD8", "--rw=write --bs=1m --iodepth=8"),
    ("1 MiB read QD8", "--rw=read --bs=1m --iodepth=8"),
];

#[test]
#[ignore = "measures for a minute; needs an idle machine"]
fn figures() {
    need_loop!("figures");
    if !has_tool("fio") {
        return support::skip("figures", "no fio");
    }
    let threads = std::env::var("HOLDFAST_FUSE_THREADS").unwrap_or_else(|_| "2 4 8 16".to_owned());
    for threads in threads.split_whitespace().map(|text| text.parse().expect("a number of threads")) {
        let target = MemoryTarget::new(SIZE);
        // The first touch of memory is the kernel's work, and not what is measured.
        for at in (0..SIZE).step_by(1 << 20) {
            target.write(at, &[1; 1 << 20]).expect("memory takes it");
        }
        let mounted = Mounted::with(target, threads);
        let device = mounted.attach();
        println!("{threads} threads, {}", mounted.server().protection());
        for (name, work) in WORKS {
            let fixed = "--name=f --direct=1 --ioengine=libaio --time_based --runtime=3 --minimal --norandommap";
            let file = format!("--filename={}", device.path().display());
            let arguments: Vec<&str> = fixed.split(' ').chain(work.split(' ')).chain([file.as_str()]).collect();
            let (cpu, before) = (cpu_milliseconds(), mounted.server().counts().requests);
            let said = run("fio", &arguments, 60);
            let fields: Vec<f64> = said.split(';').map(|field| field.parse().unwrap_or_default()).collect();
            // Version 3 of fio's terse form: KiB/s and requests/s, of reads and of writes; one of each pair is 0.
            let (kib, requests) = (fields[6] + fields[47], fields[7] + fields[48]);
            let served = (mounted.server().counts().requests - before).max(1) as f64;
            let each = (cpu_milliseconds() - cpu) as f64 * 1000.0 / served;
            println!("  {name:26} {requests:8.0} /s {:8.0} MiB/s, {each:6.1} µs CPU a request", kib / 1024.0);
        }
    }
}

/// User and system time of this process, in units of the kernel's 10 ms.
fn cpu_milliseconds() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the kernel tells");
    let behind_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    let ticks = |at: usize| behind_name.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok()).expect("a number");
    (ticks(11) + ticks(12)) * 10
}
