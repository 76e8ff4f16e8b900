//! A process that is killed in the middle of its transactions, on a real directory.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

mod fixture;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use fixture::{App, app, create, open};
use holdfast_control_store::Repository;
use holdfast_disk::{LinuxDisk, LinuxMode};

const APPS: Repository<App> = Repository::new();
/// Where the child works; without it, this is not the child.
const PLACE: &str = "HOLDFAST_KILL_TEST_PLACE";

/// Writes pairs until it is killed, and says each that it was promised. Run only by the test below.
#[test]
fn child() {
    let Some(path) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let store = open(Arc::new(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap())).unwrap();
    let first = store.revision().0;
    for number in first..first + 100_000 {
        store
            .write(|write| {
                APPS.put(write, "left", &app(number))?;
                APPS.put(write, "right", &app(number))
            })
            .unwrap();
        writeln!(std::io::stderr(), "promised {number}").unwrap();
    }
}

#[test]
fn a_killed_process_leaves_whole_transactions_and_all_that_were_promised() {
    let path = std::env::temp_dir().join(format!("holdfast-kill-{}", std::process::id()));
    let disk = || Arc::new(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap());
    create(disk()).close().unwrap();
    for round in 1..=5 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(PLACE, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut promised = 0;
        let mut seen = 0;
        while seen < 7 * round {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some(number) = line.strip_prefix("promised ") {
                promised = number.parse().unwrap();
                seen += 1;
            }
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let last = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("promised ")?.parse::<u64>().ok());
        promised = last.last().unwrap_or(promised);

        let store = open(disk()).unwrap();
        let of = |name: &str| store.read(|read| APPS.get(read, name)).unwrap().unwrap().value.size;
        assert_eq!(of("left"), of("right"));
        assert!(of("left") == promised || of("left") == promised + 1, "{} after {promised}", of("left"));
    }
    std::fs::remove_dir_all(&path).unwrap();
}
