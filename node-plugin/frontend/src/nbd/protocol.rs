//! The bytes of NBD: pure functions from and to byte slices, without a socket and without a decision.
//!
//! Everything here may be fed anything: what is malformed is said in the result, memory is bounded by the input.

/// First bytes of a server, "NBDMAGIC".
pub const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second magic of a server and first of each option, "IHAVEOPT".
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First bytes of a reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First bytes of a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First bytes of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First bytes of a chunk of a structured reply.
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Fixed newstyle, in both sides' handshake flags.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
/// No 124 zeros after an export name, in both sides' handshake flags.
pub const FLAG_NO_ZEROES: u16 = 2;

/// Bytes of an option's header.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of a request, without a payload.
pub const REQUEST_BYTES: usize = 28;
/// The longest string that the protocol allows.
pub const STRING_BYTES_MAX: usize = 4096;

/// What an export can do, as the transmission flags say it.
pub mod transmission {
    /// The other flags mean something.
    pub const HAS_FLAGS: u16 = 1;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// FLUSH is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// FUA is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// DF is understood; only with structured replies.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers what was answered on all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// CACHE is understood.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// `FAST_ZERO` is understood.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Numbers of the options that a client may send.
pub mod option {
    /// Choose an export and go, without an answer that could be an error.
    pub const EXPORT_NAME: u32 = 1;
    /// Give up.
    pub const ABORT: u32 = 2;
    /// Which exports there are.
    pub const LIST: u32 = 3;
    /// Encrypt the connection.
    pub const STARTTLS: u32 = 5;
    /// What an export is like.
    pub const INFO: u32 = 6;
    /// Choose an export and go.
    pub const GO: u32 = 7;
    /// Answer with structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Which metadata contexts there are.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Choose metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Replies to options.
pub mod reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export of a list.
    pub const SERVER: u32 = 2;
    /// One fact about an export.
    pub const INFO: u32 = 3;
    /// The option is not supported.
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    /// The option is forbidden here.
    pub const ERR_POLICY: u32 = (1 << 31) + 2;
    /// The option's data is malformed, or it comes at the wrong time.
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    /// No such export.
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    /// The server is stopping.
    pub const ERR_SHUTDOWN: u32 = (1 << 31) + 7;
    /// The option is too long.
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
}

/// Facts about an export, in INFO replies.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Its name.
    pub const NAME: u16 = 1;
    /// Its description.
    pub const DESCRIPTION: u16 = 2;
    /// Its minimum, preferred and maximum request.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Numbers of the commands.
pub mod command {
    /// Bytes, please.
    pub const READ: u16 = 0;
    /// Here are bytes.
    pub const WRITE: u16 = 1;
    /// The client leaves; there is no answer.
    pub const DISC: u16 = 2;
    /// Make durable what was answered.
    pub const FLUSH: u16 = 3;
    /// The bytes are of no use any more.
    pub const TRIM: u16 = 4;
    /// The bytes will be read soon.
    pub const CACHE: u16 = 5;
    /// Zeros from here to there.
    pub const WRITE_ZEROES: u16 = 6;
}

/// Flags of commands.
pub mod flag {
    /// Durable before the answer.
    pub const FUA: u16 = 1;
    /// No hole in place of zeros.
    pub const NO_HOLE: u16 = 1 << 1;
    /// One chunk of data at most.
    pub const DF: u16 = 1 << 2;
    /// Fail rather than be as slow as a write.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Errors on the wire: Linux's numbers, by the protocol's decree.
pub mod errno {
    /// Writes are refused.
    pub const EPERM: u32 = 1;
    /// Input or output error.
    pub const EIO: u32 = 5;
    /// Malformed, or not in the export.
    pub const EINVAL: u32 = 22;
    /// No room.
    pub const ENOSPC: u32 = 28;
    /// Too long to be answered in one piece.
    pub const EOVERFLOW: u32 = 75;
    /// The server is stopping.
    pub const ESHUTDOWN: u32 = 108;
}

/// Chunks of structured replies.
pub mod chunk {
    /// In the flags: the last chunk of the answer.
    pub const DONE: u16 = 1;
    /// Nothing but an end.
    pub const NONE: u16 = 0;
    /// Bytes and where they belong.
    pub const OFFSET_DATA: u16 = 1;
    /// The request failed.
    pub const ERROR: u16 = (1 << 15) + 1;
    /// The request failed at an offset.
    pub const ERROR_OFFSET: u16 = (1 << 15) + 2;
}

/// Why nothing more can be understood on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The client does not speak this protocol, or both lost their place in the stream.
    #[error("wrong magic number")]
    Magic,
    /// A client that needs what this server does not know must be left.
    #[error("unknown handshake flags {0:#x}")]
    HandshakeFlags(u32),
}

/// What a client's handshake flags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFlags {
    /// Whether the answer to an export name ends without padding.
    pub no_zeroes: bool,
}

