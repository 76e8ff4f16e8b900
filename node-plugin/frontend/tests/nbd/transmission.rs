//! Requests and their answers, in any order, refused where they must be, and clients that behave badly.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_frontend::nbd::Limits;
use holdfast_frontend::target::TargetError;

use crate::client::*;
use crate::memory::{Memory, Numbers};
use crate::place::Place;

const SIZE: usize = 64 << 20;

#[test]
fn bytes_of_any_place_and_length_come_back() {
    let place = Place::new(Memory::new(SIZE));
    for structured in [false, true] {
        let mut client = place.connect(structured);
        let mut numbers = Numbers(1);
        for (offset, length) in [
            (0, 4096),
            (512, 512),
            (4095, 2),
            (8192, 65536),
            (8193, 65536),
            (1, (1 << 20) - 1),
            (3, (3 << 20) + 5),
            (SIZE as u64 - 1, 1),
            (777, 8 << 20),
            (777, 32 << 20),
        ] {
            let bytes = numbers.bytes(length);
            client.write(offset, &bytes);
            let stored = place.memory.bytes.read()[offset as usize..offset as usize + length] == bytes;
            assert!(stored, "{offset} {length}");
            if structured || length <= 8 << 20 {
                assert!(client.read(offset, length as u32) == bytes, "{offset} {length}");
            }
        }
    }
}

#[test]
fn answers_come_as_they_are_ready() {
    let place = Place::new(Memory::new(SIZE));
    for structured in [false, true] {
        let mut client = place.connect(structured);
        place.memory.shut();
        client.send(0, READ, 1, 0, 4096, b"");
        for cookie in 2..100 {
            client.send(0, READ, cookie, cookie * 4096, 4096, b"");
        }
        let mut seen = BTreeMap::new();
        for _ in 2..100 {
            let (answer, is_last) = client.next_message(|cookie| (cookie * 4096, 4096).tap(structured));
            assert!(is_last && answer.error == 0 && answer.cookie != 1);
            assert_eq!(answer.chunks[0].0, answer.cookie * 4096);
            seen.insert(answer.cookie, ());
        }
        assert_eq!(seen.len(), 98);
        place.memory.open();
        let (answer, _) = client.next_message(|_| (0, 4096).tap(structured));
        assert_eq!(answer.cookie, 1);
    }
}

/// A simple reply has data only without structured replies.
trait Tap {
    fn tap(self, structured: bool) -> Self;
}

