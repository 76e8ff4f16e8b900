//! A part of an overlay: the newest change of each of its blocks, and the moves that wait for what is below.

use holdfast_log::place::{Entry, Version};
use holdfast_vocabulary::Seq;

use super::arena::{Arena, OfBlock};
use super::record::{Change, Link, Move, Origins, Point, newer};

/// Changes of single blocks.
#[derive(Default)]
pub struct Shard {
    points: Arena<Point>,
    /// By block, the newest link of the block's chain of moves. A block has a point or a chain, never both.
    moves: Arena<Link>,
    origins: Origins,
    newest: Seq,
}

impl Shard {
    /// The newest seq that changed anything here.
    pub const fn newest(&self) -> Seq {
        self.newest
    }

    /// The newest change of a block.
    pub fn point(&self, block: u64) -> Option<Change> {
        self.points.get(block).map(|point| point.change(&self.origins))
    }

    /// The moves of a block's entry below, oldest first.
    pub fn moves(&self, block: u64) -> Vec<Move> {
        let mut chain = Vec::new();
        let mut next = self.moves.get(block);
        while let Some(link) = next {
            chain.push(link.step(&self.origins));
            next = link.earlier().map(|earlier| self.moves.at(earlier));
        }
        chain.reverse();
        chain
    }

    /// Keeps a change, unless a newer one of the block is known.
    pub fn set(&mut self, block: u64, change: &Change) {
        let Self { points, moves, origins, newest } = self;
        *newest = change.version().seq.max(*newest);
        if let Some(point) = points.get_mut(block) {
            let known = point.change(origins).version();
            if newer(change.version(), known) {
                *point = Point::pack(block, change, origins);
            }
            return;
        }
        points.insert(Point::pack(block, change, origins));
        // What is below is covered now, so nothing is left to move.
        if moves.len() > 0 {
            moves.remove(block);
        }
    }

    /// Moves a block's entry, if it is the one that is meant. `unmapped` is the newest unmap of a range that the block
    /// is in.
    pub fn relocate(&mut self, block: u64, step: &Move, unmapped: Option<Version>) {
        let Self { points, moves, origins, .. } = self;
        if let Some(point) = points.get_mut(block) {
            let covered = |entry: &Entry| unmapped.is_some_and(|unmapped| newer(unmapped, entry.version));
            if let Change::Put(entry) = point.change(origins)
                && !covered(&entry)
                && entry.version == step.version
                && entry.place == step.from
            {
                point.set_place(step.to);
            }
            return;
        }
        // An unmap hides everything below.
        if unmapped.is_some() {
            return;
        }
        // Saying the same thing twice in a row changes nothing, so a log that is replayed twice costs nothing.
        if moves.get(block).is_none_or(|link| link.step(origins) != *step) {
            moves.supersede(block, |earlier| Link::pack(block, step, earlier, origins));
        }
    }

    /// How many blocks have a change here.
    pub fn len(&self) -> usize {
        self.points.len() + self.moves.len()
    }

    /// Every block that has a change here.
    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        self.points.iter().map(OfBlock::block).chain(self.moves.iter().map(OfBlock::block))
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.points.memory_bytes() + self.moves.memory_bytes() + self.origins.memory_bytes()
    }
}
