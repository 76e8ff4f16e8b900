//! The kernel's FUSE protocol, byte by byte: requests are decoded from, and answers encoded into plain bytes.
//!
//! Only what a file system of one file needs. Nothing here does I/O, and nothing trusts a length that it did not check:
//! the kernel is trusted, but a version of it that we do not know must become an error and not a panic. Numbers are
//! little-endian as they are on every machine that we build for.

use std::ops::Range;

/// The protocol's major version; there is no other.
pub const MAJOR: u32 = 7;
/// The minor version whose structures are written down here; the kernel answers with the lower of the two.
pub const MINOR: u32 = 40;
/// Before it INIT's answer was shorter; Linux 3.15 has it.
pub const MINOR_MIN: u32 = 23;
/// What precedes every request.
pub const IN_HEADER_BYTES: usize = 40;
/// What precedes every answer.
pub const OUT_HEADER_BYTES: usize = 16;
/// What follows the header of a write, before its data.
pub const WRITE_IN_BYTES: usize = 40;
/// The kernel refuses to read into less.
pub const READ_BUFFER_BYTES_MIN: usize = 8192;
/// The directory's number.
pub const ROOT: u64 = 1;
/// Set in the number of a request that the kernel delivers a second time. It is part of the number: the answer bears it.
pub const UNIQUE_RESEND: u64 = 1 << 63;

/// `FUSE_NOTIFY_RESEND`: deliver again whatever was read and never answered.
pub const NOTIFY_RESEND: i32 = 7;

/// Flags of INIT, by the kernel's names; the second word lies above bit 32.
pub mod init {
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const ABORT_ERROR: u64 = 1 << 21;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const EXT: u64 = 1 << 30;
    pub const HAS_RESEND: u64 = 1 << 39;
}

/// Flags of OPEN's answer, by the kernel's names.
pub mod open {
    pub const DIRECT_IO: u32 = 1 << 0;
    pub const NOFLUSH: u32 = 1 << 5;
    pub const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
}

/// Flags of FALLOCATE, by the kernel's names.
pub mod fallocate {
    pub const KEEP_SIZE: u32 = 1;
    pub const PUNCH_HOLE: u32 = 2;
    pub const ZERO_RANGE: u32 = 16;
}

/// What SETATTR is to change, by the kernel's names.
pub mod setattr {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
}

/// The request is shorter than its kind, or than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What the kernel says first of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the request, this header included.
    pub length: usize,
    /// The kind.
    pub opcode: u32,
    /// The number that the answer must bear, [`UNIQUE_RESEND`] included.
    pub unique: u64,
    /// The file.
    pub node: u64,
}

impl Header {
    /// The header of a request of which `bytes` were read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let length = u32_at(bytes, 0)? as usize;
        if length != bytes.len() || length < IN_HEADER_BYTES {
            return Err(Malformed);
        }
        Ok(Self { length, opcode: u32_at(bytes, 4)?, unique: u64_at(bytes, 8)?, node: u64_at(bytes, 16)? })
    }
}

/// What the kernel offers when it has mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitOffer {
    /// The kernel's major version.
    pub major: u32,
    /// The kernel's minor version.
    pub minor: u32,
    /// How far it would read ahead.
    pub max_readahead: u32,
    /// Everything that it can, both words.
    pub flags: u64,
}

/// A request, decoded. Ranges are places in the request's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The first request of a connection.
    Init(InitOffer),
    /// The name lies there, without its end mark.
    Lookup(Range<usize>),
    /// FORGET, BATCH_FORGET, INTERRUPT: nothing may be answered.
    Unanswered,
    /// Attributes are asked for.
    GetAttr,
    /// Attributes are to change.
    SetAttr {
        /// Which ones.
        valid: u32,
        /// The size, if that is one of them.
        size: u64,
    },
    /// The file is opened, with these flags of open(2).
    Open(u32),
    /// The directory is opened.
    OpenDir,
    /// RELEASE, RELEASEDIR, FLUSH, ACCESS, FSYNCDIR, DESTROY: nothing to do, and that succeeds.
    Nothing,
    /// Bytes are asked for.
    Read {
        /// From where.
        offset: u64,
        /// How many.
        size: usize,
    },
    /// Bytes are written.
    Write {
        /// To where.
        offset: u64,
        /// Where they lie in the request.
        data: Range<usize>,
    },
    /// Everything written is to be durable.
    Fsync,
    /// Room is to be given back, or zeroed.
    Fallocate {
        /// From where.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// The flags of fallocate(2).
        mode: u32,
    },
    /// Data or a hole is looked for.
    Seek {
        /// From where.
        offset: u64,
        /// What for: the values of lseek(2).
        whence: u32,
    },
    /// The size of the whole.
    StatFs,
    /// The directory's entries.
    ReadDir {
        /// The place of the first.
        offset: u64,
        /// Room in the answer.
        size: usize,
    },
    /// An ioctl; we have none.
    Ioctl,
    /// Readiness for these events is asked for.
    Poll(u32),
    /// CREATE, UNLINK, RENAME and whatever else would change the directory.
    ChangeDirectory,
    /// A kind that we do not serve. The kernel remembers our refusal and does without.
    Unknown,
}