impl Tap for (u64, usize) {
    fn tap(self, structured: bool) -> Self {
        if structured { (0, 0) } else { self }
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let place = Place::new(Memory::new(SIZE));
    let end = SIZE as u64;
    for structured in [false, true] {
        let mut client = place.connect(structured);
        let block = [1; 4096];
        for (flags, command, offset, length, error) in [
            (0, READ, end, 1, EINVAL),
            (0, READ, u64::MAX, 4096, EINVAL),
            (0, READ, 0, u32::MAX, EINVAL),
            (0, READ, 0, (32 << 20) + 1, EINVAL),
            (0, WRITE, end - 4095, 4096, ENOSPC),
            (0, WRITE, u64::MAX - 1, 4096, ENOSPC),
            (0, ZEROES, end, 4096, ENOSPC),
            (0, TRIM, end - 1, 4096, EINVAL),
            (0, CACHE, end, 4096, EINVAL),
            (0, CACHE, 0, 4096, 0),
            (1 << 9, READ, 0, 4096, EINVAL),
            (NO_HOLE, WRITE, 0, 4096, EINVAL),
            (1 << 5, WRITE, 0, 4096, EINVAL),
            (DF, WRITE, 0, 4096, EINVAL),
            (FAST_ZERO, TRIM, 0, 4096, EINVAL),
            (0, 8, 0, 0, EINVAL),
            (0, 7, 0, 4096, EINVAL),
            (0, u16::MAX, 0, 0, EINVAL),
            (FUA, READ, 0, 4096, 0),
            (FUA, FLUSH, 0, 0, 0),
            (FUA | NO_HOLE | FAST_ZERO, ZEROES, 1, 4096, 0),
            (0, READ, 0, 0, 0),
            (0, TRIM, end, 0, 0),
        ] {
            let payload = if command == WRITE { block.as_slice() } else { b"" };
            let answer = client.call(flags, command, offset, length, payload);
            assert_eq!(answer.error, error, "command {command} flags {flags} at {offset}, {length} bytes");
        }
        assert_eq!(client.call(0, WRITE, 0, 0, b"").error, 0);
        // DF is answered by one chunk, or refused.
        if structured {
            assert_eq!(client.call(DF, READ, 5, 8 << 20, b"").chunks.len(), 1);
            assert_eq!(client.call(DF, READ, 5, (8 << 20) + 1, b"").error, EOVERFLOW);
        } else {
            assert_eq!(client.call(DF, READ, 0, 4096, b"").error, EINVAL);
            assert_eq!(client.call(0, READ, 0, 16 << 20, b"").error, EOVERFLOW);
        }
        // A write that is too long is read past, and the next request is understood.
        let long = vec![1; (32 << 20) + 1];
        assert_eq!(client.call(0, WRITE, 0, long.len() as u32, &long).error, EINVAL);
        assert_eq!(client.read(1 << 20, 4096), [0; 4096]);
    }
    assert!(place.memory.bytes.read().iter().all(|byte| *byte == 0));
}

#[test]
fn an_error_of_the_volume_is_told_in_the_protocols_words() {
    let place = Place::new(Memory::new(SIZE));
    for structured in [false, true] {
        let mut client = place.connect(structured);
        for (failure, error) in [
            (TargetError::Io, EIO),
            (TargetError::NoSpace, ENOSPC),
            (TargetError::ReadOnly, EPERM),
            (TargetError::Invalid, EINVAL),
        ] {
            *place.memory.failure.lock() = Some(failure);
            for (flags, command, length) in [
                (0, READ, 4096),
                (0, READ, 3 << 20),
                (0, WRITE, 512),
                (FUA, WRITE, 3 << 20),
                (0, FLUSH, 0),
                (0, TRIM, 4096),
                (0, ZEROES, 512),
            ] {
                let payload = if command == WRITE { vec![1; length as usize] } else { vec![] };
                let answer = client.call(flags, command, 0, length, &payload);
                assert_eq!((answer.error, answer.chunks.len()), (error, 0), "{command} {length}");
            }
        }
        *place.memory.failure.lock() = None;
        client.write(0, &[3; 4096]);
        assert_eq!(client.read(0, 4096), [3; 4096]);
    }
}

#[test]
fn a_volume_for_reading_refuses_every_change() {
    let place = Place::new(Memory { read_only: true, ..Memory::new(SIZE) });
    let mut client = place.connect(true);
    assert_eq!(client.flags, 0b101_1000_1111, "read-only, flush, FUA, DF, multi-conn and cache");
    for (command, payload) in [(WRITE, [1; 4096].as_slice()), (TRIM, b""), (ZEROES, b"")] {
        assert_eq!(client.call(0, command, 0, 4096, payload).error, EPERM);
    }
    assert_eq!(client.read(0, 4096), [0; 4096]);
    assert_eq!(client.call(0, FLUSH, 0, 0, b"").error, 0);
}

#[test]
fn zeros_and_trims_go_to_the_right_place() {
    let place = Place::new(Memory::new(SIZE));
    let mut client = place.connect(true);
    client.write(0, &[7; 40960]);
    let counts = || {
        let memory = &place.memory;
        (memory.discards.load(Ordering::SeqCst), memory.zeroes.load(Ordering::SeqCst))
    };
    assert_eq!(client.call(NO_HOLE | FAST_ZERO, ZEROES, 100, 8192, b"").error, 0);
    assert_eq!(counts(), (0, 1));
    assert_eq!(client.call(0, ZEROES, 12288 + 5, 10, b"").error, 0);
    assert_eq!(counts(), (0, 1), "nothing but parts of a block");
    assert_eq!(client.call(FUA, ZEROES, 16384, 4096, b"").error, 0);
    assert_eq!(counts(), (1, 1));
    assert_eq!(client.call(0, TRIM, 20480 + 1, 8192, b"").error, 0);
    assert_eq!(counts(), (2, 1));
    let mut expected = vec![7; 40960];
    for range in [100..8292, 12293..12303, 16384..20480, 24576..28672] {
        expected[range].fill(0);
    }
    assert!(client.read(0, 40960) == expected);
}

#[test]
fn a_flush_covers_what_other_connections_were_answered() {
    let place = Place::new(Memory::with_power_cuts(1 << 20));
    let mut writers: Vec<Client> = (0..4).map(|at| place.connect(at % 2 == 0)).collect();
    let mut flusher = place.connect(true);
    assert_ne!(flusher.flags & 1 << 8, 0, "multi-conn is announced");
    for round in 1..50_u8 {
        for (at, writer) in writers.iter_mut().enumerate() {
            writer.write(at as u64 * 4096 + 512, &[round; 512]);
        }
        assert_ne!(place.memory.durable.lock()[512], round);
        assert_eq!(flusher.call(0, FLUSH, 0, 0, b"").error, 0);
        let durable = place.memory.durable.lock();
        assert!((0..4).all(|at| durable[at * 4096 + 512..at * 4096 + 1024] == [round; 512]));
    }
}

#[test]
fn what_is_forced_is_durable_when_it_is_answered() {
    let place = Place::new(Memory::with_power_cuts(8 << 20));
    let mut client = place.connect(true);
    let durable = |range: std::ops::Range<usize>| place.memory.durable.lock()[range].to_vec();
    client.write(0, &[1; 4096]);
    assert_eq!(durable(0..4096), [0; 4096]);
    let long = vec![2; 3 << 20];
    assert_eq!(client.call(FUA, WRITE, 100, long.len() as u32, &long).error, 0);
    assert!(durable(100..100 + long.len()) == long);
    let flushes = place.memory.flushes.load(Ordering::SeqCst);
    assert_eq!(flushes, 1, "one flush for all pieces of a write");
    assert_eq!(client.call(FUA, ZEROES, 0, 1 << 20, b"").error, 0);
    assert!(durable(0..1 << 20).iter().all(|byte| *byte == 0));
    assert_eq!(client.call(FUA, TRIM, 1 << 20, 1 << 20, b"").error, 0);
    assert!(durable(1 << 20..2 << 20).iter().all(|byte| *byte == 0));
    *place.memory.failure.lock() = Some(TargetError::Io);
    assert_eq!(client.call(FUA, TRIM, 0, 0, b"").error, EIO, "the flush failed");
    *place.memory.failure.lock() = None;
}

#[test]
fn a_wrong_magic_ends_the_connection_after_what_was_asked_before() {
    let place = Place::new(Memory::new(SIZE));
    let mut client = place.connect(false);
    client.send(0, WRITE, 5, 0, 4096, &[5; 4096]);
    client.stream.write_all(&[0xab; 28]).unwrap();
    assert_eq!(client.answer_to(WRITE, 0, 0).error, 0);
    assert!(is_closed(&mut client.stream));
    let mut client = place.connect(false);
    client.send(0, READ, 5, 0, 4096, b"");
    client.send(0, DISC, 6, 0, 0, b"");
    assert_eq!(client.answer_to(READ, 0, 4096).data(0), [5; 4096]);
    assert!(is_closed(&mut client.stream));
    place.wait_until_alone();
}

#[test]
fn clients_that_die_in_the_middle_leave_nothing_behind() {
    let place = Place::new(Memory::new(SIZE));
    let mut steady = place.connect(true);
    let whole = [request_bytes(0, WRITE, 1, 0, 2 << 20), vec![1; 2 << 20]].concat();
    for length in (0..40).chain([1 << 20, (1 << 20) + 28, (1 << 20) + 29, whole.len() - 1, whole.len()]) {
        let mut client = place.connect(length % 2 == 0);
        client.stream.write_all(&whole[..length]).unwrap();
        drop(client);
        steady.write(4 << 20, &[2; 4096]);
    }
    for _ in 0..20 {
        let mut client = place.connect(true);
        for cookie in 0..30 {
            client.send(0, READ, cookie, 0, 1 << 20, b"");
        }
        drop(client);
        assert_eq!(steady.read(4 << 20, 4096), [2; 4096]);
    }
    drop(steady);
    place.wait_until_alone();
}

#[test]
fn who_does_not_read_its_answers_holds_up_nobody_else() {
    let limits = Limits { answer_patience: Duration::from_millis(300), workers: 2, ..Limits::default() };
    let place = Place::with(Memory::new(SIZE), limits);
    let deaf: Vec<UnixStream> = (0..6)
        .map(|at| {
            let mut client = place.connect(at % 2 == 0);
            client.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            for cookie in 0..1000 {
                let request = request_bytes(0, READ, cookie, 0, 1 << 20);
                if client.stream.write_all(&request).is_err() {
                    break;
                }
            }
            client.stream
        })
        .collect();
    let mut steady = place.connect(true);
    for round in 0..100 {
        steady.write(round * 4096, &[4; 4096]);
        assert_eq!(steady.read(round * 4096, 4096), [4; 4096]);
    }
    drop(steady);
    // They are left after a while, so that they do not keep their places for ever.
    place.wait_until_alone();
    drop(deaf);
}

#[test]
fn a_hundred_clients_take_turns_in_a_few_places() {
    let limits = Limits { connections: 5, small_buffers: 1, large_buffers: 1, requests: 1, ..Limits::default() };
    assert_eq!(limits.buffer_bytes_max(), 5 * (64 * 1024 + 2 * 1024 * 1024));
    let place = Place::with(Memory::new(SIZE), limits);
    std::thread::scope(|scope| {
        for at in 0..100_u64 {
            let place = &place;
            scope.spawn(move || {
                let mut client = place.connect(at % 2 == 0);
                let bytes = Numbers(at).bytes(5000);
                client.write(at * 5000, &bytes);
                assert!(client.read(at * 5000, 5000) == bytes);
            });
        }
    });
    let mut client = place.connect(true);
    for cookie in 0..200 {
        client.send(0, READ, cookie, 0, 3 << 20, b"");
    }
    let (mut ends, mut bytes) = (0, 0);
    while ends < 200 {
        let (part, is_last) = client.next_message(|_| (0, 0));
        bytes += part.chunks.iter().map(|(_, data)| data.len()).sum::<usize>();
        ends += u32::from(is_last);
    }
    assert_eq!(bytes, 200 * (3 << 20));
}

#[test]
fn the_kernels_client_begins_with_requests() {
    let place = Place::new(Memory::new(SIZE));
    let (ours, kernels) = UnixStream::pair().unwrap();
    place.server.serve_kernel(ours).unwrap();
    assert_eq!(place.server.flags(), 0b1101_0110_1101);
    let mut client = Client::kernel(kernels);
    client.write(4096, &[8; 8192]);
    assert_eq!(client.read(8192, 4096), [8; 4096]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    place.server.serve(ours).unwrap();
    drop(theirs);
}
