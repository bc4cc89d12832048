//! Two pipes with a link between them, and what they leave.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use datapipe::prelude::*;
use datapipe_net::agent::{ReceivingLink, SendingLink};
use datapipe_net::link::LinkTimers;
use datapipe_net::tls::MachineIdentity;

use super::authority::{Authority, Kind};
use super::proxy::Random;

/// Size of a buffer in bytes.
pub(crate) const BUFFER: usize = 64 << 10;

/// Time after which a test that waits has failed.
const HANG: Duration = Duration::from_secs(60);

/// Turn of one test after the other, because each counts what the process has; checks at the end
/// that no thread, socket or event of a link is left.
pub(crate) struct Turn(#[allow(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

impl Turn {
    pub(crate) fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Self(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !thread::panicking() {
            let end = Instant::now() + HANG;
            // A thread that was joined may still have its entry.
            while !left().is_empty() {
                assert!(Instant::now() < end, "left: {:?}", left());
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Threads of links by name, sockets and event descriptors of the process.
fn left() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let mut left: Vec<_> = names.filter(|name| name.starts_with("net ")).collect();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    left.extend(targets.filter(|target| target.contains("socket:") || target.contains("eventfd")));
    left
}

/// Timers with which a test is short.
pub(crate) fn timers() -> LinkTimers {
    let mut timers = LinkTimers::default();
    timers.ping = 100_000_000;
    timers.silence = 600_000_000;
    timers.redial = 5_000_000;
    timers.hold_up = 300_000_000;
    timers
}

/// Identities of two machines.
pub(crate) struct Machines {
    pub(crate) near: MachineIdentity,
    pub(crate) far: MachineIdentity,
}

impl Machines {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("links");
        Self {
            near: authority.identity(&authority.issue(Kind::Client, &["near.example"])),
            far: authority.identity(&authority.issue(Kind::Server, &["far.example"])),
        }
    }
}

/// Listeners of a link, and their addresses.
pub(crate) fn listen(connections: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let listeners: Vec<_> = (0..connections)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses = listeners
        .iter()
        .map(|one| one.local_addr().unwrap())
        .collect();
    (listeners, addresses)
}

/// Both halves, encrypted or not.
pub(crate) fn halves(
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    machines: Option<&Machines>,
) -> (SendingLink, ReceivingLink) {
    let near = SendingLink::new(addresses).timers(timers());
    let far = ReceivingLink::new(listeners).timers(timers());
    match machines {
        Some(Machines {
            near: client,
            far: server,
        }) => (
            near.encrypt(client.clone(), "far.example"),
            far.encrypt(server.clone(), "near.example"),
        ),
        None => (near, far),
    }
}

/// Bytes by a seed, `left` of them.
pub(crate) struct Source {
    pub(crate) random: Random,
    pub(crate) left: usize,
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.left);
        for bytes in out[..len].chunks_mut(8) {
            let word = self
                .random
                .below(u64::MAX)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let len = bytes.len();
            bytes.copy_from_slice(&word.to_le_bytes()[..len]);
        }
        self.left -= len;
        Ok(len)
    }
}

/// Hash and number of the bytes that are written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u64, u64);

impl Hash {
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325, 0);
}

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs both pipes. Returns the hash of what was sent, and of what was received if both pipes
/// succeeded.
pub(crate) fn run(
    (near, far): (SendingLink, ReceivingLink),
    seed: u64,
    len: usize,
    buffers: u32,
) -> (Hash, [Result<Hash, Error>; 2]) {
    let source = || Source {
        random: Random(seed),
        left: len,
    };
    let mut sent = Hash::EMPTY;
    io::copy(&mut source(), &mut sent).unwrap();
    let (near, far) = (near.stage().unwrap(), far.stage().unwrap());
    let pipe = || Pipe::builder().buffers(buffers).buffer_size(BUFFER as u32);
    let mut got = Hash::EMPTY;
    let results = thread::scope(|scope| {
        let sending = || pipe().head(StreamHead::new(source())).tail(near).run();
        let sending = scope.spawn(sending);
        let received = pipe().head(far).tail(StreamTail::new(&mut got)).run();
        [sending.join().unwrap(), received]
    });
    (sent, results.map(|result| result.map(|_| got)))
}
