//! fio: the jobs, and the one number that each is asked for.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;

/// One kind of work.
pub struct Job {
    /// For a reader.
    pub words: &'static str,
    /// What its figure counts.
    pub unit: &'static str,
    arguments: &'static [&'static str],
    /// Where fio's terse line has the figure, counted from 1, and what it is multiplied with.
    field: usize,
    factor: f64,
}

/// Fields of fio's third terse format.
const READ_KIB: usize = 7;
const READ_IOPS: usize = 8;
const WRITE_KIB: usize = 48;
const WRITE_IOPS: usize = 49;
const MB_OF_KIB: f64 = 1024.0 * 1e-6;

impl Job {
    /// In the order of the rows.
    pub const ALL: [Self; 5] = [
        Self {
            words: "32 random writes of 4 KiB in flight",
            unit: "IOPS",
            arguments: &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
            field: WRITE_IOPS,
            factor: 1.0,
        },
        Self {
            words: "32 random reads of 4 KiB in flight",
            unit: "IOPS",
            arguments: &["--rw=randread", "--bs=4k", "--iodepth=32"],
            field: READ_IOPS,
            factor: 1.0,
        },
        Self {
            words: "one random write of 4 KiB and fdatasync at a time",
            unit: "IOPS",
            arguments: &["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fdatasync=1"],
            field: WRITE_IOPS,
            factor: 1.0,
        },
        Self {
            words: "4 writes of 1 MiB in flight, in order",
            unit: "MB/s",
            arguments: &["--rw=write", "--bs=1m", "--iodepth=4", "--end_fsync=1"],
            field: WRITE_KIB,
            factor: MB_OF_KIB,
        },
        Self {
            words: "4 reads of 1 MiB in flight, in order",
            unit: "MB/s",
            arguments: &["--rw=read", "--bs=1m", "--iodepth=4"],
            field: READ_KIB,
            factor: MB_OF_KIB,
        },
    ];

    /// Works on a device, and gives the figure.
    pub fn run(&self, device: &Path, seconds: f64) -> Outcome<f64> {
        let time = format!("--runtime={}ms", (seconds * 1e3) as u64);
        let line = fio(device, &[self.arguments, &["--time_based", &time, "--norandommap"]].concat())?;
        let value = line.split(';').nth(self.field - 1).and_then(|field| field.parse::<f64>().ok());
        let value = value.filter(|value| *value > 0.0).ok_or_else(|| format!("fio said nothing to go by: {line}"))?;
        Ok(value * self.factor)
    }
}

/// Writes a device once from front to back.
pub fn fill(device: &Path) -> Outcome<()> {
    fio(device, &["--rw=write", "--bs=1m", "--iodepth=4", "--end_fsync=1"]).map(drop)
}

fn fio(device: &Path, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new("fio")
        .args(["--name=job", "--ioengine=libaio", "--direct=1", "--output-format=terse", "--terse-version=3"])
        // Not all alike: a device that compresses or spares zeros would have it easy.
        .args(["--refill_buffers=0", "--randrepeat=0"])
        .arg(format!("--filename={}", device.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("fio {arguments:?}: {said} {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let line = said.lines().find(|line| line.starts_with("3;")).ok_or("fio printed no figures")?;
    Ok(line.to_owned())
}
