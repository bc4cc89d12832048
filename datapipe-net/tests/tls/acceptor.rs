//! The table of handshakes: machines that are known get through it, also amid floods, and all
//! others take no more than its limits.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use datapipe_net::socket::{Deadline, Stop};
use datapipe_net::tls::{
    AcceptedMachine, AcceptorLimits, CertificateRefusal, Handshake, HandshakeError,
    MachineIdentity, TlsAcceptor,
};

use super::authority::{Authority, Kind};

/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections of the flood.
const FLOOD: usize = 10_000;

/// An acceptor on loopback with an authority, and a client's identity.
struct Site {
    authority: Authority,
    acceptor: TlsAcceptor,
    address: SocketAddr,
    client: MachineIdentity,
    stop: Stop,
}

impl Site {
    fn new(limits: AcceptorLimits) -> Self {
        let authority = Authority::new("ours");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = authority.identity(&authority.issue(Kind::Server, &["127.0.0.1"]));
        Self {
            acceptor: TlsAcceptor::new(listener, server, limits).unwrap(),
            address,
            client: authority.identity(&authority.issue(Kind::Client, &["db1.example"])),
            stop: Stop::new().unwrap(),
            authority,
        }
    }

    fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Runs the table until `is_enough`, without a machine that gets through.
    fn run_until(&mut self, mut is_enough: impl FnMut(&mut TlsAcceptor) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_enough(&mut self.acceptor) {
            assert!(Instant::now() < end, "{:?}", self.acceptor);
            let soon = Deadline::after(Duration::from_millis(5));
            assert!(self.acceptor.accept(soon, &self.stop).unwrap().is_none());
        }
    }
}

/// Limits at which nothing is slow or too fast.
fn generous() -> AcceptorLimits {
    AcceptorLimits {
        per_second: 1_000_000,
        patience: PATIENCE,
        ..AcceptorLimits::default()
    }
}

/// Dials until the other machine confirms a handshake: a flood may displace the first ones, also
/// after this end is done.
fn dial_until_known(client: &MachineIdentity, address: SocketAddr) -> TcpStream {
    loop {
        let mut socket = TcpStream::connect(address).unwrap();
        let handshake = Handshake::client(client, "127.0.0.1").unwrap();
        let is_done = handshake
            .run(&socket, Deadline::after(PATIENCE), None)
            .is_ok();
        if is_done && matches!(socket.read(&mut [0]), Ok(1)) {
            return socket;
        }
    }
}

fn confirm(accepted: &AcceptedMachine) {
    assert_eq!(accepted.secured.peer.name(), "db1.example");
    (&accepted.socket).write_all(&[1]).unwrap();
}

#[test]
fn known_machine_gets_through_and_has_its_name() {
    let mut site = Site::new(AcceptorLimits::default());
    let (client, address) = (site.client.clone(), site.address);
    let dialled = thread::spawn(move || dial_until_known(&client, address));
    let deadline = Deadline::after(PATIENCE);
    let accepted = site.acceptor.accept(deadline, &site.stop).unwrap().unwrap();
    confirm(&accepted);
    let dialled = dialled.join().unwrap();
    assert_eq!(accepted.address, dialled.local_addr().unwrap());
    assert_eq!(site.acceptor.handshakes(), 0);
}

#[test]
fn unknown_machines_are_counted_with_the_last_reason() {
    let mut site = Site::new(generous());
    let other = Authority::new("other");
    let files = other.files(&other.issue(Kind::Client, &["db1.example"]));
    super::authority::write(&files.path().join("ca.pem"), &site.authority.pem(), 0o644);
    let foreign = super::authority::load(&files).unwrap();
    site.dial().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    site.run_until(|acceptor| {
        let refusals = acceptor.take_refusals();
        let last = refusals.last.as_ref().map(|(_, error)| error);
        refusals.failed == 1 && matches!(last, Some(HandshakeError::NotTls { byte: b'G' }))
    });
    let socket = site.dial();
    let dialled = thread::spawn(move || {
        let handshake = Handshake::client(&foreign, "127.0.0.1").unwrap();
        handshake
            .run(&socket, Deadline::after(PATIENCE), None)
            .map(|_| socket)
    });
    site.run_until(|acceptor| {
        let refusals = acceptor.take_refusals();
        let last = refusals.last.as_ref().map(|(_, error)| error);
        matches!(
            last,
            Some(HandshakeError::Refused(CertificateRefusal::Foreign { .. }))
        )
    });
    drop(dialled.join().unwrap());
    assert_eq!(site.acceptor.handshakes(), 0);
}

