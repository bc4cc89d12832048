//! Bytes of a connection, with or without TLS. The two directions share only the socket, and wait
//! in its calls: another thread that shuts the socket ends them.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use crate::limits::LINK_SCRATCH;
use crate::tls::{Alert, MAX_RECORD_DATA, MAX_RECORD_LEN, Opened, TlsReader, TlsWriter};

/// Direction that sends.
pub(super) struct Outgoing {
    socket: Arc<TcpStream>,
    seal: Option<Seal>,
}

struct Seal {
    /// `None` after the end of the direction.
    writer: Option<TlsWriter>,
    scratch: Vec<u8>,
}

/// Direction that receives.
pub(super) struct Incoming {
    socket: Arc<TcpStream>,
    open: Option<Open>,
}

struct Open {
    reader: TlsReader,
    /// Bytes that were received, from `start` to `end`.
    scratch: Vec<u8>,
    start: usize,
    end: usize,
    /// Data of a record that did not fit where the caller wanted them, from `taken` to `len`.
    spill: Vec<u8>,
    taken: usize,
    len: usize,
}

impl Outgoing {
    pub(super) fn new(socket: Arc<TcpStream>, writer: Option<TlsWriter>) -> Self {
        let seal = writer.map(|writer| Seal {
            writer: Some(writer),
            scratch: vec![0; LINK_SCRATCH],
        });
        Self { socket, seal }
    }

    /// Sends `head` and `data`, all of it, straight from there or sealed.
    pub(super) fn send(&mut self, head: &[u8], data: &[u8]) -> io::Result<()> {
        let Some(Seal { writer, scratch }) = &mut self.seal else {
            return send_all(&self.socket, head, data);
        };
        let writer = writer.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut filled = 0;
        for mut part in [head, data] {
            while !part.is_empty() {
                if scratch.len() - filled < MAX_RECORD_LEN {
                    send_all(&self.socket, &scratch[..filled], &[])?;
                    filled = 0;
                }
                let sealed = writer.seal(part, &mut scratch[filled..]);
                let sealed = sealed.map_err(io::Error::other)?;
                filled += sealed.written;
                part = &part[sealed.taken..];
            }
        }
        send_all(&self.socket, &scratch[..filled], &[])
    }

    /// True if the keys of the direction have been used for long enough.
    pub(super) fn needs_replacing(&self) -> bool {
        let writer = self.seal.as_ref().and_then(|seal| seal.writer.as_ref());
        writer.is_some_and(TlsWriter::needs_replacing)
    }

    /// Ends the direction.
    pub(super) fn shut(&mut self) -> io::Result<()> {
        if let Some(Seal { writer, scratch }) = &mut self.seal
            && let Some(writer) = writer.take()
        {
            let len = writer.alert(Alert::CLOSE_NOTIFY, scratch);
            send_all(
                &self.socket,
                &scratch[..len.map_err(io::Error::other)?],
                &[],
            )?;
        }
        self.socket.shutdown(Shutdown::Write)
    }
}

fn send_all(socket: &TcpStream, mut head: &[u8], mut data: &[u8]) -> io::Result<()> {
    while !head.is_empty() || !data.is_empty() {
        let parts = [IoSlice::new(head), IoSlice::new(data)];
        let mut no_descriptors = SendAncillaryBuffer::default();
        let sent =
            retry_on_intr(|| sendmsg(socket, &parts, &mut no_descriptors, SendFlags::NOSIGNAL))?;
        let of_head = sent.min(head.len());
        head = &head[of_head..];
        data = &data[sent - of_head..];
    }
    Ok(())
}

impl Incoming {
    pub(super) fn new(socket: Arc<TcpStream>, reader: Option<TlsReader>) -> Self {
        let open = reader.map(|reader| Open {
            reader,
            scratch: vec![0; LINK_SCRATCH],
            start: 0,
            end: 0,
            // A record is opened with its type after its data.
            spill: vec![0; MAX_RECORD_DATA + 1],
            taken: 0,
            len: 0,
        });
        Self { socket, open }
    }

    /// Receives at least one byte into `out`, which is not empty; 0 at the end of the direction.
    pub(super) fn receive(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.open {
            Some(open) => open.receive(&self.socket, out),
            None => receive(&self.socket, out),
        }
    }

    /// True if the keys of the direction have been used for long enough.
    pub(super) fn needs_replacing(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.reader.needs_replacing())
    }
}

impl Open {
    fn receive(&mut self, socket: &TcpStream, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.taken < self.len {
                let count = out.len().min(self.len - self.taken);
                out[..count].copy_from_slice(&self.spill[self.taken..self.taken + count]);
                self.taken += count;
                return Ok(count);
            }
            let received = &self.scratch[self.start..self.end];
            match self.reader.open(received, out).map_err(io::Error::other)? {
                Opened::Data { consumed, len } => {
                    self.start += consumed;
                    if len > 0 {
                        return Ok(len);
                    }
                }
                Opened::NeedsRoom { .. } => {
                    let opened = self.reader.open(received, &mut self.spill);
                    match opened.map_err(io::Error::other)? {
                        Opened::Data { consumed, len } => {
                            self.start += consumed;
                            (self.taken, self.len) = (0, len);
                        }
                        _ => return Ok(0),
                    }
                }
                Opened::Incomplete { .. } => {
                    if !self.refill(socket)? {
                        return Ok(0);
                    }
                }
                Opened::Closed { .. } => return Ok(0),
            }
        }
    }

    /// Receives more bytes of the record at `start`, which has room; false at the end.
    fn refill(&mut self, socket: &TcpStream) -> io::Result<bool> {
        if self.start == self.end || self.scratch.len() - self.start < MAX_RECORD_LEN {
            self.scratch.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = receive(socket, &mut self.scratch[self.end..])?;
        self.end += count;
        Ok(count > 0)
    }
}

fn receive(socket: &TcpStream, out: &mut [u8]) -> io::Result<usize> {
    match retry_on_intr(|| recv(socket, &mut *out, RecvFlags::empty())) {
        Ok((count, _)) => Ok(count),
        // Of a shut socket, or of a peer that has closed with data in flight: the same as the end.
        Err(Errno::CONNRESET) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
