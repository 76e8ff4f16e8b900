//! The clients of the world: QEMU's, libnbd's, fio's. Where one is not installed, the test says so and is not counted.

use std::path::Path;
use std::process::Command;

use crate::memory::{Memory, Numbers};
use crate::place::{Place, skip};

const SIZE: usize = 64 << 20;

/// Whether the tools are there; if not, the test is listed as skipped.
fn has(test: &str, tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let missing = tools.iter().find(|tool| !found(tool));
    if let Some(tool) = missing {
        skip(test, &format!("{tool} is not installed"));
    }
    missing.is_none()
}

/// Runs a tool, which must succeed within a minute; returns what it printed.
fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout").arg("60").arg(tool).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{tool} {arguments:?}: {text}");
    text
}

fn qemu_io(place: &Place, commands: &[&str]) {
    let uri = place.uri();
    let mut arguments = vec!["-f", "raw"];
    commands.iter().for_each(|command| arguments.extend(["-c", *command]));
    arguments.push(&uri);
    let text = run("qemu-io", &arguments);
    assert!(!text.contains("failed") && !text.contains("rror"), "{text}");
}

#[test]
fn qemu_io_reads_writes_discards_and_zeroes() {
    if !has("qemu_io_reads_writes_discards_and_zeroes", &["qemu-io", "timeout"]) {
        return;
    }
    let place = Place::new(Memory::new(SIZE));
    qemu_io(
        &place,
        &[
            "write -P 0xa1 0 16M",
            "read -P 0xa1 0 16M",
            "write -P 0xa2 512 512",
            "read -P 0xa2 512 512",
            "read -P 0xa1 1024 64k",
            "write -f -P 0xa3 1M 32M",
            "read -P 0xa3 1M 32M",
            "write -z 2M 1M",
            "read -P 0 2M 1M",
            "write -z -u 4M 1M",
            "read -P 0 4M 1M",
            "write -z -n 6M 1M",
            "read -P 0 6M 1M",
            "discard 8M 4M",
            "read -P 0 8M 4M",
            "read -P 0xa3 12M 1M",
            "aio_write -P 0xa4 20M 3M",
            "aio_write -P 0xa5 30M 3M",
            "aio_flush",
            "read -P 0xa4 20M 3M",
            "read -P 0xa5 30M 3M",
            "flush",
        ],
    );
    assert!(place.memory.flushes.load(std::sync::atomic::Ordering::SeqCst) > 0);
    // Seen past the server: QEMU did not read its own cache.
    let bytes = place.memory.bytes.read();
    assert!(bytes[512..1024].iter().all(|byte| *byte == 0xa2) && bytes[1024] == 0xa1);
}

fn image(folder: &Path) -> (String, Vec<u8>) {
    let mut numbers = Numbers(3);
    let mut bytes = numbers.bytes(SIZE);
    bytes[8 << 20..24 << 20].fill(0);
    let path = folder.join("image");
    std::fs::write(&path, &bytes).unwrap();
    (path.to_str().unwrap().to_owned(), bytes)
}

#[test]
fn qemu_img_copies_in_and_out() {
    if !has("qemu_img_copies_in_and_out", &["qemu-img", "timeout"]) {
        return;
    }
    let place = Place::new(Memory::new(SIZE));
    let (from, bytes) = image(place.folder());
    place.memory.bytes.write().fill(9);
    run("qemu-img", &["convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", &from, &place.uri()]);
    assert!(*place.memory.bytes.read() == bytes);
    let back = place.folder().join("back");
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &place.uri(), back.to_str().unwrap()]);
    assert!(std::fs::read(back).unwrap() == bytes);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &from, &place.uri()]);
}

#[test]
fn nbdinfo_sees_what_is_announced() {
    if !has("nbdinfo_sees_what_is_announced", &["nbdinfo", "timeout"]) {
        return;
    }
    let place = Place::new(Memory::new(SIZE));
    let text = run("nbdinfo", &["--no-content", &place.uri()]);
    for line in [
        "newstyle-fixed without TLS, using structured packets",
        "export-size: 67108864",
        "can_cache: true",
        "can_df: true",
        "can_fast_zero: true",
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "is_read_only: false",
        "block_size_minimum: 4096",
        "block_size_preferred: 4096",
        "block_size_maximum: 33554432",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let list = run("nbdinfo", &["--list", "--no-content", &place.uri()]);
    assert!(list.contains("export=\"vol\"") && list.contains("a test"), "{list}");
}

#[test]
fn nbdcopy_uses_several_connections() {
    if !has("nbdcopy_uses_several_connections", &["nbdcopy", "timeout"]) {
        return;
    }
    let place = Place::new(Memory::new(SIZE));
    let (from, bytes) = image(place.folder());
    place.memory.bytes.write().fill(9);
    run("nbdcopy", &["--connections=4", "--flush", &from, &place.uri()]);
    assert!(*place.memory.bytes.read() == bytes);
    let back = place.folder().join("back");
    run("nbdcopy", &["--connections=4", &place.uri(), back.to_str().unwrap()]);
    assert!(std::fs::read(back).unwrap() == bytes);
}

#[test]
fn fio_finds_what_it_wrote() {
    let test = "fio_finds_what_it_wrote";
    if !has(test, &["fio", "timeout"]) {
        return;
    }
    if !run("fio", &["--enghelp"]).lines().any(|line| line.trim() == "nbd") {
        return skip(test, "this fio was built without libnbd");
    }
    let place = Place::new(Memory::new(SIZE));
    let uri = format!("--uri={}", place.uri());
    // libnbd refuses by itself what is not made of the announced blocks.
    for sizes in ["--bs=4k", "--bsrange=4k-256k"] {
        let common = ["--name=v", "--ioengine=nbd", &uri, "--rw=randwrite", sizes, "--size=64m", "--iodepth=32"];
        let verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--fsync=64"];
        let text = run("fio", &[common.as_slice(), &verify].concat());
        assert!(text.contains("err= 0"), "{text}");
    }
}
