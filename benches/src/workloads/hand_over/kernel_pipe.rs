//! pipe(2): the kernel copies the bytes from the writer to its own pages, and from there to the
//! reader.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};

use super::program::cycles;
use super::{BUFFER_SIZE, receiver};

/// Program of the process that reads. Its standard input is the pipe.
pub(super) const RECEIVER: &str = "processes-pipe-receiver";

/// Capacity of the pipe in bytes: the largest that an unprivileged process gets by default.
const CAPACITY: usize = 1 << 20;

pub(super) fn processes(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let cycles = cycles(arguments)?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::pipe::fcntl_setpipe_size(&writer, CAPACITY)?;
    let receiver = receiver::start(RECEIVER, reader, &[])?;
    let mut writer = File::from(writer);
    let buffer = vec![0; BUFFER_SIZE];
    for _ in 0..cycles {
        writer.write_all(&buffer)?;
    }
    drop(writer);
    receiver::wait(receiver)
}

pub(super) fn receiver(_: &[OsString]) -> Result<(), Box<dyn Error>> {
    let mut reader = File::from(receiver::take_standard_input()?);
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut received = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            n => received += n as u64,
        }
    }
    println!("{}", received / BUFFER_SIZE as u64);
    Ok(())
}
