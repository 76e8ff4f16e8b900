//! What is said before the first request, well and badly.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::client::{Client, connect, greet, is_closed, option_bytes, option_reply, replies, send_option, wanted};
use crate::memory::Memory;
use crate::place::Place;

const SIZE: usize = 1 << 20;
const UNSUP: u32 = (1 << 31) + 1;
const POLICY: u32 = (1 << 31) + 2;
const INVALID: u32 = (1 << 31) + 3;
const UNKNOWN: u32 = (1 << 31) + 6;
const TOO_BIG: u32 = (1 << 31) + 9;

#[test]
fn an_export_is_named_described_and_entered() {
    let place = Place::new(Memory::new(SIZE));
    let mut stream = greet(&place.socket(), 3);
    send_option(&mut stream, 3, b"");
    assert_eq!(replies(&mut stream, 3), [(2, b"\0\0\0\x03vola test".to_vec()), (1, vec![])]);
    for (structured, longest) in [(false, 8_u32 << 20), (true, 32 << 20)] {
        if structured {
            send_option(&mut stream, 8, b"");
            assert_eq!(option_reply(&mut stream, 8), (1, vec![]));
        }
        for name in ["", "vol"] {
            send_option(&mut stream, 6, &wanted(name, &[1, 2, 3, 99]));
            let all = replies(&mut stream, 6);
            // Flags, flush, FUA, trim, zeroes, multi-conn, cache, fast zero; DF with structured replies only.
            let flags: u16 = 0b1101_0110_1101 | u16::from(structured) << 7;
            let export = [b"\0\0".as_slice(), &(SIZE as u64).to_be_bytes(), &flags.to_be_bytes()].concat();
            assert_eq!(all[0], (3, export));
            assert_eq!(all[1], (3, b"\0\x01vol".to_vec()));
            assert_eq!(all[2], (3, b"\0\x02a test".to_vec()));
            let sizes = [b"\0\x03\0\0\x10\0\0\0\x10\0".as_slice(), &longest.to_be_bytes()].concat();
            assert_eq!(all[3], (3, sizes));
            assert_eq!(all[4..], [(1, vec![])]);
        }
    }
    send_option(&mut stream, 2, b"");
    assert_eq!(option_reply(&mut stream, 2), (1, vec![]));
    assert!(is_closed(&mut stream));
}

#[test]
fn the_old_way_in_works_with_and_without_padding() {
    let place = Place::new(Memory::new(SIZE));
    for (flags, padding) in [(3, 0), (1, 124), (0, 124)] {
        let mut stream = greet(&place.socket(), flags);
        send_option(&mut stream, 1, b"vol");
        let mut answer = vec![0; 10 + padding];
        std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
        assert_eq!(answer[..8], (SIZE as u64).to_be_bytes());
        assert!(answer[10..].iter().all(|byte| *byte == 0));
        let mut client = Client { stream, structured: false, size: 0, flags: 0 };
        assert_eq!(client.read(4096, 4096), vec![0; 4096]);
    }
    let mut stream = greet(&place.socket(), 3);
    send_option(&mut stream, 1, b"another");
    assert!(is_closed(&mut stream));
}

#[test]
fn what_is_not_spoken_is_refused_and_the_talk_goes_on() {
    let place = Place::new(Memory::new(SIZE));
    let mut stream = greet(&place.socket(), 3);
    let huge_name = [0xff; 8];
    for (number, data, answer) in [
        (5, vec![], POLICY),
        (5, vec![1], INVALID),
        (11, vec![], UNSUP),
        (4, vec![], UNSUP),
        (0, vec![7; 100], UNSUP),
        (u32::MAX, vec![7; 16384], UNSUP),
        (u32::MAX, vec![7; 16385], TOO_BIG),
        (7, vec![7; 1 << 20], TOO_BIG),
        (7, vec![], INVALID),
        (7, huge_name.to_vec(), INVALID),
        (6, wanted("another", &[]), UNKNOWN),
        (7, wanted("another", &[3]), UNKNOWN),
        (3, vec![0], INVALID),
        (8, vec![0], INVALID),
        // Contexts need structured replies.
        (9, b"\0\0\0\x03vol\0\0\0\0".to_vec(), INVALID),
    ] {
        send_option(&mut stream, number, &data);
        let (kind, _) = option_reply(&mut stream, number);
        assert_eq!(kind, answer, "option {number} of {} bytes", data.len());
    }
    send_option(&mut stream, 8, b"");
    assert_eq!(option_reply(&mut stream, 8).0, 1);
    for number in [9, 10] {
        send_option(&mut stream, number, b"\0\0\0\x03vol\0\0\0\x01\0\0\0\x0fbase:allocation");
        assert_eq!(option_reply(&mut stream, number), (1, vec![]), "there are no contexts");
        send_option(&mut stream, number, b"\0\0\0\x01x\0\0\0\0");
        assert_eq!(option_reply(&mut stream, number).0, UNKNOWN);
    }
    send_option(&mut stream, 7, &wanted("", &[]));
    assert_eq!(replies(&mut stream, 7).last().unwrap().0, 1);
    let mut client = Client { stream, structured: true, size: 0, flags: 0 };
    client.write(0, &[9; 4096]);
    assert_eq!(client.read(0, 4096), [9; 4096]);
    // Without a context there is no BLOCK_STATUS.
    assert_eq!(client.call(0, 7, 0, 4096, b"").error, crate::client::EINVAL);
}

#[test]
fn who_makes_no_sense_is_left() {
    let place = Place::new(Memory::new(SIZE));
    let mut wrong_magic = option_bytes(7, b"");
    wrong_magic[0] ^= 1;
    let mut absurd = option_bytes(99, b"");
    absurd[12..].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut long_name = option_bytes(1, b"");
    long_name[12..].copy_from_slice(&(1_u32 << 16).to_be_bytes());
    let endless = option_bytes(3, b"").repeat(300);
    for bytes in [wrong_magic, absurd, long_name, option_bytes(1, &[b'a'; 5000]), endless] {
        let mut stream = greet(&place.socket(), 3);
        // The server may leave before it has read everything.
        let _gone = stream.write_all(&bytes);
        assert!(is_closed(&mut stream));
    }
    let mut stream = greet(&place.socket(), 0x8000_0003);
    assert!(is_closed(&mut stream));
    // Leaving in the middle of anything is fine.
    let whole = [&[0, 0, 0, 3], option_bytes(7, &wanted("vol", &[3])).as_slice()].concat();
    for length in 0..whole.len() {
        connect(&place.socket()).write_all(&whole[..length]).unwrap();
    }
    place.wait_until_alone();
    place.connect(true).write(0, &[1; 4096]);
}

#[test]
fn the_socket_is_private_and_taken_over_only_from_the_dead() {
    let place = Place::new(Memory::new(SIZE));
    let mode = std::fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let in_use = place.server.listen(&place.socket()).unwrap_err();
    assert!(in_use.to_string().contains("in use"), "{in_use}");
    let file = place.folder().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(place.server.listen(&file).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let dead = place.folder().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    place.server.listen(&dead).unwrap();
    assert_eq!(Client::go(&dead, true).size, SIZE as u64);
    place.server.stop(std::time::Duration::from_secs(5)).unwrap();
    assert!(!dead.exists() && !place.socket().exists(), "no socket is left behind");
}
