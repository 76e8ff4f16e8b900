//! Real file systems on a real device over the real engine, and `kill -9` of the process that serves it.
//!
//! Each round writes files, syncs them, and cuts the power of the serving process in between. Then the device is made
//! anew, the file system recovers, and everything that was synced is there. `HOLDFAST_ROUNDS` sets how many rounds;
//! fifty take a few minutes.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod host;
mod tools;
mod writer;

use std::time::Duration;

use host::Host;
use tools::{Mounted, Place, run, skip};
use writer::Writer;

/// The child's part: serves the volume until it is told to stop, or dies. Does nothing when called as a test.
#[test]
fn a_process_that_serves() {
    if let Some(folder) = std::env::var_os(host::FOLDER) {
        host::serve(folder.as_ref());
    }
}

fn rounds() -> u64 {
    std::env::var("HOLDFAST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// What is particular about a file system.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    /// Finds nothing to mend after the journal was replayed.
    check: &'static [&'static str],
}

const EXT4: Kind = Kind { name: "ext4", make: &["mkfs.ext4", "-q"], check: &["e2fsck", "-fn"] };
const XFS: Kind = Kind { name: "xfs", make: &["mkfs.xfs", "-q"], check: &["xfs_repair", "-n"] };

fn everything_synced_survives(test: &str, kind: &Kind) {
    if let Some(reason) = tools::missing(&[kind.make[0], kind.check[0], "mount", "umount"]) {
        return skip(test, &reason);
    }
    let place = Place::new(kind.name);
    host::create(place.path());
    let mut host = Host::start(place.path());
    run(&[kind.make, &[host.device()]].concat(), 60);
    let mut writer = Writer::new(7);
    for round in 0..rounds() {
        let mounted = Mounted::new(&place, kind.name, host.device());
        writer.check(mounted.path());
        writer.write_while(mounted.path(), Duration::from_millis(200 + round * 137 % 700), || host.kill());
        drop(mounted);
        host = Host::start(place.path());
        // The journal is replayed by the first mount, as after any power cut; what is left must be flawless.
        let mounted = Mounted::new(&place, kind.name, host.device());
        writer.check(mounted.path());
        drop(mounted);
        run(&[kind.check, &[host.device()]].concat(), 120);
    }
    assert!(writer.acknowledged() > rounds() * 3, "hardly anything was written: {}", writer.acknowledged());
    host.stop();
}

#[test]
fn ext4_keeps_what_was_synced_through_power_cuts() {
    everything_synced_survives("ext4_keeps_what_was_synced_through_power_cuts", &EXT4);
}

#[test]
fn xfs_keeps_what_was_synced_through_power_cuts() {
    everything_synced_survives("xfs_keeps_what_was_synced_through_power_cuts", &XFS);
}

#[test]
fn fio_verifies_what_it_wrote_and_the_disk_holds_none_of_it() {
    let test = "fio_verifies_what_it_wrote_and_the_disk_holds_none_of_it";
    if let Some(reason) = tools::missing(&["mkfs.ext4", "fio", "mount", "umount"]) {
        return skip(test, &reason);
    }
    let place = Place::new("fio");
    host::create(place.path());
    let host = Host::start(place.path());
    run(&["mkfs.ext4", "-q", host.device()], 60);
    let mounted = Mounted::new(&place, "ext4", host.device());
    std::fs::write(mounted.path().join("note"), "a sentence that is nowhere else on this machine\n".repeat(200))
        .unwrap();
    let file = mounted.path().join("file");
    let job = format!("--filename={}", file.display());
    let fio = ["fio", "--name=verify", &job, "--size=48m", "--rw=randwrite", "--bsrange=4k-256k", "--ioengine=libaio"];
    let rest = ["--iodepth=16", "--direct=1", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--end_fsync=1"];
    run(&[&fio[..], &rest[..]].concat(), 120);
    drop(mounted);
    host.stop();
    let host = Host::start(place.path());
    let mounted = Mounted::new(&place, "ext4", host.device());
    run(&[&fio[..], &rest[..], &["--verify_only=1"]].concat(), 120);
    drop(mounted);
    host.stop();
    tools::assert_nowhere_in(&place.path().join("store"), b"a sentence that is nowhere else");
}
