//! What INIT settled between the kernel and the first process that served a connection.
//!
//! INIT comes once in the life of a connection. Whoever continues on the descriptor cannot ask again, so these few
//! numbers travel with it, in a fixed form that an older and a newer process both read.

use thiserror::Error;

use super::abi::{InitAnswer, InitOffer, MAJOR, MINOR, MINOR_MIN, init};

/// The largest read and write. Larger ones the kernel refuses without a change of its settings.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// What kernels without `MAX_PAGES` send at most.
const REQUEST_BYTES_OLD: u32 = 128 << 10;
/// Direct I/O that the kernel has under way at once; its own default of 12 would be the queue depth of the device.
const BACKGROUND_MAX: u16 = 256;
const PAGE_BYTES: u32 = 4096;

/// Always taken, if offered. Not here, on purpose: the write-back cache (the kernel would answer writes that nobody has),
/// `ATOMIC_O_TRUNC` (it would make an open the truncation of a volume), and mapped direct I/O (a second cache).
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::ASYNC_DIO
    | init::PARALLEL_DIROPS
    | init::ABORT_ERROR
    | init::MAX_PAGES
    | init::EXT
    | init::HAS_RESEND;

/// Why a connection cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FactsError {
    /// The kernel speaks another protocol.
    #[error("the kernel speaks FUSE {major}.{minor}; 7.{MINOR_MIN} or a later 7 is needed (Linux 3.15 or later)")]
    Version {
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
    },
    /// Not what [`Facts::encode`] wrote, or what a later version wrote in a form of its own.
    #[error("these are not the facts of a FUSE connection")]
    Unreadable,
}

/// What INIT settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    minor: u32,
    flags: u64,
    max_write: u32,
    connection: u64,
}

impl Facts {
    /// Bytes of the encoded form.
    pub const BYTES: usize = 32;
    /// The form's own number, and a mark against other bytes.
    const MAGIC: [u8; 8] = *b"hf-fuse\x01";

    /// What is made of the kernel's offer on the connection of this number.
    pub(crate) fn agree(offer: &InitOffer, connection: u64) -> Result<Self, FactsError> {
        if offer.major != MAJOR || offer.minor < MINOR_MIN {
            return Err(FactsError::Version { major: offer.major, minor: offer.minor });
        }
        let flags = offer.flags & WANTED;
        let max_write = if flags & init::MAX_PAGES == 0 { REQUEST_BYTES_OLD } else { REQUEST_BYTES_MAX };
        Ok(Self { minor: offer.minor.min(MINOR), flags, max_write, connection })
    }

    pub(crate) fn answer(&self, offer: &InitOffer) -> InitAnswer {
        InitAnswer {
            max_readahead: offer.max_readahead,
            flags: self.flags,
            max_background: BACKGROUND_MAX,
            congestion: BACKGROUND_MAX / 4 * 3,
            max_write: self.max_write,
            // At most 256.
            max_pages: (self.max_write / PAGE_BYTES) as u16,
        }
    }

    /// Bytes of the largest read or write.
    #[must_use]
    pub const fn request_bytes_max(&self) -> usize {
        self.max_write as usize
    }

    /// The minor version that both sides speak.
    #[must_use]
    pub const fn minor(&self) -> u32 {
        self.minor
    }

    /// Whether the kernel can deliver again what a dead process read (Linux 6.9).
    #[must_use]
    pub const fn can_resend(&self) -> bool {
        self.flags & init::HAS_RESEND != 0
    }

    /// The connection's number in fusectl.
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// For the process that continues.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&Self::MAGIC);
        bytes[8..12].copy_from_slice(&self.minor.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.max_write.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.flags.to_le_bytes());
        bytes[24..].copy_from_slice(&self.connection.to_le_bytes());
        bytes
    }

    /// What [`Facts::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FactsError> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().map_err(|_| FactsError::Unreadable)?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        // Two numbers of 32 bits share the second word.
        let (minor, max_write) = (word(8) as u32, (word(8) >> 32) as u32);
        let sizes = PAGE_BYTES..=REQUEST_BYTES_MAX;
        if bytes[..8] != Self::MAGIC || !sizes.contains(&max_write) || !max_write.is_multiple_of(PAGE_BYTES) {
            return Err(FactsError::Unreadable);
        }
        Ok(Self { minor, flags: word(16), max_write, connection: word(24) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(flags: u64) -> InitOffer {
        InitOffer { major: 7, minor: 45, max_readahead: 131_072, flags }
    }

    #[test]
    fn nothing_is_taken_that_was_not_offered_and_never_the_write_back_cache() {
        let all = Facts::agree(&offer(u64::MAX), 39).unwrap();
        assert_eq!(all.answer(&offer(u64::MAX)).flags, WANTED);
        assert_eq!(WANTED & (1 << 16), 0, "FUSE_WRITEBACK_CACHE");
        assert!(all.can_resend() && all.request_bytes_max() == 1 << 20 && all.minor() == MINOR);
        let old = Facts::agree(&offer(init::ASYNC_READ), 39).unwrap();
        assert_eq!((old.flags, old.request_bytes_max(), old.can_resend()), (init::ASYNC_READ, 128 << 10, false));
    }

    #[test]
    fn an_unknown_protocol_is_refused() {
        for (major, minor) in [(8, 0), (6, 45), (7, 22)] {
            let offer = InitOffer { major, minor, ..offer(0) };
            assert_eq!(Facts::agree(&offer, 39), Err(FactsError::Version { major, minor }));
        }
    }

    #[test]
    fn facts_travel() {
        let facts = Facts::agree(&offer(u64::MAX), 39).unwrap();
        assert_eq!(Facts::decode(&facts.encode()), Ok(facts));
        assert_eq!(Facts::decode(&facts.encode()[..31]), Err(FactsError::Unreadable));
        for at in 0..8 {
            let mut bytes = facts.encode();
            bytes[at] ^= 1;
            assert_eq!(Facts::decode(&bytes), Err(FactsError::Unreadable));
        }
        let mut bytes = facts.encode();
        bytes[15] = 0xff;
        assert_eq!(Facts::decode(&bytes), Err(FactsError::Unreadable), "a size nobody agreed to");
    }
}
