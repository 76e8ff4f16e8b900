//! Reading and writing little-endian bytes, with errors that name the thing and the place.

use std::fmt;

/// Bytes that are not what they should be: which structure, where in it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The structure that was read, as `docs/format.md` names it.
    pub structure: &'static str,
    /// The offset inside the structure.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// They end too early.
    Truncated,
    /// They do not start with the structure's magic number.
    Magic,
    /// A version that this software does not know.
    Version(u32),
    /// The checksum does not match.
    Checksum,
    /// A field holds what the format forbids.
    Field(&'static str),
}

impl fmt::Display for FormatError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} is damaged at byte {} of it: ", self.structure, self.offset)?;
        match &self.problem {
            Problem::Truncated => out.write_str("it ends too early"),
            Problem::Magic => out.write_str("it does not start with its magic number"),
            Problem::Version(version) => {
                write!(out, "format version {version} is unknown here; use a Holdfast release that knows it")
            }
            Problem::Checksum => out.write_str("its checksum does not match"),
            Problem::Field(field) => write!(out, "the field \"{field}\" holds what the format forbids"),
        }
    }
}

impl std::error::Error for FormatError {}

/// A reader over one structure's bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of a structure.
    #[must_use]
    pub const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes, at: 0 }
    }

    /// Where the next byte is.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the current place.
    #[must_use]
    pub const fn error(&self, problem: Problem) -> FormatError {
        FormatError { structure: self.structure, offset: self.at, problem }
    }

    /// An error that names a field that was just read.
    #[must_use]
    pub const fn field(&self, name: &'static str) -> FormatError {
        self.error(Problem::Field(name))
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        if self.left() < count {
            return Err(self.error(Problem::Truncated));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes that must be zero, so that a later version may give them a meaning.
    pub fn zeros(&mut self, count: usize) -> Result<(), FormatError> {
        if self.take(count)?.iter().any(|&byte| byte != 0) {
            return Err(self.field("reserved"));
        }
        Ok(())
    }

    /// Fails unless everything was read.
    pub fn end(&self) -> Result<(), FormatError> {
        if self.left() != 0 {
            return Err(self.field("length"));
        }
        Ok(())
    }
}

/// Appends little-endian fields to a buffer.
pub trait Put {
    /// Raw bytes.
    fn put(&mut self, bytes: &[u8]);
    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Two bytes.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// `value` rounded up to a multiple of `unit`.
#[must_use]
pub const fn round_up(value: usize, unit: usize) -> usize {
    value.div_ceil(unit) * unit
}