impl Operation {
    /// Decodes what follows the header. `request` is the whole request.
    pub fn decode(header: &Header, request: &[u8]) -> Result<Self, Malformed> {
        let body = request.get(IN_HEADER_BYTES..).ok_or(Malformed)?;
        Ok(match header.opcode {
            1 => Self::Lookup(name(body)?),
            2 | 36 | 42 => Self::Unanswered,
            3 => Self::GetAttr,
            4 => Self::SetAttr { valid: u32_at(body, 0)?, size: u64_at(body, 16)? },
            14 => Self::Open(u32_at(body, 0)?),
            15 => Self::Read { offset: u64_at(body, 8)?, size: u32_at(body, 16)? as usize },
            16 => Self::Write { offset: u64_at(body, 8)?, data: write_data(body)? },
            17 => Self::StatFs,
            20 | 50 => Self::Fsync,
            18 | 25 | 29 | 30 | 34 | 38 => Self::Nothing,
            26 => Self::Init(init_offer(body)?),
            27 => Self::OpenDir,
            28 => Self::ReadDir { offset: u64_at(body, 8)?, size: u32_at(body, 16)? as usize },
            39 => Self::Ioctl,
            40 => Self::Poll(u32_at(body, 20)?),
            43 => Self::Fallocate { offset: u64_at(body, 8)?, length: u64_at(body, 16)?, mode: u32_at(body, 24)? },
            46 => Self::Seek { offset: u64_at(body, 8)?, whence: u32_at(body, 16)? },
            6 | 8..=13 | 35 | 45 | 51 => Self::ChangeDirectory,
            _ => Self::Unknown,
        })
    }
}

fn name(body: &[u8]) -> Result<Range<usize>, Malformed> {
    let length = body.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
    Ok(IN_HEADER_BYTES..IN_HEADER_BYTES + length)
}

fn write_data(body: &[u8]) -> Result<Range<usize>, Malformed> {
    let size = u32_at(body, 16)? as usize;
    if body.len() != WRITE_IN_BYTES + size {
        return Err(Malformed);
    }
    let start = IN_HEADER_BYTES + WRITE_IN_BYTES;
    Ok(start..start + size)
}

fn init_offer(body: &[u8]) -> Result<InitOffer, Malformed> {
    let low = u64::from(u32_at(body, 12)?);
    // Older kernels send no second word.
    let high = if low & init::EXT == 0 { 0 } else { u64::from(u32_at(body, 16)?) };
    Ok(InitOffer {
        major: u32_at(body, 0)?,
        minor: u32_at(body, 4)?,
        max_readahead: u32_at(body, 8)?,
        flags: low | high << 32,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let four = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed)?;
    Ok(u32::from_le_bytes(four))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    let eight = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed)?;
    Ok(u64::from_le_bytes(eight))
}

/// The header of an answer: `body` bytes follow. An error is a positive errno; a notification has its code there.
#[must_use]
pub fn out_header(unique: u64, error: i32, body: usize) -> [u8; OUT_HEADER_BYTES] {
    let mut bytes = [0; OUT_HEADER_BYTES];
    // A body is at most 1 MiB and two blocks.
    bytes[..4].copy_from_slice(&((OUT_HEADER_BYTES + body) as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&error.to_le_bytes());
    bytes[8..].copy_from_slice(&unique.to_le_bytes());
    bytes
}

/// The body of an answer that is not file data. It lives on the stack: an answer must not need memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    bytes: [u8; Self::BYTES_MAX],
    length: usize,
}

impl Body {
    /// LOOKUP's answer is the longest.
    const BYTES_MAX: usize = 128;

    /// A body without anything.
    #[must_use]
    pub const fn empty() -> Self {
        Self { bytes: [0; Self::BYTES_MAX], length: 0 }
    }

    fn u64(mut self, value: u64) -> Self {
        self.bytes[self.length..self.length + 8].copy_from_slice(&value.to_le_bytes());
        self.length += 8;
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.bytes[self.length..self.length + 4].copy_from_slice(&value.to_le_bytes());
        self.length += 4;
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.bytes[self.length..self.length + 2].copy_from_slice(&value.to_le_bytes());
        self.length += 2;
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.length += count;
        self
    }

    /// What goes to the kernel.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What a file or the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub node: u64,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions.
    pub mode: u32,
    /// Names that it has.
    pub links: u32,
}

