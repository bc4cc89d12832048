//! A forwarder of TCP connections with faults: it cuts, stalls and throttles them by a seed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Longest time in which a thread of the proxy does not notice its end.
const LOOK: Duration = Duration::from_millis(10);

/// Faults that connections have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// Each connection is cut, stalled or throttled at times.
    Some,
    /// All connections carry nothing after some bytes.
    Silence {
        after: u64,
    },
}

/// Numbers of a seed: an LCG with its high bits, which suffices to vary faults.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % most
    }
}

/// Forwarder from addresses of its own to those of a link. Its end closes all connections.
pub(crate) struct Proxy {
    pub(crate) addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    acceptors: Vec<JoinHandle<()>>,
    /// Each thread has the other end: it ends when this is dropped.
    life: Option<Sender<()>>,
}

struct Shared {
    faults: Faults,
    random: Mutex<Random>,
    cuts: Mutex<u64>,
}

impl Proxy {
    pub(crate) fn start(targets: &[SocketAddr], faults: Faults, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            faults,
            random: Mutex::new(Random(seed)),
            cuts: Mutex::new(0),
        });
        let (life, ends) = mpsc::channel();
        let ends = Arc::new(Mutex::new(ends));
        let (mut addresses, mut acceptors) = (Vec::new(), Vec::new());
        for &target in targets {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            addresses.push(listener.local_addr().unwrap());
            let (shared, ends) = (Arc::clone(&shared), Arc::clone(&ends));
            acceptors.push(thread::spawn(move || {
                accept(&shared, &listener, target, &ends)
            }));
        }
        let life = Some(life);
        Self {
            addresses,
            shared,
            acceptors,
            life,
        }
    }

    /// Number of connections that were cut.
    pub(crate) fn cuts(&self) -> u64 {
        *lock(&self.shared.cuts)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.life.take());
        for acceptor in self.acceptors.drain(..) {
            acceptor.join().unwrap();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps; false if the proxy has ended.
fn lives(ends: &Mutex<Receiver<()>>, time: Duration) -> bool {
    lock(ends).recv_timeout(time) == Err(RecvTimeoutError::Timeout)
}

fn accept(shared: &Shared, listener: &TcpListener, target: SocketAddr, ends: &Mutex<Receiver<()>>) {
    thread::scope(|scope| {
        while lives(ends, Duration::from_millis(1)) {
            let Ok((near, _)) = listener.accept() else {
                continue;
            };
            let Ok(far) = TcpStream::connect(target) else {
                continue;
            };
            scope.spawn(move || {
                let sockets = [&near, &far];
                thread::scope(|scope| {
                    scope.spawn(|| forward(shared, sockets, 0, ends));
                    scope.spawn(|| forward(shared, sockets, 1, ends));
                });
            });
        }
    });
}

/// Forwards one direction until it ends, is cut, or the proxy ends.
fn forward(shared: &Shared, sockets: [&TcpStream; 2], from: usize, ends: &Mutex<Receiver<()>>) {
    let (mut source, mut sink) = (sockets[from], sockets[1 - from]);
    source.set_read_timeout(Some(LOOK)).unwrap();
    sink.set_write_timeout(Some(LOOK)).unwrap();
    let mut random = {
        let mut parent = lock(&shared.random);
        Random(parent.below(u64::MAX))
    };
    let mut until_fault = random.below(1 << 20);
    let (mut total, mut bytes) = (0, vec![0; 64 << 10]);
    while lives(ends, Duration::ZERO) {
        let count = match source.read(&mut bytes) {
            Ok(0) => {
                let _ = sink.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => count,
            Err(error) if is_timeout(&error) => continue,
            Err(_) => break,
        };
        total += count as u64;
        match shared.faults {
            Faults::Silence { after } if total > after => continue,
            Faults::Some if total > until_fault => {
                until_fault = total + random.below(1 << 20);
                match random.below(4) {
                    0 | 1 => {
                        *lock(&shared.cuts) += 1;
                        // A part of the bytes, so that a cut can be at any byte.
                        let part = random.below(count as u64) as usize;
                        let _ = sink.write(&bytes[..part]);
                        break;
                    }
                    2 => drop(lives(ends, Duration::from_millis(random.below(800)))),
                    _ => drop(lives(ends, Duration::from_millis(30))),
                }
            }
            _ => {}
        }
        if send(sink, &bytes[..count], ends).is_err() {
            break;
        }
    }
    sockets
        .iter()
        .for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
}

fn send(mut sink: &TcpStream, mut bytes: &[u8], ends: &Mutex<Receiver<()>>) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_timeout(&error) && lives(ends, Duration::ZERO) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
