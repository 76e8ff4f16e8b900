//! Stopping: what was read is answered, nothing new is begun, and it ends in time whatever others do.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_frontend::nbd::{Export, Limits, ServeError, Server, StopError};

use crate::client::*;
use crate::memory::Memory;
use crate::place::Place;

#[test]
fn what_was_read_is_answered_and_the_rest_is_refused() {
    let place = Place::new(Memory::new(1 << 20));
    let mut client = place.connect(true);
    place.memory.shut();
    client.send(0, READ, 1, 0, 4096, b"");
    for cookie in 2..20 {
        client.send(0, READ, cookie, 0, 4096, b"");
    }
    std::thread::sleep(Duration::from_millis(100));
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| place.server.stop(Duration::from_secs(10)));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!stop.is_finished());
        place.memory.open();
        for _ in 1..20 {
            let (answer, is_last) = client.next_message(|_| (0, 0));
            assert!(is_last && (answer.error == 0 || answer.error == ESHUTDOWN), "{answer:?}");
            assert!(answer.cookie != 1 || answer.error == 0);
        }
        assert!(is_closed(&mut client.stream));
        assert_eq!(stop.join().unwrap(), Ok(()));
    });
    assert!(std::os::unix::net::UnixStream::connect(place.socket()).is_err());
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(place.server.serve(ours), Err(ServeError::Stopping)));
}

/// Every write that was answered with success is in the volume, and every client sees an end.
#[test]
fn a_stop_under_load_loses_no_answered_write() {
    for round in 0..10 {
        let place = Place::new(Memory::new(8 << 20));
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4_u64)
                .map(|at| {
                    let mut client = place.connect(at % 2 == 0);
                    scope.spawn(move || load(&mut client, at))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(20 + round * 3));
            assert_eq!(place.server.stop(Duration::from_secs(10)), Ok(()));
            for (at, client) in clients.into_iter().enumerate() {
                let answered = client.join().unwrap();
                let bytes = place.memory.bytes.read();
                for (slot, value) in answered.into_iter().enumerate() {
                    let found = bytes[(at * 256 + slot) * 4096 + 7];
                    assert!(found == value || found == value.wrapping_add(1), "{found} {value}");
                }
            }
        });
    }
}

/// Writes rising numbers to its own 16 places until the server leaves; returns the last answered of each.
fn load(client: &mut Client, at: u64) -> [u8; 16] {
    use std::io::Write;
    let mut answered = [0_u8; 16];
    for round in 0.. {
        let slot = (round % 16) as usize;
        let value = answered[slot].wrapping_add(1);
        let request = request_bytes(0, WRITE, round, (at * 256 + slot as u64) * 4096, 4096);
        let mut answer = [0; 16];
        let sent = client.stream.write_all(&request).and_then(|()| client.stream.write_all(&[value; 4096]));
        if sent.and_then(|()| client.stream.read_exact(&mut answer)).is_err() {
            break;
        }
        match u32::from_be_bytes(answer[4..8].try_into().unwrap()) {
            0 => answered[slot] = value,
            error => {
                assert_eq!(error, ESHUTDOWN);
                break;
            }
        }
    }
    answered
}

#[test]
fn a_client_that_does_not_read_is_cut_off_in_time() {
    let folder = crate::place::new_folder();
    let memory = Arc::new(Memory::new(8 << 20));
    let export = Export { name: "vol".into(), description: String::new(), target: memory };
    let server = Server::start(export, Limits::default()).unwrap();
    server.listen(&folder.join("s")).unwrap();
    let mut client = Client::go(&folder.join("s"), true);
    for cookie in 0..100 {
        client.send(0, READ, cookie, 0, 1 << 20, b"");
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(server.stop(Duration::from_secs(2)), Err(StopError::CutOff { connections: 1 }));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(server.connections(), 0);
    let mut rest = Vec::new();
    let _reset = client.stream.read_to_end(&mut rest);
    assert!(rest.len() < 100 << 20);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_volume_that_hangs_does_not_hold_up_the_stop() {
    let folder = crate::place::new_folder();
    let memory = Arc::new(Memory::new(8 << 20));
    let export = Export { name: "vol".into(), description: String::new(), target: memory.clone() };
    let server = Server::start(export, Limits::default()).unwrap();
    server.listen(&folder.join("s")).unwrap();
    let mut client = Client::go(&folder.join("s"), false);
    memory.shut();
    client.send(0, READ, 1, 0, 4096, b"");
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let stopped = server.stop(Duration::from_millis(800));
    assert!(matches!(stopped, Err(StopError::Stuck { .. })), "{stopped:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(is_closed(&mut client.stream));
    memory.open();
    assert_eq!(server.stop(Duration::from_secs(10)), Ok(()), "it ends when the volume lets it go");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_server_that_is_dropped_ends_by_itself() {
    let memory = Arc::new(Memory::new(1 << 20));
    let export = Export { name: String::new(), description: String::new(), target: memory.clone() };
    let server = Server::start(export, Limits::default()).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    server.serve_kernel(ours).unwrap();
    let mut client = Client::kernel(theirs);
    client.write(0, &[1; 4096]);
    drop(server);
    assert!(is_closed(&mut client.stream));
    for _ in 0..1000 {
        if Arc::strong_count(&memory) == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("threads are left");
}
