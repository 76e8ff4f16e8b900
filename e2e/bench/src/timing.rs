//! Clocks: the wall's, and the one that counts what the process computes.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Both clocks, started at once.
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

/// What went by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elapsed {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds that this process computed, all threads together, the kernel's work for it included.
    pub cpu: f64,
}

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    /// Reads.
    pub fn elapsed(&self) -> Elapsed {
        let cpu = cpu_time().saturating_sub(self.cpu);
        Elapsed { wall: self.wall.elapsed().as_secs_f64(), cpu: cpu.as_secs_f64() }
    }
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Seconds that one core needs for one call, from enough calls to fill about `budget`. Time in which another process had
/// the core does not count.
pub fn seconds_per_call(budget: Duration, mut call: impl FnMut()) -> f64 {
    let mut calls = 1_u64;
    loop {
        let start = cpu_time();
        (0..calls).for_each(|_| call());
        let took = cpu_time().saturating_sub(start);
        if took >= budget || calls > u64::MAX / 4 {
            return took.as_secs_f64() / calls as f64;
        }
        // The last round is as long as the budget; those before it warm up.
        let wanted = budget.as_secs_f64() / took.as_secs_f64().max(1e-9);
        calls = (calls as f64 * wanted.clamp(2.0, 100.0)).ceil() as u64;
    }
}
