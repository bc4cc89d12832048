//! Pipes that stop or fail, connections that carry nothing, and machines that refuse each other.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use datapipe::prelude::*;
use datapipe_net::agent::{ReceivingLink, SendingLink, SetupError};

use super::authority::{Authority, Kind};
use super::pair::{BUFFER, Hash, Machines, Source, Turn, halves, listen, run, timers};
use super::proxy::{Faults, Proxy, Random};

/// Time without a block after which the connections of a test are silent.
const QUIET: Duration = Duration::from_millis(100);

/// A writer that fails after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pipe<'a>() -> PipeBuilder<'a> {
    Pipe::builder().buffers(4).buffer_size(BUFFER as u32)
}

fn endless() -> StreamHead<Source> {
    StreamHead::new(Source {
        random: Random(5),
        left: usize::MAX,
    })
}

#[test]
fn tail_that_fails_stops_the_other_half_with_its_side_named() {
    let _turn = Turn::take();
    let machines = Machines::new();
    for machines in [None, Some(&machines)] {
        let (listeners, addresses) = listen(2);
        let (near, far) = halves(listeners, addresses, machines);
        let (near, far) = (near.stage().unwrap(), far.stage().unwrap());
        let [near, far] = thread::scope(|scope| {
            let near = scope.spawn(|| pipe().head(endless()).tail(near).run());
            let far = pipe()
                .head(far)
                .tail(StreamTail::new(Full(20 * BUFFER)))
                .run();
            [near.join().unwrap().unwrap_err(), far.unwrap_err()]
        });
        let (near, far) = (near.to_string(), far.to_string());
        assert!(far.contains("No space left"), "{far}");
        assert!(
            near.contains("sending half of the link (127.0.0.1:"),
            "{near}"
        );
        assert!(
            near.contains("the pipe of the receiving half was stopped"),
            "{near}"
        );
    }
}

/// Cancels either half when its stream flows, before anything has flowed, and when every
/// connection has become silent.
#[test]
fn pipe_that_is_cancelled_ends_both_halves() {
    let _turn = Turn::take();
    for (far_side, after) in [(false, 0), (true, 0), (false, 9), (true, 9)] {
        for faults in [
            Faults::None,
            Faults::Silence {
                after: 9 * BUFFER as u64,
            },
        ] {
            let (listeners, addresses) = listen(2);
            let proxy = Proxy::start(&addresses, faults, 1);
            // A half that was never reached ends after its wait.
            let mut short = timers();
            short.wait = 700_000_000;
            let near = SendingLink::new(proxy.addresses.clone()).timers(short);
            let far = ReceivingLink::new(listeners).timers(short);
            let (note, notes) = mpsc::channel();
            let tail = StreamTail::new(Notes(note));
            let near = pipe()
                .head(endless())
                .tail(near.stage().unwrap())
                .start()
                .unwrap();
            let far = pipe()
                .head(far.stage().unwrap())
                .tail(tail)
                .start()
                .unwrap();
            for _ in 0..after {
                notes.recv().unwrap();
            }
            while faults != Faults::None && after > 0 && notes.recv_timeout(QUIET).is_ok() {}
            let chosen = if far_side { &far } else { &near };
            chosen.canceller().cancel();
            thread::spawn(move || notes.into_iter().for_each(drop));
            let errors = [near.wait().unwrap_err(), far.wait().unwrap_err()];
            assert!(!errors[0].to_string().is_empty() && !errors[1].to_string().is_empty());
        }
    }
}

/// A writer that reports each of its writes.
struct Notes(mpsc::Sender<()>);

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn half_without_another_one_fails_after_its_wait() {
    let _turn = Turn::take();
    let mut short = timers();
    short.wait = 700_000_000;
    let (listeners, addresses) = listen(2);
    drop(listeners);
    let near = SendingLink::new(addresses.clone())
        .timers(short)
        .stage()
        .unwrap();
    let error = pipe()
        .head(endless())
        .tail(near)
        .run()
        .unwrap_err()
        .to_string();
    let expected = format!("connection 1 to {}: ", addresses[1]);
    let either = [
        expected
            .replace("1 to", "0 to")
            .replace(&addresses[1].to_string(), &addresses[0].to_string()),
        expected,
    ];
    assert!(either.iter().any(|text| error.contains(text)), "{error}");
    assert!(
        error.contains("check that the receiving half runs"),
        "{error}"
    );

    let (listeners, _) = listen(2);
    let far = ReceivingLink::new(listeners).timers(short).stage().unwrap();
    let error = pipe()
        .head(far)
        .tail(StreamTail::new(Hash::EMPTY))
        .run()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("check that the sending half runs"),
        "{error}"
    );
}