/// An option's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// Which option; see [`option`].
    pub option: u32,
    /// Bytes of data that follow.
    pub length: u32,
}

/// An option, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOption<'a> {
    /// Use this export, and go.
    ExportName(&'a [u8]),
    /// Give up.
    Abort,
    /// Name the exports.
    List,
    /// Encrypt.
    StartTls,
    /// Tell about this export.
    Info(Wanted<'a>),
    /// Tell about this export, and go.
    Go(Wanted<'a>),
    /// Answer with structured replies from now on.
    StructuredReply,
    /// Name the metadata contexts of this export.
    ListMetaContext(&'a [u8]),
    /// Use the metadata contexts of this export that the queries name.
    SetMetaContext(&'a [u8]),
    /// An option of another time.
    Unknown,
    /// A known option whose data is not what it should be.
    Malformed,
}

/// What INFO and GO ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The export; empty for the default one.
    pub name: &'a [u8],
    /// Numbers of the facts, as they come.
    requests: &'a [u8],
}

impl Wanted<'_> {
    /// Whether a fact was asked for by its number.
    pub fn wants(&self, fact: u16) -> bool {
        self.requests.chunks_exact(2).any(|pair| pair == fact.to_be_bytes())
    }
}

/// A request of the transmission phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// See [`flag`].
    pub flags: u16,
    /// See [`command`].
    pub command: u16,
    /// The client's name for it, returned in the answer.
    pub cookie: u64,
    /// Where in the export.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

/// The first bytes of a reader's input, and what is left.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(first)
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes, 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes, 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes, 8)?.try_into().ok().map(u64::from_be_bytes)
}

fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u32(bytes)?).ok()?;
    if length > STRING_BYTES_MAX { None } else { take(bytes, length) }
}

/// The client's answer to the greeting.
pub fn client_flags(bytes: [u8; 4]) -> Result<ClientFlags, ProtocolError> {
    let flags = u32::from_be_bytes(bytes);
    if flags & !u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES) != 0 {
        return Err(ProtocolError::HandshakeFlags(flags));
    }
    Ok(ClientFlags { no_zeroes: flags & u32::from(FLAG_NO_ZEROES) != 0 })
}

/// An option's first bytes.
pub fn option_header(bytes: &[u8; OPTION_HEADER_BYTES]) -> Result<OptionHeader, ProtocolError> {
    let mut rest = bytes.as_slice();
    if take_u64(&mut rest) != Some(OPTION_MAGIC) {
        return Err(ProtocolError::Magic);
    }
    match (take_u32(&mut rest), take_u32(&mut rest)) {
        (Some(option), Some(length)) => Ok(OptionHeader { option, length }),
        _ => Err(ProtocolError::Magic),
    }
}

/// An option's data.
pub fn client_option(number: u32, data: &[u8]) -> ClientOption<'_> {
    let without_data = |known| if data.is_empty() { known } else { ClientOption::Malformed };
    let understood = match number {
        // Its data is the name itself, without a length.
        option::EXPORT_NAME if data.len() <= STRING_BYTES_MAX => Some(ClientOption::ExportName(data)),
        option::EXPORT_NAME => None,
        option::ABORT => Some(ClientOption::Abort),
        option::LIST => Some(without_data(ClientOption::List)),
        option::STARTTLS => Some(without_data(ClientOption::StartTls)),
        option::INFO => wanted(data).map(ClientOption::Info),
        option::GO => wanted(data).map(ClientOption::Go),
        option::STRUCTURED_REPLY => Some(without_data(ClientOption::StructuredReply)),
        option::LIST_META_CONTEXT => meta_context(data).map(ClientOption::ListMetaContext),
        option::SET_META_CONTEXT => meta_context(data).map(ClientOption::SetMetaContext),
        _ => Some(ClientOption::Unknown),
    };
    understood.unwrap_or(ClientOption::Malformed)
}

