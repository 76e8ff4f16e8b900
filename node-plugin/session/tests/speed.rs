//! How fast a session is against a replica that does next to nothing. Not a test of anything; run it by name:
//! `cargo test --release -p holdfast-session --test speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)]

mod support;

use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use holdfast_disk::{AlignedBuffer, SeededRandom};
use holdfast_log::anchor::SignedRoot;
use holdfast_log::group::GroupBody;
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::NodePage;
use holdfast_log::place::{Shape, TAG_BYTES, Version};
use holdfast_log::seam::{
    BlockSink, MergedLeaf, Pressure, Purpose, Replica, ReplicaError, ReplicaStats, Report, ScrubReport, SealedBlock,
    SealedGroup, SealedHeader, Ticket,
};
use holdfast_session::Session;
use holdfast_vocabulary::{BLOCK_BYTES, BlockIndex, Epoch, Grant, PeriodNumber, Seq};
use support::memory::Memory;
use support::{BLOCK, World};

const BLOCKS: u64 = 64 << 10;
const SLOT: usize = 257 * BLOCK_BYTES;
const SLOTS: usize = 330;

/// Copies groups into a ring, and knows for each block where its newest record lies.
struct Ring {
    small: Memory,
    slots: Vec<RwLock<AlignedBuffer>>,
    next: AtomicU64,
    places: Vec<AtomicU64>,
    seqs: Vec<AtomicU64>,
    period: AtomicU64,
    head: Mutex<Seq>,
}

impl Ring {
    fn new() -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            small: Memory::new(),
            slots: (0..SLOTS).map(|_| RwLock::new(AlignedBuffer::from(&vec![1; SLOT][..]))).collect(),
            next: AtomicU64::new(0),
            places: zeros(BLOCKS as usize),
            seqs: zeros(BLOCKS as usize),
            period: AtomicU64::new(0),
            head: Mutex::new(Seq(0)),
        }
    }
}

impl Replica for Ring {
    fn report(&self) -> Report {
        self.small.report()
    }
    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError> {
        self.small.promise(grant)
    }
    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError> {
        self.small.put_header(grant, header)
    }
    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        self.small.tail()
    }
    fn reserve(&self, _: &Grant, _: u64, _: Purpose) -> Result<(), ReplicaError> {
        Ok(())
    }
    fn release(&self, _: u64) {}
    fn admit(&self, _: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
        if let GroupBody::Start(start) = &group.header.body {
            self.period.store(start.period.number.0.into(), Ordering::SeqCst);
        }
        Ok(Ticket(self.next.fetch_add(1, Ordering::SeqCst) % SLOTS as u64))
    }
    fn complete(&self, ticket: Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError> {
        self.slots[ticket.0 as usize].write()[..group.data.len()].copy_from_slice(&group.data);
        if let GroupBody::Data(entries) = &group.header.body {
            let mut at = ticket.0 * SLOT as u64;
            for (position, entry) in entries.iter().enumerate() {
                let seq = group.header.first_seq.0 + position as u64;
                if self.seqs[entry.block.0 as usize].fetch_max(seq, Ordering::SeqCst) < seq {
                    self.places[entry.block.0 as usize].store(at, Ordering::SeqCst);
                }
                at += entry.shape.stored_bytes() as u64;
            }
        }
        let mut head = self.head.lock();
        *head = head.max(group.header.last_seq());
        Ok(())
    }
    fn sync(&self, _: &Grant) -> Result<Seq, ReplicaError> {
        Ok(*self.head.lock())
    }
    fn commit(&self, _: &Grant, _: Seq) -> Result<(), ReplicaError> {
        Ok(())
    }
    fn read(&self, first: BlockIndex, count: u32, sink: &mut BlockSink<'_>) -> Result<(), ReplicaError> {
        for block in first.0..first.0 + u64::from(count) {
            let at = self.places[block as usize].load(Ordering::SeqCst) as usize;
            let slot = self.slots[at / SLOT].read();
            let (ciphertext, rest) = slot[at % SLOT..].split_at(BLOCK_BYTES);
            let tag: &[u8; TAG_BYTES] = rest.first_chunk().unwrap();
            let seq = Seq(self.seqs[block as usize].load(Ordering::SeqCst));
            let version = Version { epoch: Epoch(2), seq };
            let period = PeriodNumber(self.period.load(Ordering::SeqCst) as u32);
            sink(BlockIndex(block), Some(SealedBlock { version, period, shape: Shape::WHOLE, ciphertext, tag }));
        }
        Ok(())
    }
    fn place_of(&self, _: BlockIndex) -> Option<(String, u64)> {
        None
    }
    fn leaf(&self, number: u64) -> Result<Arc<LeafPage>, ReplicaError> {
        self.small.leaf(number)
    }
    fn node(&self, level: u8, index: u64) -> Result<Arc<NodePage>, ReplicaError> {
        self.small.node(level, index)
    }
    fn freeze(&self, _: &Grant, _: Seq) -> Result<(), ReplicaError> {
        Ok(())
    }
    fn merge(&self, _: &Grant, _: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        Ok(Vec::new())
    }
    fn finish(&self, _: &Grant, _: &SignedRoot) -> Result<(), ReplicaError> {
        Ok(())
    }
    fn abandon(&self) {}
    fn pressure(&self) -> Pressure {
        Pressure::default()
    }
    fn collect(&self) -> Result<bool, ReplicaError> {
        Ok(false)
    }
    fn scrub(&self) -> Result<ScrubReport, ReplicaError> {
        Ok(ScrubReport::default())
    }
    fn stats(&self) -> ReplicaStats {
        ReplicaStats::default()
    }
}

