//! A volume in memory that remembers what a power cut would leave, and that can fail, wait and count.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use holdfast_frontend::target::{Target, TargetError};
use parking_lot::{Condvar, Mutex, RwLock};

#[derive(Default)]
pub struct Memory {
    pub bytes: RwLock<Vec<u8>>,
    /// What a power cut leaves; kept only if it is not empty.
    pub durable: Mutex<Vec<u8>>,
    pub read_only: bool,
    pub failure: Mutex<Option<TargetError>>,
    /// While it is shut, reads of the first block wait.
    pub gate: Mutex<bool>,
    pub opened: Condvar,
    pub flushes: AtomicUsize,
    pub discards: AtomicUsize,
    pub zeroes: AtomicUsize,
    /// Give other threads the processor between any two calls.
    pub is_busy: AtomicBool,
}

impl Memory {
    pub fn new(size: usize) -> Self {
        Self { bytes: RwLock::new(vec![0; size]), ..Self::default() }
    }

    pub fn with_power_cuts(size: usize) -> Self {
        Self { durable: Mutex::new(vec![0; size]), ..Self::new(size) }
    }

    pub fn shut(&self) {
        *self.gate.lock() = true;
    }

    pub fn open(&self) {
        *self.gate.lock() = false;
        self.opened.notify_all();
    }

    fn check(&self, offset: u64, length: u64) -> Result<std::ops::Range<usize>, TargetError> {
        assert!(
            offset.is_multiple_of(4096) && length.is_multiple_of(4096) && length > 0,
            "whole blocks: {offset} {length}"
        );
        if self.is_busy.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        if let Some(error) = *self.failure.lock() {
            return Err(error);
        }
        if offset + length > self.size() {
            return Err(TargetError::Invalid);
        }
        Ok(offset as usize..(offset + length) as usize)
    }
}

impl Target for Memory {
    fn size(&self) -> u64 {
        self.bytes.read().len() as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), TargetError> {
        if offset == 0 {
            let mut gate = self.gate.lock();
            self.opened.wait_while(&mut gate, |shut| *shut);
        }
        let range = self.check(offset, out.len() as u64)?;
        out.copy_from_slice(&self.bytes.read()[range]);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        let range = self.check(offset, bytes.len() as u64)?;
        self.bytes.write()[range].copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> Result<(), TargetError> {
        if let Some(error) = *self.failure.lock() {
            return Err(error);
        }
        self.flushes.fetch_add(1, Ordering::SeqCst);
        let mut durable = self.durable.lock();
        if !durable.is_empty() {
            durable.copy_from_slice(&self.bytes.read());
        }
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.discards.fetch_add(1, Ordering::SeqCst);
        let range = self.check(offset, length)?;
        self.bytes.write()[range].fill(0);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.zeroes.fetch_add(1, Ordering::SeqCst);
        let range = self.check(offset, length)?;
        self.bytes.write()[range].fill(0);
        Ok(())
    }
}

/// Numbers that look random and are the same in each run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
