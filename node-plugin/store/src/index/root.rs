//! What a checkpoint must remember to find an index again.

use holdfast_log::bytes::{FormatError, Put, Reader};
use holdfast_log::hash::TreeHash;
use holdfast_log::node::PageRef;
use holdfast_vocabulary::Seq;

const STRUCTURE: &str = "index root";
/// More files than an index ever has, see [`super::merge`].
const FILES_MAX: u32 = 4096;
/// Longer than an index file ever gets, and so little that sums over all files do not overflow.
const FILE_BYTES_MAX: u64 = 1 << 49;

/// A file that holds live pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Its number.
    pub number: u32,
    /// Where its last page ends.
    pub bytes: u64,
    /// How many of these bytes, with what rounds them up to sectors, are of live pages.
    pub live_bytes: u64,
}

/// One base: an index and a state tree, immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexRoot {
    /// The root node's page; `None` if nothing is mapped.
    pub root: Option<PageRef>,
    /// The root of the state tree.
    pub hash: TreeHash,
    /// The base holds exactly the versions up to this one.
    pub through: Seq,
    /// The number of the next index file.
    pub next_file: u32,
    /// Bytes of all live pages, with what rounds them up to sectors.
    pub live_bytes: u64,
    /// The files that live pages are in, by number. Any other index file is of no use to this base.
    pub files: Vec<IndexFile>,
}

impl IndexRoot {
    /// Bytes of the files that live pages are in.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The packed form, which has no checksum of its own: it lies in a checkpoint.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80 + 20 * self.files.len());
        out.put_u8(self.root.is_some().into());
        if let Some(root) = &self.root {
            root.encode(&mut out);
        }
        out.put(&self.hash.0);
        out.put_u64(self.through.0);
        out.put_u32(self.next_file);
        out.put_u64(self.live_bytes);
        out.put_u32(self.files.len() as u32);
        for file in &self.files {
            out.put_u32(file.number);
            out.put_u64(file.bytes);
            out.put_u64(file.live_bytes);
        }
        out
    }

    /// Reads the packed form.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(STRUCTURE, bytes);
        let root = match reader.u8()? {
            0 => None,
            1 => Some(PageRef::decode(&mut reader)?),
            _ => return Err(reader.field("root")),
        };
        let hash = TreeHash(reader.array()?);
        if root.is_none() != (hash == TreeHash::EMPTY) {
            return Err(reader.field("hash"));
        }
        let through = Seq(reader.u64()?);
        let next_file = reader.u32()?;
        let live_bytes = reader.u64()?;
        let count = reader.u32()?;
        if count > FILES_MAX {
            return Err(reader.field("files"));
        }
        let mut files: Vec<IndexFile> = Vec::new();
        let mut live = 0u64;
        for _ in 0..count {
            let file = IndexFile { number: reader.u32()?, bytes: reader.u64()?, live_bytes: reader.u64()? };
            let rises = files.last().is_none_or(|last| last.number < file.number);
            let sized = (1..=file.bytes).contains(&file.live_bytes) && file.bytes <= FILE_BYTES_MAX;
            if !rises || file.number >= next_file || !sized {
                return Err(reader.field("file"));
            }
            live = live.saturating_add(file.live_bytes);
            files.push(file);
        }
        reader.end()?;
        if live != live_bytes || root.is_some_and(|root| files.iter().all(|file| file.number != root.file)) {
            return Err(reader.field("live bytes"));
        }
        Ok(Self { root, hash, through, next_file, live_bytes, files })
    }
}