#[test]
fn machines_that_are_silent_or_slow_end_in_time() {
    let mut site = Site::new(AcceptorLimits {
        patience: Duration::from_millis(50),
        ..generous()
    });
    let silent = site.dial();
    let mut slow = site.dial();
    // A record of the greatest length, a byte at a time.
    slow.write_all(&[22, 3, 1, 64, 0]).unwrap();
    let writer = thread::spawn(move || {
        while slow.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
    let mut seen = 0;
    let end = Instant::now() + PATIENCE;
    while seen < 2 && Instant::now() < end {
        let soon = Deadline::after(Duration::from_millis(5));
        assert!(site.acceptor.accept(soon, &site.stop).unwrap().is_none());
        seen += site.acceptor.take_refusals().slow;
    }
    assert_eq!(seen, 2);
    writer.join().unwrap();
    assert_eq!((&silent).read(&mut [0]).unwrap(), 0);
}

#[test]
fn one_address_has_its_share_of_the_table() {
    let mut site = Site::new(AcceptorLimits {
        handshakes: 8,
        per_address: 3,
        ..generous()
    });
    let _silent: Vec<_> = (0..10).map(|_| site.dial()).collect();
    let mut displaced = 0;
    site.run_until(|acceptor| {
        displaced += acceptor.take_refusals().displaced;
        assert!(acceptor.handshakes() <= 3);
        displaced == 7
    });
    assert_eq!(site.acceptor.handshakes(), 3);
}

#[test]
fn handshakes_begin_at_their_rate() {
    let mut site = Site::new(AcceptorLimits {
        handshakes: 4,
        per_address: 4,
        per_second: 1,
        patience: PATIENCE,
    });
    let begin = Instant::now();
    let _silent: Vec<_> = (0..20).map(|_| site.dial()).collect();
    let soon = Deadline::after(Duration::from_millis(100));
    assert!(site.acceptor.accept(soon, &site.stop).unwrap().is_none());
    assert_eq!(site.acceptor.handshakes(), 4);
    // Each further one displaces one.
    let displaced = site.acceptor.take_refusals().displaced;
    assert!(displaced <= begin.elapsed().as_secs(), "{displaced}");
    assert!(displaced < 16);
}

#[test]
fn known_machine_gets_through_a_flood() {
    let mut site = Site::new(generous());
    let (client, address) = (site.client.clone(), site.address);
    let dialled = thread::spawn(move || dial_until_known(&client, address));
    let (mut made, mut ended, mut known) = (0, 0, 0);
    let mut open = VecDeque::new();
    let end = Instant::now() + PATIENCE;
    while ended < FLOOD as u64 || !dialled.is_finished() {
        assert!(Instant::now() < end, "{made} {ended} {:?}", site.acceptor);
        // The kernel's queue must not overflow: a connection that it drops comes again after 1 s.
        while made < ended as usize + 64 {
            let mut socket = site.dial();
            // Some are silent, some begin a record, some are not TLS.
            let begin: &[u8] = [&[], &[22, 3, 1, 64, 0, 1][..], b"GET /"][made % 3];
            let _ = socket.write_all(begin);
            open.push_back(socket);
            made += 1;
        }
        open.drain(..open.len().saturating_sub(100));
        let soon = Deadline::after(Duration::from_millis(1));
        if let Some(accepted) = site.acceptor.accept(soon, &site.stop).unwrap() {
            confirm(&accepted);
            known += 1;
        }
        assert!(site.acceptor.handshakes() <= 16);
        let refusals = site.acceptor.take_refusals();
        ended += refusals.failed + refusals.displaced + refusals.slow;
    }
    dialled.join().unwrap();
    assert!(known >= 1);
}

#[test]
fn newer_identity_ends_handshakes_of_the_older() {
    let mut site = Site::new(generous());
    let waiting = site.dial();
    site.run_until(|acceptor| acceptor.handshakes() == 1);
    let issued = site.authority.issue(Kind::Server, &["127.0.0.1"]);
    site.acceptor.set_identity(site.authority.identity(&issued));
    assert_eq!(site.acceptor.handshakes(), 0);
    assert_eq!((&waiting).read(&mut [0]).unwrap(), 0);
}

#[test]
fn stop_ends_the_wait() {
    let mut site = Site::new(AcceptorLimits::default());
    site.stop.stop();
    let error = site
        .acceptor
        .accept(Deadline::NEVER, &site.stop)
        .unwrap_err();
    assert!(matches!(error, HandshakeError::Stopped), "{error}");
}