impl Attributes {
    /// No times (nothing here may read a clock, and nobody relies on them), root's, in blocks of 4096.
    fn encode(self, body: Body) -> Body {
        body.u64(self.node)
            .u64(self.size)
            .u64(self.size.div_ceil(512))
            .zeros(3 * 8 + 3 * 4)
            .u32(self.mode)
            .u32(self.links)
            .zeros(3 * 4)
            .u32(4096)
            .u32(0)
    }
}

/// Answers GETATTR and SETATTR. The kernel keeps nothing of it, so a volume that grew is seen at the next look.
#[must_use]
pub fn attributes(attributes: Attributes) -> Body {
    attributes.encode(Body::empty().zeros(16))
}

/// Answers LOOKUP: the name is good for `name_seconds`, the attributes for no time at all.
#[must_use]
pub fn entry(attributes: Attributes, name_seconds: u64) -> Body {
    attributes.encode(Body::empty().u64(attributes.node).u64(0).u64(name_seconds).zeros(16))
}

/// Answers OPEN and OPENDIR.
#[must_use]
pub fn opened(flags: u32) -> Body {
    Body::empty().u64(0).u32(flags).u32(0)
}

/// Answers WRITE.
#[must_use]
pub fn written(size: u32) -> Body {
    Body::empty().u32(size).u32(0)
}

/// Answers LSEEK.
#[must_use]
pub fn found(offset: u64) -> Body {
    Body::empty().u64(offset)
}

/// Answers POLL.
#[must_use]
pub fn ready(events: u32) -> Body {
    Body::empty().u32(events).u32(0)
}

/// Answers STATFS. The block size becomes the loop device's discard granularity.
#[must_use]
pub fn file_system(blocks: u64, block_size: u32, name_length: u32) -> Body {
    let body = Body::empty().u64(blocks).u64(0).u64(0).u64(1).u64(0);
    body.u32(block_size).u32(name_length).u32(block_size).zeros(7 * 4)
}

/// What INIT's answer settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitAnswer {
    /// As the kernel proposed.
    pub max_readahead: u32,
    /// What we take of the offer, both words.
    pub flags: u64,
    /// Requests in flight that nobody waits for, direct I/O among them.
    pub max_background: u16,
    /// From here on the kernel calls the device congested.
    pub congestion: u16,
    /// Bytes of one write.
    pub max_write: u32,
    /// Pages of one request, of either direction.
    pub max_pages: u16,
}

/// Answers INIT.
#[must_use]
pub fn init_answer(answer: InitAnswer) -> Body {
    Body::empty()
        .u32(MAJOR)
        .u32(MINOR)
        .u32(answer.max_readahead)
        .u32(answer.flags as u32)
        .u16(answer.max_background)
        .u16(answer.congestion)
        .u32(answer.max_write)
        .u32(1)
        .u16(answer.max_pages)
        .u16(0)
        .u32((answer.flags >> 32) as u32)
        .zeros(7 * 4)
}