fn wanted(mut data: &[u8]) -> Option<Wanted<'_>> {
    let name = take_string(&mut data)?;
    let count = take_u16(&mut data)?;
    (data.len() == usize::from(count) * 2).then_some(Wanted { name, requests: data })
}

/// The export's name; the queries are checked and not kept, because no context answers them.
fn meta_context(mut data: &[u8]) -> Option<&[u8]> {
    let name = take_string(&mut data)?;
    let count = take_u32(&mut data)?;
    for _ in 0..count {
        take_string(&mut data)?;
    }
    data.is_empty().then_some(name)
}

/// A request's first bytes.
pub fn request(bytes: &[u8; REQUEST_BYTES]) -> Result<Request, ProtocolError> {
    let mut rest = bytes.as_slice();
    if take_u32(&mut rest) != Some(REQUEST_MAGIC) {
        return Err(ProtocolError::Magic);
    }
    let mut fields = || {
        Some(Request {
            flags: take_u16(&mut rest)?,
            command: take_u16(&mut rest)?,
            cookie: take_u64(&mut rest)?,
            offset: take_u64(&mut rest)?,
            length: take_u32(&mut rest)?,
        })
    };
    fields().ok_or(ProtocolError::Magic)
}

/// The first bytes of a server.
pub fn greeting() -> [u8; 18] {
    let mut out = [0; 18];
    out[..8].copy_from_slice(&SERVER_MAGIC.to_be_bytes());
    out[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    out[16..].copy_from_slice(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
    out
}

/// One reply to an option. Its data is ours and short.
pub fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + data.len());
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
    out
}

/// The head of an answer: one of three forms, none longer than this.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; 40],
    length: usize,
}

impl Head {
    fn new() -> Self {
        Self { bytes: [0; 40], length: 0 }
    }

    fn with(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        self
    }

    /// The bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// A simple reply; after error 0 to a READ the bytes follow.
    pub fn simple(cookie: u64, error: u32) -> Self {
        Self::new().with(&SIMPLE_REPLY_MAGIC.to_be_bytes()).with(&error.to_be_bytes()).with(&cookie.to_be_bytes())
    }

    fn chunk(cookie: u64, flags: u16, kind: u16, length: u32) -> Self {
        Self::new()
            .with(&CHUNK_MAGIC.to_be_bytes())
            .with(&flags.to_be_bytes())
            .with(&kind.to_be_bytes())
            .with(&cookie.to_be_bytes())
            .with(&length.to_be_bytes())
    }

    /// The end of a structured reply.
    pub fn end(cookie: u64) -> Self {
        Self::chunk(cookie, chunk::DONE, chunk::NONE, 0)
    }

    /// A chunk whose `length` bytes of data follow.
    pub fn data(cookie: u64, flags: u16, offset: u64, length: u32) -> Self {
        Self::chunk(cookie, flags, chunk::OFFSET_DATA, length.saturating_add(8)).with(&offset.to_be_bytes())
    }

    /// The end of a structured reply that failed.
    pub fn error(cookie: u64, error: u32) -> Self {
        Self::chunk(cookie, chunk::DONE, chunk::ERROR, 6).with(&error.to_be_bytes()).with(&[0; 2])
    }

