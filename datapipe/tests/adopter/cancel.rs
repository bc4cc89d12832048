//! Stopping heads and stages that do not return.
//!
//! A pipe that is not stopped hangs its test, and no test asserts a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use datapipe::pool::{Activity, Readiness};
use datapipe::prelude::*;

/// Waits until an instance of the stage at `position` has `activity`.
fn wait_for(pipe: &Pipe, position: usize, activity: Activity) {
    while pipe.status().stages[position].instances[0].activity != activity {
        thread::sleep(Duration::from_millis(1));
    }
}

fn cancel_and_wait(pipe: Pipe) {
    pipe.cancel();
    let error = pipe.wait().unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

fn discard() -> StreamTail<io::Sink> {
    StreamTail::new(io::sink())
}

#[test]
fn head_on_a_silent_descriptor_ends_when_the_pipe_is_cancelled() {
    let (pipe_in, _silent) = io::pipe().unwrap();
    let (socket_in, _peer) = UnixStream::pair().unwrap();
    for source in [OwnedFd::from(pipe_in), socket_in.into()] {
        let head = StreamHead::file(source);
        let pipe = Pipe::builder().head(head).tail(discard()).start().unwrap();
        wait_for(&pipe, 0, Activity::WaitingOutside);
        cancel_and_wait(pipe);
    }
}

#[test]
fn inline_head_on_a_silent_descriptor_ends_when_the_pipe_is_cancelled() {
    let (source, mut writer) = io::pipe().unwrap();
    writer.write_all(b"part of a block").unwrap();
    let pipe = Pipe::builder()
        .head(HeadStage::from(StreamHead::file(source)).inline())
        .tail(TailStage::from(discard()).inline())
        .start()
        .unwrap();
    wait_for(&pipe, 0, Activity::WaitingOutside);
    cancel_and_wait(pipe);
}

#[test]
fn tail_on_a_full_descriptor_ends_when_the_pipe_is_cancelled() {
    let (_pipe_out, pipe_in) = io::pipe().unwrap();
    let (_socket_out, socket_in) = UnixStream::pair().unwrap();
    for destination in [OwnedFd::from(pipe_in), socket_in.into()] {
        let pipe = Pipe::builder()
            .head(StreamHead::file(File::open("/dev/zero").unwrap()))
            .tail(StreamTail::file(destination))
            .buffers(4)
            .start()
            .unwrap();
        wait_for(&pipe, 1, Activity::WaitingOutside);
        cancel_and_wait(pipe);
    }
}

#[test]
fn slow_descriptors_carry_the_whole_stream() {
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (source, mut writer) = io::pipe().unwrap();
    let (mut reader, destination) = io::pipe().unwrap();
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            for piece in data.chunks(100_003) {
                writer.write_all(piece).unwrap();
            }
            drop(writer);
        });
        let received = scope.spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            received
        });
        let report = Pipe::builder()
            .head(StreamHead::file(source))
            .tail(StreamTail::file(destination))
            .buffer_size(64 << 10)
            .run()
            .unwrap();
        assert_eq!(report.bytes_out(), data.len() as u64);
        received.join().unwrap()
    });
    assert!(received == data);
}

#[test]
fn descriptor_without_blocking_carries_the_whole_stream() {
    let (source, mut writer) = UnixStream::pair().unwrap();
    source.set_nonblocking(true).unwrap();
    let feeder = thread::spawn(move || {
        for _ in 0..100 {
            writer.write_all(&[7; 1000]).unwrap();
            thread::yield_now();
        }
    });
    let mut received = Vec::new();
    Pipe::builder()
        .head(StreamHead::file(source))
        .tail(StreamTail::new(&mut received))
        .run()
        .unwrap();
    feeder.join().unwrap();
    assert!(received == [7; 100_000]);
}

#[test]
fn tail_whose_reader_has_gone_reports_the_byte() {
    let (reader, destination) = io::pipe().unwrap();
    drop(reader);
    let error = Pipe::builder()
        .head(StreamHead::new(&b"some data"[..]))
        .tail(StreamTail::file(destination))
        .run()
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("at byte 0") && text.contains("roken pipe"),
        "{text}"
    );
}

/// Reads the one of two sockets that has data, as a program of an adopter does.
struct TwoSockets(UnixStream, UnixStream);

impl Head for TwoSockets {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        use std::os::fd::AsFd;
        let both = [&self.0, &self.1].map(|socket| (socket.as_fd(), Readiness::Readable));
        let ready = block.stop().wait_any(&both, None)?;
        let mut socket = if ready == Some(0) { &self.0 } else { &self.1 };
        let n = socket.read(block.spare())?;
        block.grow(n)?;
        Ok(if n == 0 { Fill::End } else { Fill::Block })
    }
}

#[test]
fn head_of_an_adopter_on_several_descriptors_is_cancelled() {
    let ((first, _silent), (second, mut peer)) =
        (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    peer.write_all(b"some data").unwrap();
    let (mut received, received_end) = io::pipe().unwrap();
    let pipe = Pipe::builder()
        .head(TwoSockets(first, second))
        .tail(StreamTail::file(received_end))
        .start()
        .unwrap();
    let mut data = [0; 9];
    received.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"some data");
    wait_for(&pipe, 0, Activity::WaitingOutside);
    cancel_and_wait(pipe);
}

/// Looks at its source once an hour, for ever.
struct Hourly;

impl Head for Hourly {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        loop {
            block.stop().sleep(Duration::from_secs(3600))?;
        }
    }
}

#[test]
fn head_that_sleeps_is_cancelled() {
    let pipe = Pipe::builder()
        .head(Hourly)
        .tail(discard())
        .start()
        .unwrap();
    wait_for(&pipe, 0, Activity::WaitingOutside);
    cancel_and_wait(pipe);
}

#[test]
fn stage_that_works_for_long_is_cancelled_where_it_checks() {
    let (started, begun) = std::sync::mpsc::channel();
    let search = MiddleStage::in_place("search", move |_| {
        let started = started.clone();
        struct Search(std::sync::mpsc::Sender<()>);
        impl InPlace for Search {
            fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
                let stop = block.stop();
                let _ = self.0.send(());
                loop {
                    stop.check()?;
                    std::hint::spin_loop();
                }
            }
        }
        Search(started)
    });
    let pipe = Pipe::builder()
        .head(StreamHead::new(&b"some data"[..]))
        .stage(search)
        .tail(discard())
        .start()
        .unwrap();
    begun.recv().unwrap();
    cancel_and_wait(pipe);
}
