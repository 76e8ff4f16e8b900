//! Random bytes to everything that decodes: no panic, no answer longer than its question allows, and an end.

use std::io::{self, Read, Write};

use holdfast_frontend::nbd::negotiation::{Facts, negotiate};
use holdfast_frontend::nbd::protocol;

use crate::client::{Client, option_bytes, request_bytes, wanted};
use crate::memory::{Memory, Numbers};
use crate::place::Place;

fn facts() -> Facts {
    Facts {
        name: "vol".into(),
        description: String::new(),
        size: 1 << 20,
        read_only: false,
        request_bytes_max: 32 << 20,
        whole_request_bytes_max: 8 << 20,
    }
}

/// Counts what is written, and keeps nothing.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A conversation with mistakes: mostly plausible, damaged in a few places.
fn conversation(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, numbers.below(4) as u8];
    for _ in 0..numbers.below(8) {
        let number = [0, 3, 5, 6, 6, 8, 9, 10, 11, 99][numbers.below(10) as usize];
        let length = numbers.below(40) as usize;
        let data = match numbers.below(3) {
            0 => wanted("vol", &[1, 2, 3]),
            1 => vec![],
            _ => numbers.bytes(length),
        };
        bytes.extend(option_bytes(number, &data));
    }
    for _ in 0..numbers.below(4) {
        let at = numbers.below(bytes.len() as u64) as usize;
        bytes[at] = numbers.next() as u8;
    }
    bytes
}

#[test]
fn no_bytes_break_the_decoders() {
    let mut numbers = Numbers(7);
    for _ in 0..200_000 {
        let length = numbers.below(80) as usize;
        let bytes = numbers.bytes(length);
        let number = numbers.below(14) as u32;
        let _understood = protocol::client_option(number, &bytes);
        if let Some(head) = bytes.first_chunk() {
            let _understood = protocol::request(head);
        }
        if let Some(head) = bytes.first_chunk() {
            let _understood = protocol::option_header(head);
        }
        if let Some(head) = bytes.first_chunk() {
            let _understood = protocol::client_flags(*head);
        }
    }
}

#[test]
fn no_conversation_breaks_the_negotiation_or_makes_it_talk_too_much() {
    let mut numbers = Numbers(8);
    for _ in 0..100_000 {
        let bytes = if numbers.below(4) == 0 { numbers.bytes(200) } else { conversation(&mut numbers) };
        let mut said = Count(0);
        let _ended = negotiate(bytes.as_slice(), &mut said, &facts(), || false);
        assert!(said.0 <= 18 + 20 * bytes.len(), "{} bytes for {}", said.0, bytes.len());
    }
    // Endless input ends too: zeros are no option, and options are counted.
    assert!(negotiate(io::repeat(0), &mut Count(0), &facts(), || false).is_err());
    let flags: &[u8] = &[0, 0, 0, 3];
    let endless = flags.chain(Endless { of: option_bytes(6, &wanted("vol", &[1, 2, 3])), at: 0 });
    let mut said = Count(0);
    assert!(negotiate(endless, &mut said, &facts(), || false).is_err());
    assert!(said.0 < 64 * 1024);
}

struct Endless {
    of: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        for byte in out.iter_mut() {
            *byte = self.of[self.at % self.of.len()];
            self.at += 1;
        }
        Ok(out.len())
    }
}

#[test]
fn no_requests_break_the_server() {
    let place = Place::new(Memory::new(1 << 20));
    let mut numbers = Numbers(9);
    for _ in 0..300 {
        let mut client = place.connect(numbers.below(2) == 0);
        for _ in 0..numbers.below(20) {
            let length = numbers.below(3 << 19) as u32 >> numbers.below(20);
            let (flags, command) = (numbers.below(40) as u16, numbers.below(10) as u16);
            let mut bytes = request_bytes(flags, command, 1, numbers.below(1 << 20), length);
            if numbers.below(4) == 0 {
                let at = numbers.below(28) as usize;
                bytes[at] ^= numbers.next() as u8;
            }
            let _gone = client.stream.write_all(&bytes);
        }
    }
    place.wait_until_alone();
    let mut client: Client = place.connect(true);
    client.write(0, &[1; 4096]);
    assert_eq!(client.read(0, 4096), [1; 4096]);
}