    /// What failed of a structured reply that has more chunks.
    pub fn error_at(cookie: u64, error: u32, offset: u64) -> Self {
        Self::chunk(cookie, 0, chunk::ERROR_OFFSET, 14)
            .with(&error.to_be_bytes())
            .with(&[0; 2])
            .with(&offset.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_and_the_replies_are_these_bytes() {
        assert_eq!(&greeting(), b"NBDMAGICIHAVEOPT\0\x03");
        let reply = option_reply(7, reply::ERR_UNSUP, b"no");
        assert_eq!(reply, b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\x80\0\0\x01\0\0\0\x02no");
        let cookie = 0x0102_0304_0506_0708;
        let simple = Head::simple(cookie, 28);
        assert_eq!(simple.as_slice(), b"\x67\x44\x66\x98\0\0\0\x1c\x01\x02\x03\x04\x05\x06\x07\x08");
        let data = Head::data(cookie, chunk::DONE, 0x1000, 0x200);
        let known = b"\x66\x8e\x33\xef\0\x01\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x02\x08\0\0\0\0\0\0\x10\0";
        assert_eq!(data.as_slice(), known);
        assert_eq!(Head::end(1).as_slice(), b"\x66\x8e\x33\xef\0\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\0");
        let error = Head::error_at(1, 5, 9);
        assert_eq!(&error.as_slice()[4..8], b"\0\0\x80\x02");
        assert_eq!(&error.as_slice()[16..], b"\0\0\0\x0e\0\0\0\x05\0\0\0\0\0\0\0\0\0\x09");
        assert_eq!(&Head::error(1, 5).as_slice()[4..8], b"\0\x01\x80\x01");
    }

    #[test]
    fn a_request_is_read_as_it_is_written() {
        let bytes = b"\x25\x60\x95\x13\0\x01\0\x06\x11\x12\x13\x14\x15\x16\x17\x18\0\0\0\x01\0\0\0\0\0\0\x10\0";
        let read = request(bytes).unwrap();
        let known = Request {
            flags: flag::FUA,
            command: command::WRITE_ZEROES,
            cookie: 0x1112_1314_1516_1718,
            offset: 1 << 32,
            length: 4096,
        };
        assert_eq!(read, known);
        let mut wrong = *bytes;
        wrong[3] ^= 1;
        assert_eq!(request(&wrong), Err(ProtocolError::Magic));
    }

    #[test]
    fn handshake_flags_of_another_time_are_refused() {
        assert_eq!(client_flags([0, 0, 0, 3]), Ok(ClientFlags { no_zeroes: true }));
        assert_eq!(client_flags([0, 0, 0, 1]), Ok(ClientFlags { no_zeroes: false }));
        assert_eq!(client_flags([0, 0, 0, 5]), Err(ProtocolError::HandshakeFlags(5)));
    }

    #[test]
    fn options_are_read_as_they_are_written() {
        let header = option_header(b"IHAVEOPT\0\0\0\x07\0\0\x01\0");
        assert_eq!(header, Ok(OptionHeader { option: option::GO, length: 256 }));
        assert_eq!(option_header(b"IHAVEOPS\0\0\0\x07\0\0\x01\0"), Err(ProtocolError::Magic));
        let ClientOption::Go(wanted) = client_option(option::GO, b"\0\0\0\x02ab\0\x02\0\x03\0\x01") else {
            panic!("a GO option");
        };
        assert_eq!(wanted.name, b"ab");
        assert!(wanted.wants(info::BLOCK_SIZE) && wanted.wants(info::NAME) && !wanted.wants(info::DESCRIPTION));
        assert_eq!(client_option(option::EXPORT_NAME, b"ab"), ClientOption::ExportName(b"ab"));
        let queries = b"\0\0\0\x01v\0\0\0\x01\0\0\0\x04base";
        assert_eq!(client_option(option::SET_META_CONTEXT, queries), ClientOption::SetMetaContext(b"v"));
        assert_eq!(client_option(99, b"?"), ClientOption::Unknown);
    }

    #[test]
    fn malformed_options_are_named_so() {
        let huge_count = b"\0\0\0\0\xff\xff\xff\xff";
        for (number, data) in [
            (option::GO, b"".as_slice()),
            (option::GO, b"\xff\xff\xff\xff"),
            (option::GO, b"\0\0\0\x02a\0\0"),
            (option::GO, b"\0\0\0\0\0\x02\0\x03"),
            (option::GO, b"\0\0\0\0\0\x01\0\x03\0"),
            (option::LIST, b"x"),
            (option::STRUCTURED_REPLY, b"x"),
            (option::LIST_META_CONTEXT, huge_count),
            (option::SET_META_CONTEXT, b"\0\0\0\0\0\0\0\0x"),
            (option::EXPORT_NAME, &[b'a'; STRING_BYTES_MAX + 1]),
        ] {
            assert_eq!(client_option(number, data), ClientOption::Malformed, "{number} {data:?}");
        }
    }
}
