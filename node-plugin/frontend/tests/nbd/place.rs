//! A server on a socket in a folder of its own, and how a test says that it was skipped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_frontend::nbd::{Export, Limits, Server};

use crate::client::Client;
use crate::memory::Memory;

pub struct Place {
    pub memory: Arc<Memory>,
    pub server: Server,
    folder: PathBuf,
}

impl Place {
    pub fn new(memory: Memory) -> Self {
        Self::with(memory, Limits::default())
    }

    pub fn with(memory: Memory, limits: Limits) -> Self {
        let memory = Arc::new(memory);
        let folder = new_folder();
        let export = Export { name: "vol".into(), description: "a test".into(), target: memory.clone() };
        let server = Server::start(export, limits).unwrap();
        server.listen(&folder.join("nbd.sock")).unwrap();
        Self { memory, server, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("nbd.sock")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///vol?socket={}", self.socket().display())
    }

    pub fn connect(&self, structured: bool) -> Client {
        Client::go(&self.socket(), structured)
    }

    /// Connections end a moment after their clients.
    pub fn wait_until_alone(&self) {
        for _ in 0..1000 {
            if self.server.connections() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} connections are left", self.server.connections());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let result = self.server.stop(Duration::from_secs(10));
        let _left = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert_eq!(result, Ok(()), "every test leaves a server that stops");
        }
    }
}

pub fn new_folder() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("holdfast-nbd-{}-{next}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// One line a test: `name: reason`. Without HOLDFAST_SKIPS it is only printed.
pub fn skip(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os("HOLDFAST_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips opens");
        std::io::Write::write_all(&mut file, format!("{name}: {reason}\n").as_bytes())
            .expect("the list of skips takes a line");
    }
}
