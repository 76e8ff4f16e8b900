//! Nonces: over all lives, forks and restored copies, no (salt, seq) ever sealed two different things.
//!
//! A tag depends on key, nonce, every byte of ciphertext and what the block is bound to; so two records under one nonce
//! are the same record exactly if their tags, lengths and checksums are equal.

use std::collections::BTreeMap;

use holdfast_log::group::{GroupBody, GroupEntry};
use holdfast_log::place::TAG_BYTES;
use holdfast_log::seam::SealedGroup;

use crate::checker::{Verdict, Violation};

/// The name of this judge.
pub const NAME: &str = "nonce";

type Sealed = ([u8; TAG_BYTES], u16, u32);

/// Everything that was ever sealed.
#[derive(Default)]
pub struct Ledger {
    /// By key id and salt: from both, with what the row says beside them, a subkey follows.
    salts: BTreeMap<([u8; 16], [u8; 32]), usize>,
    /// The salt's number by (epoch, period), as groups name it; the newest start record counts.
    periods: BTreeMap<(u64, u64, u32), usize>,
    sealed: BTreeMap<(usize, u64), Sealed>,
    broken: Option<Violation>,
}

impl Ledger {
    /// Looks at a group that a session handed out.
    pub fn see(&mut self, group: &SealedGroup) {
        let header = &group.header;
        let order = (header.generation.0, header.epoch.0, header.period.0);
        match &header.body {
            GroupBody::Start(start) => {
                let next = self.salts.len();
                let salt = *self.salts.entry((start.period.key_id.0, start.period.salt)).or_insert(next);
                if salt != next {
                    self.broke(format!("epoch {} opened its period under a salt that another has", header.epoch.0));
                }
                self.periods.insert(order, salt);
            }
            GroupBody::Data(entries) => {
                let Some(salt) = self.periods.get(&order).copied() else {
                    return self.broke(format!("epoch {} seals in period {} without a row", order.1, order.2));
                };
                self.see_entries(salt, header.first_seq.0, entries, &group.data);
            }
        }
    }

    fn see_entries(&mut self, salt: usize, first: u64, entries: &[GroupEntry], data: &[u8]) {
        let mut at = 0;
        for (seq, entry) in (first..).zip(entries) {
            if entry.shape.is_unmap() {
                continue;
            }
            let length = entry.shape.ciphertext_bytes();
            let end = at + usize::from(length);
            let mut tag = [0; TAG_BYTES];
            tag.copy_from_slice(&data[end..end + TAG_BYTES]);
            at += entry.shape.stored_bytes();
            let sealed = (tag, length, entry.crc_or_count);
            if *self.sealed.entry((salt, seq)).or_insert(sealed) != sealed {
                self.broke(format!("seq {seq} was sealed twice under one salt, with different bytes"));
            }
        }
    }

    fn broke(&mut self, what: String) {
        self.broken.get_or_insert(Violation::new(NAME, what));
    }

    /// Whether anything was wrong so far.
    pub fn verdict(&self) -> Verdict {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// How many records were sealed.
    #[must_use]
    pub fn records(&self) -> usize {
        self.sealed.len()
    }
}
