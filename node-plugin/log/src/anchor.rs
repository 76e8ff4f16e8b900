//! What is remembered of a volume's state elsewhere, so that an old copy of a disk cannot pass for a new one.

use holdfast_vocabulary::{Epoch, Generation, Seq, VolumeId};

use crate::bytes::{FormatError, Put, Reader};
use crate::hash::{ChainHash, TreeHash};

/// A session's word on the state tree at one seq. It computed the root itself; a store only keeps the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootStatement {
    /// The volume.
    pub volume: VolumeId,
    /// The registry's generation of the session.
    pub generation: Generation,
    /// The epoch of the session.
    pub epoch: Epoch,
    /// The tree holds exactly the records up to this one.
    pub through: Seq,
    /// The chain up to the group that ends with it.
    pub chain: ChainHash,
    /// The root.
    pub root: TreeHash,
}

impl RootStatement {
    /// Bytes of a statement, without MAC.
    pub const BYTES: usize = 104;

    /// The bytes that the MAC covers.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        out.put(&self.volume.0);
        out.put_u64(self.generation.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.through.0);
        out.put(&self.chain.0);
        out.put(&self.root.0);
        out
    }

    /// Reads a statement.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            volume: VolumeId(from.array()?),
            generation: Generation(from.u64()?),
            epoch: Epoch(from.u64()?),
            through: Seq(from.u64()?),
            chain: ChainHash(from.array()?),
            root: TreeHash(from.array()?),
        })
    }
}

/// A statement and the session's MAC over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedRoot {
    /// What is said.
    pub statement: RootStatement,
    /// By whom: only a session of this volume can make it.
    pub mac: [u8; 32],
}

impl SignedRoot {
    /// Appends statement and MAC.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.statement.encode());
        out.put(&self.mac);
    }

    /// Reads statement and MAC.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, FormatError> {
        Ok(Self { statement: RootStatement::decode(from)?, mac: from.array()? })
    }
}

/// The volume's head, as a registry remembers it: the chain up to `seq`, and the newest root below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The registry's generation of the session.
    pub generation: Generation,
    /// The epoch of the session.
    pub epoch: Epoch,
    /// The newest committed record. Always the end of a group.
    pub seq: Seq,
    /// The chain up to it.
    pub chain: ChainHash,
    /// The newest root statement.
    pub root: SignedRoot,
    /// The session's MAC over all of the above.
    pub mac: [u8; 32],
}

impl Anchor {
    /// The bytes that the MAC covers.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(56 + RootStatement::BYTES + 32);
        out.put_u64(self.generation.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.seq.0);
        out.put(&self.chain.0);
        self.root.encode(&mut out);
        out
    }

    /// All of it, MAC included.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.encode();
        out.put(&self.mac);
        out
    }

    /// Reads an anchor.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Reader::new("anchor", bytes);
        let anchor = Self {
            generation: Generation(from.u64()?),
            epoch: Epoch(from.u64()?),
            seq: Seq(from.u64()?),
            chain: ChainHash(from.array()?),
            root: SignedRoot::decode(&mut from)?,
            mac: from.array()?,
        };
        from.end()?;
        Ok(anchor)
    }
}
