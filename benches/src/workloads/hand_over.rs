//! `README.md`, "hand-over".

use std::error::Error;
use std::ffi::OsString;
use std::thread;

use crossbeam_channel::bounded;
use datapipe::memory::{Backing, HugePages, PipeName, Segment, Shape, StageShape};
use datapipe::pool::{PortError, Seat};

use super::{Bound, Contest, Measure, PAIRS, Prints, Side, Task, Workload};

const BUFFERS: u32 = 64;
const BUFFER_SIZE: u32 = 4096;
const CYCLES: u64 = 5_000_000;

pub(super) const WORKLOAD: Workload = Workload {
    name: "hand-over",
    task: Task::Pairs { pairs: PAIRS, bounds: &[Bound { measure: Measure::Wall, at_most: 2.5 }], prepare },
};

fn prepare() -> Result<Contest, Box<dyn Error>> {
    let side = |name, program| Side::this(name, program, Vec::new(), Prints::Exactly(CYCLES.to_string()));
    Ok(Contest {
        ours: side("datapipe", "hand-over-datapipe")?,
        peer: side("crossbeam-channel", "hand-over-crossbeam")?,
        _material: None,
    })
}

pub(super) fn datapipe(_: &[OsString]) -> Result<(), Box<dyn Error>> {
    let stages = [StageShape::new(1, BUFFERS), StageShape::new(1, 0)];
    let shape = Shape::new(BUFFERS, BUFFER_SIZE, 0, 0, &stages)?;
    let names = ["head", "tail"];
    let segment = Segment::create(&PipeName::new(), shape, &names, Backing::Anonymous, HugePages::No)?;
    let (head, tail) = (Seat::new(&segment, 0, 0), Seat::new(&segment, 1, 0));

    let sender = move || -> Result<(), PortError> {
        let port = head.head()?;
        for _ in 0..CYCLES {
            port.send(port.alloc()?)?;
        }
        port.finish()
    };
    let receiver = move || -> Result<u64, PortError> {
        let port = tail.tail()?;
        let mut received = 0;
        while let Some(block) = port.receive()? {
            drop(block);
            received += 1;
        }
        port.finish()?;
        Ok(received)
    };
    // A side that fails must not leave the other one waiting.
    let stopping = |result: Result<u64, PortError>| result.inspect_err(|_| segment.stop());
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(|| stopping(sender().map(|()| CYCLES)));
        let received = stopping(receiver());
        (sending.join(), received)
    });
    sent.map_err(|_| "the sender panicked")??;
    println!("{}", received?);
    Ok(())
}

pub(super) fn crossbeam(_: &[OsString]) -> Result<(), Box<dyn Error>> {
    let (give_back, free) = bounded(BUFFERS as usize);
    let (send, receive) = bounded(BUFFERS as usize);
    for buffer in 0..BUFFERS as usize {
        give_back.send(buffer)?;
    }
    let received = thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..CYCLES {
                // A closed channel means that the receiver panicked, which the scope reports.
                let Ok(buffer) = free.recv() else { return };
                if send.send(buffer).is_err() {
                    return;
                }
            }
            // The channel of free buffers stays open until all of them are back.
            drop(send);
            while free.recv().is_ok() {}
        });
        let give_back = give_back; // dropped with the closure, so that the sender ends
        let mut received = 0u64;
        while let Ok(buffer) = receive.recv() {
            if give_back.send(buffer).is_err() {
                break;
            }
            received += 1;
        }
        received
    });
    println!("{received}");
    Ok(())
}