/// Runs `work` on so many threads, and gives the seconds it took.
///
/// CPU time is printed beside it: on a machine that others use too, it is the figure that means something.
fn timed(threads: u64, work: impl Fn(u64) + Sync) -> f64 {
    let cpu = cpu_seconds();
    let started = Instant::now();
    thread::scope(|scope| {
        (0..threads).for_each(|thread| {
            drop(scope.spawn({
                let work = &work;
                move || work(thread)
            }))
        })
    });
    let took = started.elapsed().as_secs_f64();
    print!("[{:.2} s, {:.2} s of CPU] ", took, cpu_seconds() - cpu);
    took
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn random_writes(session: &Session, threads: u64, each: u64) -> f64 {
    let bytes = vec![7; BLOCK_BYTES];
    let took = timed(threads, |thread| {
        let dice = SeededRandom::new(thread);
        (0..each).for_each(|_| session.write(dice.below(BLOCKS) * BLOCK, &bytes).unwrap());
    });
    (threads * each) as f64 / took
}

#[test]
#[ignore = "measures; run it by name, in release"]
fn rates() {
    println!("{}", holdfast_seal::cipher_name());
    let mut world = World::new(1);
    let replica = Arc::new(Ring::new());
    world.create(&replica.small, BLOCKS);
    let session = world.open(&replica).unwrap();
    let mut raw = vec![0; BLOCK_BYTES];
    let mut sealer =
        support::key().begin_period(support::VOLUME, Epoch(1), holdfast_seal::FreshSalt::drawn([1; 32]), Seq(1));
    let mut range = sealer.reserve(200_000).unwrap();
    let started = Instant::now();
    while let Some(slot) = range.next_slot() {
        let _ = slot.seal(BlockIndex(1), 0, &[1; BLOCK_BYTES], &mut raw);
    }
    println!("sealing alone: {:.0} ns a block", started.elapsed().as_secs_f64() * 1e9 / 200_000.0);

    let megabyte = vec![3; 1 << 20];
    for threads in [1, 2] {
        println!("random 4 KiB writes, {threads} threads: {:.0} k/s", random_writes(&session, threads, 400_000) / 1e3);
        let took = timed(threads, |thread| {
            let half = BLOCKS / 2 / 256;
            (0..2000_u64).for_each(|step| session.write((thread * half + step % half) << 20, &megabyte).unwrap());
        });
        println!(
            "sequential 1 MiB writes, {threads} threads: {:.2} GB/s",
            threads as f64 * 2000.0 * 1.048_576e6 / took / 1e9
        );
    }
    // Every block once, so that all of them lie in the ring.
    (0..BLOCKS / 256).for_each(|step| session.write(step << 20, &megabyte).unwrap());
    session.flush().unwrap();
    for threads in [1, 2] {
        let took = timed(threads, |thread| {
            let dice = SeededRandom::new(thread);
            let mut bytes = vec![0; BLOCK_BYTES];
            (0..400_000).for_each(|_| session.read(dice.below(BLOCKS) * BLOCK, &mut bytes).unwrap());
        });
        println!("random 4 KiB reads, {threads} threads: {:.0} k/s", threads as f64 * 400.0 / took);
        let took = timed(threads, |thread| {
            let mut bytes = vec![0; 1 << 20];
            (0..1000_u64).for_each(|step| session.read((thread * 128 + step % 128) << 20, &mut bytes).unwrap());
        });
        println!(
            "sequential 1 MiB reads, {threads} threads: {:.2} GB/s",
            threads as f64 * 1000.0 * 1.048_576e6 / took / 1e9
        );
    }
    let bytes = vec![7; BLOCK_BYTES];
    let took = timed(1, |_| {
        (0..50_000_u64).for_each(|step| {
            session.write(step % BLOCKS * BLOCK, &bytes).unwrap();
            session.flush().unwrap();
        });
    });
    println!("4 KiB write and flush, one after the other: {:.1} us", took * 1e6 / 50_000.0);
}
