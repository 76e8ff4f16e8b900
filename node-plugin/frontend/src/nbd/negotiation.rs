//! The conversation before the first request: fixed newstyle. It ends with the export in use, or with a closed
//! connection.
//!
//! A client costs one buffer of a fixed size, however long it says that its options are, and a fixed number of options.

use std::io::{self, Read, Write};

use thiserror::Error;

use super::protocol::{
    self, ClientOption, OPTION_HEADER_BYTES, OptionHeader, ProtocolError, Wanted, info, option, option_reply, reply,
    transmission,
};

/// The longest option that is looked at; two strings of the longest kind and something beside them.
pub const OPTION_BYTES_MAX: u32 = 16 * 1024;
/// The longest option that is skipped politely. Who sends more is not negotiating.
const SKIPPED_BYTES_MAX: u32 = 1 << 20;
/// As many options as one client may send.
const OPTIONS_MAX: usize = 256;
/// Padding after an export's name for clients of an old time.
const OLD_PADDING_BYTES: usize = 124;

/// What a client is told of the export.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name; clients may also ask for the default export by an empty one.
    pub name: String,
    /// A few words for people.
    pub description: String,
    /// Bytes.
    pub size: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The longest request of a client with structured replies.
    pub request_bytes_max: u32,
    /// The longest request of a client without: its answer must lie in memory as a whole before it begins.
    pub whole_request_bytes_max: u32,
}

/// What was agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Whether READ is answered in chunks.
    pub structured: bool,
}

/// How the negotiation ended, if not with an export in use.
#[derive(Debug, Error)]
pub enum Ended {
    /// The client gave up, properly.
    #[error("the client gave up")]
    Aborted,
    /// The client's bytes make no sense, or ask for too much.
    #[error("the client does not follow the protocol: {0}")]
    Protocol(&'static str),
    /// The client left, or was silent for too long.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ProtocolError> for Ended {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Magic => Self::Protocol("a wrong magic number"),
            ProtocolError::HandshakeFlags(_) => Self::Protocol("unknown handshake flags"),
        }
    }
}

/// The transmission flags of an export.
pub fn transmission_flags(read_only: bool, agreed: Agreed) -> u16 {
    let mut flags = transmission::HAS_FLAGS
        | transmission::SEND_FLUSH
        | transmission::SEND_FUA
        | transmission::CAN_MULTI_CONN
        | transmission::SEND_CACHE;
    if read_only {
        flags |= transmission::READ_ONLY;
    } else {
        flags |= transmission::SEND_TRIM | transmission::SEND_WRITE_ZEROES | transmission::SEND_FAST_ZERO;
    }
    if agreed.structured {
        flags |= transmission::SEND_DF;
    }
    flags
}

/// Negotiates until an export is in use. `is_stopping` is asked before each option.
pub fn negotiate(
    mut from: impl Read,
    to: impl Write,
    facts: &Facts,
    is_stopping: impl Fn() -> bool,
) -> Result<Agreed, Ended> {
    let mut to = to;
    to.write_all(&protocol::greeting())?;
    let mut flags = [0; 4];
    from.read_exact(&mut flags)?;
    let flags = protocol::client_flags(flags)?;
    let mut talk = Talk { from, to, facts, agreed: Agreed::default(), no_zeroes: flags.no_zeroes };
    let mut data = Vec::new();
    for _ in 0..OPTIONS_MAX {
        let mut header = [0; OPTION_HEADER_BYTES];
        talk.from.read_exact(&mut header)?;
        let header = protocol::option_header(&header)?;
        if is_stopping() {
            talk.reply(header.option, reply::ERR_SHUTDOWN, b"the server is stopping")?;
            return Err(Ended::Protocol("an option while the server stops"));
        }
        if header.length > OPTION_BYTES_MAX {
            talk.skip(header)?;
            continue;
        }
        data.resize(header.length as usize, 0);
        talk.from.read_exact(&mut data)?;
        if talk.answer(header.option, protocol::client_option(header.option, &data))? {
            return Ok(talk.agreed);
        }
    }
    Err(Ended::Protocol("more options than anybody needs"))
}

/// One client's negotiation.
struct Talk<'a, R, W> {
    from: R,
    to: W,
    facts: &'a Facts,
    agreed: Agreed,
    no_zeroes: bool,
}

