//! Many small values of one kind, close together: half of a hash table that wastes little.
//!
//! A hash table of whole records is half empty most of the time. Here the table holds 4-byte numbers, and the records
//! lie without gaps in chunks, which never move, so that growing costs neither a copy nor a peak of memory.

use hashbrown::HashTable;

const CHUNK: usize = 256;

/// Mixes a number so that all bits of the answer depend on all bits of it. Not random on purpose: the order of
/// everything must be the same in each run.
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = (number ^ (number >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ (number >> 32)
}

/// A record that knows the block it is about.
pub trait OfBlock: Copy {
    fn block(&self) -> u64;
}

/// Records by block, at most one a block.
pub struct Arena<T> {
    table: HashTable<u32>,
    chunks: Vec<Vec<T>>,
    len: usize,
    /// Counted again only when memory was taken, since it is asked for at each change.
    bytes: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { table: HashTable::new(), chunks: Vec::new(), len: 0, bytes: 0 }
    }
}

impl<T: OfBlock> Arena<T> {
    /// How many blocks have a record.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// A record by its number, which must have come from this arena.
    pub fn at(&self, number: u32) -> &T {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn at_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn number_of(&self, block: u64) -> Option<u32> {
        self.table.find(mix(block), |&number| self.at(number).block() == block).copied()
    }

    /// The record of a block.
    #[inline]
    pub fn get(&self, block: u64) -> Option<&T> {
        self.number_of(block).map(|number| self.at(number))
    }

    /// The record of a block, to change anything but its block.
    #[inline]
    pub fn get_mut(&mut self, block: u64) -> Option<&mut T> {
        self.number_of(block).map(|number| self.at_mut(number))
    }

    /// Adds the record of a block that has none.
    pub fn insert(&mut self, record: T) {
        let hash = mix(record.block());
        let full = self.table.len() == self.table.capacity();
        let (number, grown) = self.push(record);
        let chunks = &self.chunks;
        let of = |number: u32| chunks[number as usize / CHUNK][number as usize % CHUNK].block();
        self.table.insert_unique(hash, number, |&number| mix(of(number)));
        if full || grown {
            self.count_bytes();
        }
    }

    /// Gives a block another record, made from the number of the one before, which stays readable by its number.
    pub fn supersede(&mut self, block: u64, record: impl FnOnce(Option<u32>) -> T) {
        let Some(old) = self.number_of(block) else {
            return self.insert(record(None));
        };
        let (number, grown) = self.push(record(Some(old)));
        if let Some(slot) = self.table.find_mut(mix(block), |&candidate| candidate == old) {
            *slot = number;
        }
        if grown {
            self.count_bytes();
        }
    }

    /// Appends a record. Answers its number, and whether memory was taken for it.
    fn push(&mut self, record: T) -> (u32, bool) {
        let number = self.len as u32;
        if self.len.is_multiple_of(CHUNK) {
            // The first chunk grows as it is used: most overlays of an idle node hold next to nothing.
            self.chunks.push(if self.len == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(record);
            self.len += 1;
        }
        (number, number as usize <= CHUNK || (number as usize).is_multiple_of(CHUNK))
    }

    fn count_bytes(&mut self) {
        let whole = self.chunks.len().saturating_sub(1) * CHUNK;
        let records = whole + self.chunks.last().map_or(0, Vec::capacity);
        self.bytes =
            self.table.allocation_size() + records * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>();
    }

    /// Forgets the record of a block; its memory comes back with the whole arena's.
    pub fn remove(&mut self, block: u64) -> bool {
        let Self { table, chunks, .. } = self;
        let of = |number: u32| chunks[number as usize / CHUNK][number as usize % CHUNK].block();
        match table.find_entry(mix(block), |&number| of(number) == block) {
            Ok(found) => {
                found.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// The records of all blocks, each with its number, in an order that is the same in every run.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.table.iter().map(|&number| self.at(number))
    }

    /// Bytes of memory it takes.
    pub const fn memory_bytes(&self) -> usize {
        self.bytes
    }
}
