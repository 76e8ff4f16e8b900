//! A small file that is always whole: the old one or the new one, with a length, a version and a checksum.
//!
//! ```text
//!  0..8    magic, which says what the file is
//!  8..10   version, little-endian
//! 10..12   zero
//! 12..16   length of the body, little-endian
//! 16..n    body
//!  n..n+4  CRC-32C of 0..n, little-endian
//!          zeros up to a multiple of 4096
//! ```
//!
//! The checksum tells rot from a wrong key; what must hold against intent has a MAC or a seal inside the body.

use crc_fast::{CrcAlgorithm, checksum};
use holdfast_ports::{AlignedBuffer, Disk};
use zeroize::Zeroize;

use crate::error::KeyFileError;

/// What a file is, and how long its body may be.
pub(crate) struct FileKind {
    pub(crate) name: &'static str,
    pub(crate) magic: [u8; 8],
    pub(crate) version: u16,
    pub(crate) body_max: usize,
    /// What to do when it is lost or damaged.
    pub(crate) remedy: &'static str,
}

/// The unit of length: what every disk reads and writes.
const UNIT_BYTES: usize = 4096;
const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// Bytes of a file, wiped when dropped: some of them are keys.
pub(crate) struct Wiped(AlignedBuffer);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The body of a file that was read.
pub(crate) struct Body {
    whole: Wiped,
    len: usize,
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.whole.0.get(HEAD_BYTES..HEAD_BYTES + self.len).unwrap_or_default()
    }
}

impl FileKind {
    fn damaged(&self, problem: &'static str) -> KeyFileError {
        KeyFileError::Damaged { file: self.name, problem, remedy: self.remedy }
    }

    /// The damage of a body, for whoever reads it.
    pub(crate) fn body_damaged(&self, problem: &'static str) -> KeyFileError {
        self.damaged(problem)
    }

    /// Whether the file is there.
    pub(crate) fn is_there(&self, disk: &dyn Disk) -> Result<bool, KeyFileError> {
        Ok(disk.list()?.iter().any(|name| name == self.name))
    }

    /// Reads the file. Nothing of it is believed before its length and its checksum fit.
    pub(crate) fn read(&self, disk: &dyn Disk) -> Result<Body, KeyFileError> {
        let file = disk.open(self.name).map_err(|error| match error.is_not_found() {
            true => KeyFileError::Missing { file: self.name, remedy: self.remedy },
            false => KeyFileError::Disk(error),
        })?;
        let most = Self::whole_bytes(self.body_max);
        let length = usize::try_from(file.len()?).ok().filter(|length| *length <= most);
        let length = length.ok_or_else(|| self.damaged("it is longer than such a file can be"))?;
        if length == 0 || !length.is_multiple_of(UNIT_BYTES) {
            return Err(self.damaged("it was cut: its length is not a whole number of blocks"));
        }
        let mut whole = Wiped(AlignedBuffer::with_len(length));
        file.read_at(0, &mut whole.0)?;
        let len = self.check(&whole.0)?;
        Ok(Body { whole, len })
    }

    fn check(&self, whole: &[u8]) -> Result<usize, KeyFileError> {
        let (head, _) = whole.split_first_chunk::<HEAD_BYTES>().ok_or_else(|| self.damaged("it was cut"))?;
        if head[..8] != self.magic {
            return Err(self.damaged("it does not begin with the magic of such a file"));
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        let len = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        let fits = len <= self.body_max && Self::whole_bytes(len) == whole.len();
        let end = HEAD_BYTES + len;
        let crc = whole.get(end..end + CRC_BYTES).filter(|_| fits);
        let crc = crc.ok_or_else(|| self.damaged("its length contradicts what its head says"))?;
        if crc != crc32c(&whole[..end]) {
            return Err(self.damaged("its checksum does not fit its bytes"));
        }
        if version != self.version {
            let known = self.version;
            return Err(KeyFileError::Version { file: self.name, found: version, known });
        }
        if head[10..12] != [0, 0] || whole[end + CRC_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(self.damaged("there are bytes where there must be zeros"));
        }
        Ok(len)
    }

    fn whole_bytes(body: usize) -> usize {
        (HEAD_BYTES + body + CRC_BYTES).next_multiple_of(UNIT_BYTES)
    }

    /// The head and the body as they are checksummed; the keyring's MAC covers the head as well.
    pub(crate) fn head(&self, body: usize) -> Result<[u8; HEAD_BYTES], KeyFileError> {
        let length = u32::try_from(body).ok().filter(|_| body <= self.body_max);
        let length = length.ok_or(KeyFileError::TooLong { file: self.name, most: self.body_max })?;
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&self.magic);
        head[8..10].copy_from_slice(&self.version.to_le_bytes());
        head[12..].copy_from_slice(&length.to_le_bytes());
        Ok(head)
    }

    /// Replaces the file: after a crash it is the old one or the new one. When this fails, it may be either.
    pub(crate) fn write(&self, disk: &dyn Disk, body: &[u8]) -> Result<(), KeyFileError> {
        let mut whole = Wiped(AlignedBuffer::with_capacity(Self::whole_bytes(body.len())));
        whole.0.extend_from_slice(&self.head(body.len())?);
        whole.0.extend_from_slice(body);
        let crc = crc32c(&whole.0);
        whole.0.extend_from_slice(&crc);
        whole.0.resize(Self::whole_bytes(body.len()), 0);

        let beside = format!("{}.new", self.name);
        match disk.remove(&beside) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let file = disk.create(&beside)?;
        file.write_at(0, &whole.0)?;
        file.sync()?;
        disk.rename(&beside, self.name)?;
        Ok(disk.sync_names()?)
    }
}

fn crc32c(bytes: &[u8]) -> [u8; CRC_BYTES] {
    // The algorithm's answer is 32 bits wide.
    let crc = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or_default();
    crc.to_le_bytes()
}