/// All connections become silent, and every later one, too: both halves give up.
#[test]
fn silent_network_fails_both_halves() {
    let _turn = Turn::take();
    let mut short = timers();
    short.wait = 1_500_000_000;
    let (listeners, addresses) = listen(2);
    let proxy = Proxy::start(&addresses, Faults::Silence { after: 0 }, 1);
    let near = SendingLink::new(proxy.addresses.clone()).timers(short);
    let far = ReceivingLink::new(listeners).timers(short);
    let (_, [near, far]) = run((near, far), 1, 40 * BUFFER, 4);
    for error in [near.unwrap_err(), far.unwrap_err()] {
        assert!(
            error
                .to_string()
                .contains("no connection to the other half for 1 s"),
            "{error}"
        );
    }
}

#[test]
fn machines_that_refuse_each_other_fail_with_the_reason() {
    let _turn = Turn::take();
    let machines = Machines::new();
    let (listeners, addresses) = listen(1);
    let mut short = timers();
    short.wait = 700_000_000;
    let other = Authority::new("another");
    let other = other.identity(&other.issue(Kind::Server, &["far.example"]));
    let near = SendingLink::new(addresses).timers(short);
    let near = near.encrypt(machines.near.clone(), "far.example");
    let far = ReceivingLink::new(listeners)
        .timers(short)
        .encrypt(other, "near.example");
    let (_, [near, far]) = run((near, far), 1, 10, 4);
    let (near, far) = (near.unwrap_err().to_string(), far.unwrap_err().to_string());
    assert!(
        near.contains("refused") && near.contains("check the certificates"),
        "{near}"
    );
    assert!(
        far.contains("receiving half of the link (127.0.0.1:"),
        "{far}"
    );
    assert!(far.contains("the other machine has refused"), "{far}");
}

#[test]
fn congestion_control_that_does_not_exist_fails_the_half_with_its_name() {
    let _turn = Turn::take();
    let (listeners, addresses) = listen(2);
    let near = SendingLink::new(addresses).congestion("no-such").stage();
    let error = pipe().head(endless()).tail(near.unwrap()).run();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("cannot set the congestion control \"no-such\""),
        "{error}"
    );
    drop(listeners);
}

/// A tail that takes nothing: the pools fill, and then the head gets no buffer.
#[test]
fn slow_tail_stops_the_head() {
    let _turn = Turn::take();
    let (listeners, addresses) = listen(2);
    let (near, far) = halves(listeners, addresses, None);
    let (permit, permits) = mpsc::channel::<()>();
    let tail = StreamTail::new(Gate(permits));
    let near = pipe()
        .head(endless())
        .tail(near.stage().unwrap())
        .start()
        .unwrap();
    let far = pipe()
        .head(far.stage().unwrap())
        .tail(tail)
        .start()
        .unwrap();
    // Both pools are used up; what the head has read is in them.
    let is_full = || near.status().free == 0 && far.status().free == 0;
    while !is_full() {
        thread::yield_now();
    }
    let bytes = || near.status().stages[0].instances[0].bytes_out;
    assert!(
        bytes() <= 8 * BUFFER as u64,
        "{} bytes are in two pools",
        bytes()
    );
    drop(permit);
    near.canceller().cancel();
    near.wait().unwrap_err();
    far.wait().unwrap_err();
}

/// A writer that waits for a permit before each write, and fails without one.
struct Gate(mpsc::Receiver<()>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let address = "192.0.2.1:7700".parse().unwrap();
    let error = SendingLink::new(vec![address])
        .stage()
        .map(drop)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("192.0.2.1:7700 is not a loopback address"),
        "{error}"
    );
    let error = SendingLink::new(Vec::new()).stage().map(drop).unwrap_err();
    assert!(matches!(error, SetupError::Connections { count: 0 }));
    let mut wrong = timers();
    wrong.ping = wrong.silence;
    let address = "127.0.0.1:7700".parse().unwrap();
    let error = SendingLink::new(vec![address])
        .timers(wrong)
        .stage()
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("2 x ping <= silence"), "{error}");
    let _turn = Turn::take();
    let (listeners, _) = listen(2);
    let error = ReceivingLink::new(listeners)
        .rate(1000)
        .stage()
        .map(drop)
        .unwrap_err();
    assert!(
        error.to_string().contains("a rate of 1000 bytes a second"),
        "{error}"
    );
}
