//! datapipe: a head and a tail on one segment, each with its port.

use std::error::Error;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::thread;

use datapipe::memory::{
    Backing, HugePages, InstanceId, PipeName, Segment, Shape, StageId, StageShape,
};
use datapipe::pool::{HeadPort, PortError, Seat, TailPort};

use super::program::cycles;
use super::{BUFFER_SIZE, BUFFERS, receiver};

/// Program of the process with the tail. Its standard input is the segment.
pub(super) const RECEIVER: &str = "processes-datapipe-receiver";

/// The only instances of head and tail.
const HEAD: InstanceId = StageId::HEAD.instance(0);
const TAIL: InstanceId = StageId::new(1).instance(0);

pub(super) fn threads(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let cycles = cycles(arguments)?;
    let segment = segment()?;
    let (head, tail) = (Seat::new(&segment, HEAD), Seat::new(&segment, TAIL));
    // If one side fails, the segment is stopped, so that the other side does not wait forever.
    let (sent, received) = thread::scope(|scope| {
        let sending = scope
            .spawn(|| stop_on_error(&segment, head.head().and_then(|port| send(port, cycles))));
        let received = stop_on_error(&segment, tail.tail().and_then(receive));
        (sending.join(), received)
    });
    sent.map_err(|_| "the sender panicked")??;
    println!("{}", received?);
    Ok(())
}

pub(super) fn processes(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let cycles = cycles(arguments)?;
    let segment = segment()?;
    let descriptor = segment
        .descriptor()
        .ok_or("the segment has no descriptor")?
        .try_clone_to_owned()?;
    let receiver = receiver::start(RECEIVER, descriptor, &[])?;
    let seat = Seat::new(&segment, HEAD);
    let sent = stop_on_error(&segment, seat.head().and_then(|port| send(port, cycles)));
    receiver::wait(receiver)?;
    Ok(sent?)
}

pub(super) fn receiver(_: &[OsString]) -> Result<(), Box<dyn Error>> {
    let descriptor: OwnedFd = receiver::take_standard_input()?;
    let segment = Segment::attach(descriptor)?;
    let seat = Seat::new(&segment, TAIL);
    println!(
        "{}",
        stop_on_error(&segment, seat.tail().and_then(receive))?
    );
    Ok(())
}

fn segment() -> Result<Segment, Box<dyn Error>> {
    let stages = [StageShape::new(1).share(BUFFERS), StageShape::new(1)];
    let shape = Shape::builder(BUFFERS, u32::try_from(BUFFER_SIZE)?)
        .stages(stages)
        .build()?;
    let names = ["head", "tail"];
    Ok(Segment::create(
        &PipeName::new(),
        shape,
        &names,
        Backing::Anonymous,
        HugePages::No,
    )?)
}

/// Stops the segment if `result` is an error.
fn stop_on_error<T>(segment: &Segment, result: Result<T, PortError>) -> Result<T, PortError> {
    result.inspect_err(|_| segment.stop())
}

fn send(port: HeadPort, cycles: u64) -> Result<(), PortError> {
    for _ in 0..cycles {
        port.send(port.alloc()?)?;
    }
    port.finish()
}

fn receive(port: TailPort) -> Result<u64, PortError> {
    let mut received = 0;
    while let Some(block) = port.receive()? {
        drop(block);
        received += 1;
    }
    port.finish()?;
    Ok(received)
}
