//! The bare disk: one file, `O_DIRECT`, no engine.
//!
//! The file is written once before anything is timed. Overwriting is the best that a disk has to offer: fresh extents cost the file
//! system a journal commit at each sync.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_disk::{AlignedBuffer, Random, SeededRandom};
use holdfast_vocabulary::BLOCK_BYTES;
use rustix::fs::OFlags;

use crate::Outcome;
use crate::spread::Spread;

/// Threads that keep a disk busy.
pub const QUEUE: u64 = 32;
/// Threads of the sequential rows.
const STREAMS: u64 = 2;
const LARGE: usize = 1 << 20;

/// What the disk does by itself.
#[derive(Clone, Debug)]
pub struct RawRates {
    /// Bytes a second, 1 MiB writes of two threads.
    pub sequential_write: Spread,
    /// Bytes a second, 1 MiB reads of two threads.
    pub sequential_read: Spread,
    /// 4 KiB writes a second, 32 threads.
    pub random_write: Spread,
    /// 4 KiB reads a second, 32 threads.
    pub random_read: Spread,
    /// Seconds of one 4 KiB overwrite and fdatasync.
    pub write_and_sync: Spread,
}

/// Measures in a file of `bytes`.
pub fn measure(path: &Path, bytes: u64, runs: usize, time: Duration) -> Outcome<RawRates> {
    let raw = Raw { path, bytes };
    raw.sequential(true)?;
    let each = |run: &dyn Fn() -> Outcome<f64>| -> Outcome<Spread> {
        Ok(Spread::of((0..runs).map(|_| run()).collect::<Outcome<Vec<_>>>()?))
    };
    Ok(RawRates {
        sequential_write: each(&|| raw.sequential(true))?,
        sequential_read: each(&|| raw.sequential(false))?,
        random_write: each(&|| raw.random(true, time))?,
        random_read: each(&|| raw.random(false, time))?,
        write_and_sync: raw.write_and_sync(time)?,
    })
}

struct Raw<'a> {
    path: &'a Path,
    bytes: u64,
}

impl Raw<'_> {
    fn open(&self) -> Outcome<File> {
        let flags = OFlags::DIRECT.bits() as i32;
        Ok(OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags)
            .open(self.path)?)
    }

    /// Bytes a second for the whole file; writes end with a sync that is in the time.
    fn sequential(&self, write: bool) -> Outcome<f64> {
        let start = Instant::now();
        let share = self.bytes / STREAMS / LARGE as u64 * LARGE as u64;
        in_threads(STREAMS, |thread| {
            let file = self.open()?;
            let mut bytes = noise(LARGE);
            for at in (0..share).step_by(LARGE) {
                let at = thread * share + at;
                if write { file.write_all_at(&bytes, at)? } else { file.read_exact_at(&mut bytes, at)? }
            }
            if write {
                file.sync_data()?;
            }
            Ok(share)
        })
        .map(|bytes| bytes as f64 / start.elapsed().as_secs_f64())
    }

    /// Requests of 4 KiB a second.
    fn random(&self, write: bool, time: Duration) -> Outcome<f64> {
        let start = Instant::now();
        in_threads(QUEUE, |thread| {
            let file = self.open()?;
            let random = SeededRandom::new(thread);
            let mut bytes = noise(BLOCK_BYTES);
            let mut requests = 0;
            while start.elapsed() < time {
                let at = random.below(self.bytes / BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
                if write {
                    file.write_all_at(&bytes, at)?
                } else {
                    file.read_exact_at(&mut bytes, at)?
                }
                requests += 1;
            }
            Ok(requests)
        })
        .map(|requests| requests as f64 / start.elapsed().as_secs_f64())
    }

    fn write_and_sync(&self, time: Duration) -> Outcome<Spread> {
        let file = self.open()?;
        let random = SeededRandom::new(99);
        let bytes = noise(BLOCK_BYTES);
        let start = Instant::now();
        let mut seconds = Vec::new();
        while start.elapsed() < time || seconds.len() < 20 {
            let at = random.below(self.bytes / BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
            let one = Instant::now();
            file.write_all_at(&bytes, at)?;
            file.sync_data()?;
            seconds.push(one.elapsed().as_secs_f64());
        }
        Ok(Spread::of(seconds))
    }
}

fn noise(bytes: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::with_len(bytes);
    SeededRandom::new(5).fill(&mut buffer);
    buffer
}

/// Runs `work` in so many threads and adds up what they did.
fn in_threads(threads: u64, work: impl Fn(u64) -> Outcome<u64> + Sync) -> Outcome<u64> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).sum()
    })
}