/// Appends an entry of READDIR if it fits into `out` behind `at`; returns the place behind it.
pub fn directory_entry(out: &mut [u8], at: usize, node: u64, next: u64, kind: u32, name: &[u8]) -> Option<usize> {
    let end = at + (24 + name.len()).next_multiple_of(8);
    let place = out.get_mut(at..end)?;
    place.fill(0);
    place[..8].copy_from_slice(&node.to_le_bytes());
    place[8..16].copy_from_slice(&next.to_le_bytes());
    // A name is at most 255 bytes long.
    place[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
    place[20..24].copy_from_slice(&kind.to_le_bytes());
    place[24..24 + name.len()].copy_from_slice(name);
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as the kernel lays it out.
    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&((IN_HEADER_BYTES + body.len()) as u32).to_le_bytes());
        bytes.extend_from_slice(&opcode.to_le_bytes());
        bytes.extend_from_slice(&(UNIQUE_RESEND | 6).to_le_bytes());
        bytes.extend_from_slice(&2_u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(body);
        bytes
    }

    fn decoded(opcode: u32, body: &[u8]) -> Result<Operation, Malformed> {
        let request = request(opcode, body);
        Operation::decode(&Header::decode(&request)?, &request)
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_header_keeps_the_resend_bit_as_part_of_the_number() {
        let bytes = request(3, &[0; 16]);
        let header = Header::decode(&bytes).unwrap();
        assert_eq!(header, Header { length: 56, opcode: 3, unique: UNIQUE_RESEND | 6, node: 2 });
        assert_eq!(Header::decode(&bytes[..55]), Err(Malformed));
        assert_eq!(Header::decode(&[]), Err(Malformed));
    }

    #[test]
    fn requests_decode_field_by_field() {
        assert_eq!(decoded(1, b"volume\0"), Ok(Operation::Lookup(40..46)));
        assert_eq!(decoded(15, &words(&[1, 8192, 4096, 0, 0])), Ok(Operation::Read { offset: 8192, size: 4096 }));
        let mut write = words(&[1, 8192, 3, 0, 0]);
        write.extend_from_slice(b"abc");
        assert_eq!(decoded(16, &write), Ok(Operation::Write { offset: 8192, data: 80..83 }));
        let fallocate = Operation::Fallocate { offset: 4096, length: 512, mode: 3 };
        assert_eq!(decoded(43, &words(&[1, 4096, 512, 3])), Ok(fallocate));
        assert_eq!(decoded(46, &words(&[1, 7, 4])), Ok(Operation::Seek { offset: 7, whence: 4 }));
        assert_eq!(decoded(4, &words(&[8, 0, 4096, 0])), Ok(Operation::SetAttr { valid: 8, size: 4096 }));
        assert_eq!(decoded(28, &words(&[0, 2, 4096])), Ok(Operation::ReadDir { offset: 2, size: 4096 }));
        assert_eq!(decoded(40, &words(&[0, 0, 5 << 32])), Ok(Operation::Poll(5)));
        assert_eq!(decoded(20, &words(&[0, 1])), Ok(Operation::Fsync));
        assert_eq!(decoded(9, &[]), Ok(Operation::ChangeDirectory));
        assert_eq!(decoded(4242, &[]), Ok(Operation::Unknown));
    }

    #[test]
    fn init_reads_the_second_word_only_if_the_first_announces_it() {
        let offer = |flags: u32| {
            let mut body = Vec::new();
            [7, 45, 131_072, flags, 0b1000_0000]
                .iter()
                .for_each(|word: &u32| body.extend_from_slice(&word.to_le_bytes()));
            decoded(26, &body)
        };
        let expected = |flags| Ok(Operation::Init(InitOffer { major: 7, minor: 45, max_readahead: 131_072, flags }));
        assert_eq!(offer(1), expected(1));
        assert_eq!(offer(1 | 1 << 30), expected(1 | init::EXT | init::HAS_RESEND));
    }

    #[test]
    fn whatever_is_cut_short_is_malformed_and_nothing_panics() {
        let mut write = words(&[1, 8192, 3, 0, 0]);
        write.extend_from_slice(b"abcd");
        assert_eq!(decoded(16, &write), Err(Malformed));
        assert_eq!(decoded(1, b"volume"), Err(Malformed));
        for opcode in 0..60 {
            for length in 0..48 {
                let _ = decoded(opcode, &vec![0xff; length]);
            }
        }
    }

    #[test]
    fn answers_have_the_lengths_that_the_kernel_insists_on() {
        let file = Attributes { node: 2, size: 8192, mode: 0o100_600, links: 1 };
        assert_eq!(attributes(file).bytes().len(), 104);
        assert_eq!(entry(file, 60).bytes().len(), 128);
        assert_eq!(opened(0).bytes().len(), 16);
        assert_eq!(written(1).bytes().len(), 8);
        assert_eq!(found(1).bytes().len(), 8);
        assert_eq!(ready(1).bytes().len(), 8);
        assert_eq!(file_system(2, 4096, 255).bytes().len(), 80);
        let answer =
            InitAnswer { max_readahead: 0, flags: 0, max_background: 1, congestion: 1, max_write: 1, max_pages: 1 };
        assert_eq!(init_answer(answer).bytes().len(), 64);
        assert_eq!(out_header(9, -5, 8), [24, 0, 0, 0, 0xfb, 0xff, 0xff, 0xff, 9, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn attributes_lie_where_the_kernel_looks() {
        let body = attributes(Attributes { node: 2, size: 8192, mode: 0o100_600, links: 1 });
        let bytes = body.bytes();
        assert_eq!((u64_at(bytes, 16), u64_at(bytes, 24), u64_at(bytes, 32)), (Ok(2), Ok(8192), Ok(16)));
        assert_eq!((u32_at(bytes, 76), u32_at(bytes, 80), u32_at(bytes, 96)), (Ok(0o100_600), Ok(1), Ok(4096)));
    }

    #[test]
    fn directory_entries_are_padded_and_never_cut() {
        let mut out = [0xff_u8; 64];
        let end = directory_entry(&mut out, 0, 2, 3, 8, b"volume").unwrap();
        assert_eq!((end, &out[24..32]), (32, &b"volume\0\0"[..]));
        assert_eq!(directory_entry(&mut out, 32, 2, 3, 8, b"volume"), Some(64));
        assert_eq!(directory_entry(&mut out, 64, 2, 3, 8, b"volume"), None);
    }
}