impl<R: Read, W: Write> Talk<'_, R, W> {
    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<(), Ended> {
        Ok(self.to.write_all(&option_reply(option, kind, data))?)
    }

    /// Reads past an option that is too long, and says so.
    fn skip(&mut self, header: OptionHeader) -> Result<(), Ended> {
        if header.length > SKIPPED_BYTES_MAX || header.option == option::EXPORT_NAME {
            return Err(Ended::Protocol("an option of absurd length"));
        }
        let mut rest = (&mut self.from).take(header.length.into());
        if io::copy(&mut rest, &mut io::sink())? < header.length.into() {
            return Err(Ended::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        self.reply(header.option, reply::ERR_TOO_BIG, b"the option is too long")
    }

    /// Answers one option; true when requests follow.
    fn answer(&mut self, number: u32, option: ClientOption<'_>) -> Result<bool, Ended> {
        match option {
            ClientOption::ExportName(name) => return self.export_name(name),
            ClientOption::Go(wanted) => return self.info(number, &wanted),
            ClientOption::Info(wanted) => {
                self.info(number, &wanted)?;
            }
            ClientOption::Abort => {
                // It may be gone already, and need not wait for the answer.
                let _gone = self.reply(number, reply::ACK, b"");
                return Err(Ended::Aborted);
            }
            ClientOption::List => self.list(number)?,
            ClientOption::StartTls => {
                self.reply(number, reply::ERR_POLICY, b"a local socket, guarded by its mode and the peer's uid")?;
            }
            ClientOption::StructuredReply => {
                self.agreed.structured = true;
                self.reply(number, reply::ACK, b"")?;
            }
            ClientOption::ListMetaContext(name) | ClientOption::SetMetaContext(name) => {
                self.meta_context(number, name)?;
            }
            ClientOption::Unknown => self.reply(number, reply::ERR_UNSUP, b"")?,
            ClientOption::Malformed if number == option::EXPORT_NAME => {
                return Err(Ended::Protocol("a name of absurd length"));
            }
            ClientOption::Malformed => self.reply(number, reply::ERR_INVALID, b"the option's data is malformed")?,
        }
        Ok(false)
    }

    fn knows(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.facts.name.as_bytes()
    }

    fn flags(&self) -> u16 {
        transmission_flags(self.facts.read_only, self.agreed)
    }

    /// The old way: whoever names what is not there can only be left.
    fn export_name(&mut self, name: &[u8]) -> Result<bool, Ended> {
        if !self.knows(name) {
            return Err(Ended::Protocol("no such export"));
        }
        let mut out = self.facts.size.to_be_bytes().to_vec();
        out.extend_from_slice(&self.flags().to_be_bytes());
        if !self.no_zeroes {
            out.resize(out.len() + OLD_PADDING_BYTES, 0);
        }
        self.to.write_all(&out)?;
        Ok(true)
    }

    /// INFO, and GO up to the last step; true when the export is there.
    fn info(&mut self, number: u32, wanted: &Wanted<'_>) -> Result<bool, Ended> {
        if !self.knows(wanted.name) {
            self.reply(number, reply::ERR_UNKNOWN, b"no such export")?;
            return Ok(false);
        }
        let facts = self.facts;
        let fact = |kind: u16, data: &[u8]| [&kind.to_be_bytes(), data].concat();
        let export = [facts.size.to_be_bytes().as_slice(), &self.flags().to_be_bytes()].concat();
        self.reply(number, reply::INFO, &fact(info::EXPORT, &export))?;
        if wanted.wants(info::NAME) {
            self.reply(number, reply::INFO, &fact(info::NAME, facts.name.as_bytes()))?;
        }
        if wanted.wants(info::DESCRIPTION) {
            self.reply(number, reply::INFO, &fact(info::DESCRIPTION, facts.description.as_bytes()))?;
        }
        let unit = super::BLOCK_BYTES as u32;
        let longest = if self.agreed.structured { facts.request_bytes_max } else { facts.whole_request_bytes_max };
        let sizes = [unit, unit, longest].map(u32::to_be_bytes).concat();
        self.reply(number, reply::INFO, &fact(info::BLOCK_SIZE, &sizes))?;
        self.reply(number, reply::ACK, b"")?;
        Ok(true)
    }

    fn list(&mut self, number: u32) -> Result<(), Ended> {
        let name = self.facts.name.as_bytes();
        let entry = [&(name.len() as u32).to_be_bytes(), name, self.facts.description.as_bytes()].concat();
        self.reply(number, reply::SERVER, &entry)?;
        self.reply(number, reply::ACK, b"")
    }

    /// There is none: the port cannot say which blocks are mapped, and to guess "all" would tell a client nothing.
    fn meta_context(&mut self, number: u32, name: &[u8]) -> Result<(), Ended> {
        if !self.agreed.structured {
            return self.reply(number, reply::ERR_INVALID, b"ask for structured replies first");
        }
        if !self.knows(name) {
            return self.reply(number, reply::ERR_UNKNOWN, b"no such export");
        }
        self.reply(number, reply::ACK, b"")
    }
}
