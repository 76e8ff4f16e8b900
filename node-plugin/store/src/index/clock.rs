//! A table of cached things that gives up what was not used since it last asked: CLOCK, an approximation of LRU that a
//! reader pays for with one store.

use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashTable;

struct Slot<K, V> {
    key: K,
    hash: u64,
    bytes: usize,
    used: AtomicBool,
    value: V,
}

/// Values by key, each with its size.
pub struct Clock<K, V> {
    table: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
}

impl<K, V> Default for Clock<K, V> {
    fn default() -> Self {
        Self { table: HashTable::new(), slots: Vec::new(), hand: 0 }
    }
}

impl<K: Copy + Eq, V> Clock<K, V> {
    /// What a slot costs beside its value's own memory: itself, its share of the table, and growth.
    pub const SLOT_BYTES: usize = size_of::<Slot<K, V>>() * 3 / 2 + 10;

    fn position(&self, hash: u64, key: K) -> Option<usize> {
        self.table.find(hash, |&slot| self.slots[slot as usize].key == key).map(|&slot| slot as usize)
    }

    /// A value, which counts as used.
    #[inline]
    pub fn get(&self, hash: u64, key: K) -> Option<&V> {
        let slot = &self.slots[self.position(hash, key)?];
        // Readers would fight for the line if each of them wrote it.
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(&slot.value)
    }

    /// A value and its size, to be changed.
    pub fn get_mut(&mut self, hash: u64, key: K) -> Option<(&mut V, &mut usize)> {
        let position = self.position(hash, key)?;
        let slot = &mut self.slots[position];
        Some((&mut slot.value, &mut slot.bytes))
    }

    /// Adds a value under a key that has none.
    pub fn insert(&mut self, hash: u64, key: K, value: V, bytes: usize) {
        let slot = self.slots.len() as u32;
        // What is read once is given up first: only a second use makes it count as used.
        self.slots.push(Slot { key, hash, bytes, used: AtomicBool::new(false), value });
        let slots = &self.slots;
        self.table.insert_unique(hash, slot, |&slot| slots[slot as usize].hash);
    }

    /// Gives up the value that was unused for longest, roughly. Answers its size.
    pub fn evict(&mut self) -> Option<usize> {
        // One round clears every mark, so the second finds a victim.
        for _ in 0..=2 * self.slots.len() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = self.slots.get_mut(self.hand)?;
            if !std::mem::take(slot.used.get_mut()) {
                return Some(self.remove(self.hand));
            }
            self.hand += 1;
        }
        None
    }

    /// Forgets a value. Answers its size.
    pub fn forget(&mut self, hash: u64, key: K) -> Option<usize> {
        self.position(hash, key).map(|position| self.remove(position))
    }

    fn remove(&mut self, position: usize) -> usize {
        let last = self.slots.len() - 1;
        let hash = self.slots[position].hash;
        if let Ok(found) = self.table.find_entry(hash, |&slot| slot as usize == position) {
            found.remove();
        }
        if position != last
            && let Some(moved) = self.table.find_mut(self.slots[last].hash, |&slot| slot as usize == last)
        {
            *moved = position as u32;
        }
        let bytes = self.slots.swap_remove(position).bytes;
        // What was cached once must not hold memory for ever.
        if self.slots.len() * 4 < self.slots.capacity() {
            let half = self.slots.capacity() / 2;
            self.slots.shrink_to(half);
            let slots = &self.slots;
            self.table.shrink_to(half, |&slot| slots[slot as usize].hash);
        }
        bytes
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::mix;
    use super::*;

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut clock: Clock<u64, u64> = Clock::default();
        for key in 0..1000 {
            clock.insert(mix(key), key, key * 3, 10);
            assert_eq!(clock.get(mix(7), 7).copied(), (key >= 7).then_some(21));
            if clock.len() > 100 {
                assert_eq!(clock.evict(), Some(10));
            }
        }
        assert_eq!(clock.len(), 100);
        assert_eq!(clock.get(mix(7), 7), Some(&21));
        while clock.evict().is_some() {}
        assert_eq!((clock.len(), clock.get(mix(7), 7)), (0, None));
    }
}
