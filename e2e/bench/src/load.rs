//! Clients at work on a session: threads that write and read, and one that does the upkeep.
//!
//! Each client has blocks of its own, so that the newest version of every block is known. An upkeep thread calls `tick`
//! as a node does; what it costs is part of every figure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_disk::SeededRandom;
use holdfast_session::{Session, SessionError};
use holdfast_vocabulary::BLOCK_BYTES;

use crate::Outcome;
use crate::content::{Content, PATTERNS, Pen, Truth, is_stamped};
use crate::timing::{Elapsed, Stopwatch};

/// How often upkeep looks.
const TICK: Duration = Duration::from_millis(5);
/// One read in so many is compared byte by byte; every one by its stamp.
const COMPARED: u64 = 64;
/// How often a writer without room looks again.
const ROOM_LOOK: Duration = Duration::from_micros(200);
/// A writer that waits longer for room than this has met a store that does not free any.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where clients write or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// 1 MiB after 1 MiB; each client has a region of its own.
    Sequential,
    /// 4 KiB anywhere.
    Random,
    /// 4 KiB: four of five to one fifth of all blocks.
    Hot,
}

impl Pattern {
    /// Blocks of one request.
    pub const fn blocks(self) -> usize {
        match self {
            Self::Sequential => PATTERNS,
            Self::Random | Self::Hot => 1,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Elapsed,
}

impl Done {
    /// Bytes in a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.wall
    }

    /// Requests in a second.
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.wall
    }
}

/// When clients stop.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many bytes, all clients together.
    Bytes(u64),
    /// After a time.
    Time(Duration),
}

/// Clients of one session.
pub struct Clients<'a> {
    /// Whose session.
    pub session: &'a Session,
    /// What they write.
    pub content: &'a Content,
    /// What they wrote.
    pub truth: &'a Truth,
    /// How many.
    pub count: u64,
    /// Makes each run draw other blocks.
    pub seed: u64,
}

/// The blocks that one client draws.
pub struct Draw {
    pattern: Pattern,
    random: SeededRandom,
    client: u64,
    clients: u64,
    /// How many draws there are without repetition.
    own: u64,
    step: u64,
}

impl Draw {
    /// Of one client of several.
    pub fn new(pattern: Pattern, blocks: u64, client: u64, clients: u64, seed: u64) -> Self {
        let own = blocks / clients / pattern.blocks() as u64;
        let random = SeededRandom::new(seed.wrapping_mul(1_000_003) ^ client);
        Self { pattern, random, client, clients, own, step: 0 }
    }

    /// The first block of the next request.
    pub fn draw(&mut self) -> u64 {
        let place = match self.pattern {
            Pattern::Sequential => {
                self.step += 1;
                return (self.client * self.own + (self.step - 1) % self.own) * PATTERNS as u64;
            }
            Pattern::Random => self.random.below(self.own),
            // Every fifth block is hot, so that heat lies all over the index, as it does in a real volume.
            Pattern::Hot => {
                let group = self.random.below(self.own / 5);
                group * 5 + if self.random.chance(0.8) { 0 } else { 1 + self.random.below(4) }
            }
        };
        place * self.clients + self.client
    }
}

