//! A client written by hand, with constants of its own, so that it does not share the server's mistakes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const ZEROES: u16 = 6;
pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const FAST_ZERO: u16 = 16;

pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const EOVERFLOW: u32 = 75;
pub const ESHUTDOWN: u32 = 108;

pub struct Client {
    pub stream: UnixStream,
    pub structured: bool,
    pub size: u64,
    pub flags: u16,
}

/// One whole answer.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub cookie: u64,
    pub error: u32,
    /// Data chunks as they came.
    pub chunks: Vec<(u64, Vec<u8>)>,
}

impl Answer {
    /// The chunks joined; they must cover the request once.
    pub fn data(mut self, offset: u64) -> Vec<u8> {
        assert_eq!(self.error, 0);
        self.chunks.sort();
        let mut out = Vec::new();
        for (at, bytes) in self.chunks {
            assert_eq!(at, offset + out.len() as u64, "chunks neither overlap nor miss anything");
            out.extend(bytes);
        }
        out
    }
}

pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Past the greeting, with these handshake flags.
pub fn greet(path: &Path, flags: u32) -> UnixStream {
    let mut stream = connect(path);
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"NBDMAGICIHAVEOPT\0\x03");
    stream.write_all(&flags.to_be_bytes()).unwrap();
    stream
}

pub fn option_bytes(number: u32, data: &[u8]) -> Vec<u8> {
    [b"IHAVEOPT".as_slice(), &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

pub fn send_option(stream: &mut UnixStream, number: u32, data: &[u8]) {
    stream.write_all(&option_bytes(number, data)).unwrap();
}

/// The kind and data of the next reply, which must be to this option.
pub fn option_reply(stream: &mut UnixStream, number: u32) -> (u32, Vec<u8>) {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..8], 0x3e889045565a9_u64.to_be_bytes());
    assert_eq!(head[8..12], number.to_be_bytes());
    let mut data = vec![0; u32::from_be_bytes(head[16..].try_into().unwrap()) as usize];
    stream.read_exact(&mut data).unwrap();
    (u32::from_be_bytes(head[12..16].try_into().unwrap()), data)
}

/// Data of INFO and GO.
pub fn wanted(name: &str, facts: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend((facts.len() as u16).to_be_bytes());
    facts.iter().for_each(|fact| data.extend(fact.to_be_bytes()));
    data
}

/// All replies until the last.
pub fn replies(stream: &mut UnixStream, number: u32) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let (kind, data) = option_reply(stream, number);
        all.push((kind, data));
        if kind == 1 || kind >= 1 << 31 {
            return all;
        }
    }
}

/// True if the other side closed: an end, or a reset because it left bytes unread.
pub fn is_closed(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

impl Client {
    pub fn go(path: &Path, structured: bool) -> Self {
        let mut stream = greet(path, 3);
        if structured {
            send_option(&mut stream, 8, b"");
            assert_eq!(option_reply(&mut stream, 8).0, 1);
        }
        send_option(&mut stream, 7, &wanted("vol", &[]));
        let all = replies(&mut stream, 7);
        assert_eq!(all.last().unwrap().0, 1, "{all:?}");
        let export = &all[0].1;
        assert_eq!(export[..2], [0, 0]);
        let size = u64::from_be_bytes(export[2..10].try_into().unwrap());
        let flags = u16::from_be_bytes(export[10..12].try_into().unwrap());
        Self { stream, structured, size, flags }
    }

    /// On a socket whose other end was given to `serve_kernel`.
    pub fn kernel(stream: UnixStream) -> Self {
        Self { stream, structured: false, size: 0, flags: 0 }
    }

    pub fn send(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32, payload: &[u8]) {
        self.stream.write_all(&request_bytes(flags, command, cookie, offset, length)).unwrap();
        self.stream.write_all(payload).unwrap();
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn take_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// One message: a simple reply, or a chunk. `reads` says how many bytes follow a good simple reply to a cookie.
    fn message(&mut self, reads: impl Fn(u64) -> (u64, usize)) -> (Answer, bool) {
        let magic = u32::from_be_bytes(self.take());
        if magic == 0x67446698 {
            let error = u32::from_be_bytes(self.take());
            let cookie = u64::from_be_bytes(self.take());
            let (offset, length) = reads(cookie);
            assert!(!self.structured || length == 0, "a read must be answered by chunks once they were agreed");
            let with_data = error == 0 && length > 0;
            let chunks = if with_data { vec![(offset, self.take_bytes(length))] } else { vec![] };
            return (Answer { cookie, error, chunks }, true);
        }
        assert_eq!(magic, 0x668e33ef);
        assert!(self.structured);
        let flags = u16::from_be_bytes(self.take());
        let kind = u16::from_be_bytes(self.take());
        let cookie = u64::from_be_bytes(self.take());
        let length = u32::from_be_bytes(self.take()) as usize;
        let data = self.take_bytes(length);
        let mut answer = Answer { cookie, ..Answer::default() };
        match kind {
            0 => assert_eq!(length, 0),
            1 => {
                assert!(length > 8);
                answer.chunks.push((u64::from_be_bytes(data[..8].try_into().unwrap()), data[8..].to_vec()));
            }
            0x8001 | 0x8002 => {
                answer.error = u32::from_be_bytes(data[..4].try_into().unwrap());
                let text = usize::from(u16::from_be_bytes(data[4..6].try_into().unwrap()));
                assert_eq!(length, 6 + text + if kind == 0x8002 { 8 } else { 0 });
            }
            _ => panic!("a chunk of kind {kind}"),
        }
        (answer, flags & 1 != 0)
    }

    /// The next whole answer while only one request is in flight.
    pub fn answer_to(&mut self, command: u16, offset: u64, length: u32) -> Answer {
        let reads = if command == READ { (offset, length as usize) } else { (0, 0) };
        let mut whole = Answer::default();
        loop {
            let (part, is_last) = self.message(|_| reads);
            whole.cookie = part.cookie;
            whole.error = whole.error.max(part.error);
            whole.chunks.extend(part.chunks);
            if is_last {
                return whole;
            }
        }
    }

    /// The next message of several requests in flight; what each cookie reads is told by `reads`.
    pub fn next_message(&mut self, reads: impl Fn(u64) -> (u64, usize)) -> (Answer, bool) {
        self.message(reads)
    }

    pub fn call(&mut self, flags: u16, command: u16, offset: u64, length: u32, payload: &[u8]) -> Answer {
        let cookie = offset ^ 0x5555_0000_1234_0000 ^ u64::from(command);
        self.send(flags, command, cookie, offset, length, payload);
        let answer = self.answer_to(command, offset, length);
        assert_eq!(answer.cookie, cookie);
        answer
    }

    pub fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        self.call(0, READ, offset, length, b"").data(offset)
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert_eq!(self.call(0, WRITE, offset, bytes.len() as u32, bytes).error, 0);
    }
}

pub fn request_bytes(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut head = 0x25609513_u32.to_be_bytes().to_vec();
    head.extend(flags.to_be_bytes());
    head.extend(command.to_be_bytes());
    head.extend(cookie.to_be_bytes());
    head.extend(offset.to_be_bytes());
    head.extend(length.to_be_bytes());
    head
}