impl Clients<'_> {
    /// Writes, and flushes at the end; both are in the time.
    pub fn write(&self, pattern: Pattern, until: Until) -> Outcome<Done> {
        self.timed(
            |client, deadline| {
                let mut draw = Draw::new(pattern, self.truth.blocks(), client, self.count, self.seed);
                let mut pen = Pen::new(self.content);
                let size = pattern.blocks();
                let quota = self.quota(until, size);
                let mut requests = 0;
                while requests < quota && !deadline.is_over(requests) {
                    let first = draw.draw();
                    let version = self.truth.version(first) + 1;
                    let bytes = pen.write(first, size, version);
                    write_when_there_is_room(self.session, first, bytes)?;
                    self.truth.note(first, size, version);
                    requests += 1;
                }
                Ok(requests)
            },
            pattern,
            until,
            true,
        )
    }

    /// Reads; every block is checked by its stamp, some byte by byte.
    pub fn read(&self, pattern: Pattern, until: Until) -> Outcome<Done> {
        self.timed(
            |client, deadline| {
                let mut draw = Draw::new(pattern, self.truth.blocks(), client, self.count, self.seed);
                let size = pattern.blocks();
                let quota = self.quota(until, size);
                let mut bytes = vec![0; size * BLOCK_BYTES];
                let mut requests = 0;
                while requests < quota && !deadline.is_over(requests) {
                    let first = draw.draw();
                    self.session.read(first * BLOCK_BYTES as u64, &mut bytes)?;
                    for (place, bytes) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
                        let block = first + place as u64;
                        let version = self.truth.version(block);
                        if !is_stamped(block, version, bytes) || (requests + place as u64).is_multiple_of(COMPARED) {
                            self.content.check(block, version, bytes)?;
                        }
                    }
                    requests += 1;
                }
                Ok(requests)
            },
            pattern,
            until,
            false,
        )
    }

    /// Reads blocks all over the volume and compares them byte by byte, outside of any timing.
    pub fn verify(&self, samples: u64) -> Outcome<()> {
        let random = SeededRandom::new(self.seed ^ 0x5eed);
        let mut bytes = vec![0; BLOCK_BYTES];
        for _ in 0..samples {
            let block = random.below(self.truth.blocks());
            self.session.read(block * BLOCK_BYTES as u64, &mut bytes)?;
            self.content.check(block, self.truth.version(block), &bytes)?;
        }
        Ok(())
    }

    fn quota(&self, until: Until, blocks: usize) -> u64 {
        match until {
            Until::Bytes(bytes) => bytes / self.count / (blocks * BLOCK_BYTES) as u64,
            Until::Time(_) => u64::MAX,
        }
    }

    fn timed(
        &self,
        client: impl Fn(u64, &Deadline) -> Outcome<u64> + Sync,
        pattern: Pattern,
        until: Until,
        flush: bool,
    ) -> Outcome<Done> {
        let stop = AtomicBool::new(false);
        let deadline = Deadline {
            at: match until {
                Until::Bytes(_) => None,
                Until::Time(time) => Some(Instant::now() + time),
            },
        };
        let watch = Stopwatch::start();
        let (requests, elapsed) = std::thread::scope(|scope| {
            let upkeep = scope.spawn(|| upkeep(self.session, &stop));
            let clients: Vec<_> = (0..self.count)
                .map(|number| {
                    let (client, deadline) = (&client, &deadline);
                    scope.spawn(move || client(number, deadline))
                })
                .collect();
            let requests: Outcome<u64> = clients.into_iter().map(|client| client.join().map_err(|_| panicked())?).sum();
            let flushed = if flush && requests.is_ok() { self.session.flush() } else { Ok(()) };
            let elapsed = watch.elapsed();
            stop.store(true, Ordering::Relaxed);
            upkeep.join().map_err(|_| panicked())??;
            flushed?;
            Outcome::Ok((requests?, elapsed))
        })?;
        Ok(Done { requests, bytes: requests * (pattern.blocks() * BLOCK_BYTES) as u64, elapsed })
    }
}

fn panicked() -> &'static str {
    "a thread of the bench panicked; its message is above"
}

struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    /// Looks at the clock now and then.
    fn is_over(&self, requests: u64) -> bool {
        requests % 16 == 15 && self.at.is_some_and(|at| Instant::now() >= at)
    }
}

fn upkeep(session: &Session, stop: &AtomicBool) -> Result<(), SessionError> {
    while !stop.load(Ordering::Relaxed) {
        session.tick()?;
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// Writes, and does upkeep as long as the store has no room.
pub fn write_when_there_is_room(session: &Session, first: u64, bytes: &[u8]) -> Outcome<()> {
    let mut since = None;
    loop {
        match session.write(first * BLOCK_BYTES as u64, bytes) {
            Ok(()) => return Ok(()),
            Err(error @ SessionError::NoSpace { .. }) => {
                let since: Instant = *since.get_or_insert_with(Instant::now);
                if since.elapsed() > ROOM_WAIT_MAX {
                    let (waited, stats) = (ROOM_WAIT_MAX.as_secs(), session.stats());
                    return Err(format!("upkeep has made no room for {waited} s: {error}; {stats:?}").into());
                }
                session.tick()?;
                std::thread::sleep(ROOM_LOOK);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
