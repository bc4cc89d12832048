//! The two threads of a connection: one reads frames, the other writes them.

use std::sync::Arc;
use std::{io, thread};

use super::dial::Transport;
use super::half::{Half, Machine};
use super::wire::{Incoming, Outgoing};
use crate::limits::MAX_EXPLANATION;
use crate::link::{ConnectionId, FRAME_HEAD_LEN, Frame, FrameDecoder, Work};

/// Longest part of a frame that the decoder wants at once, in bytes; a longer one, which is
/// skipped, comes in pieces.
const MOST_WANTED: usize = FRAME_HEAD_LEN + 2 + MAX_EXPLANATION;

/// Work with blocks, in which the two halves differ.
pub(super) trait Blocks<M, S>: Sync {
    /// Writes a block.
    fn write(
        &self,
        half: &Half<M, S>,
        id: ConnectionId,
        number: u64,
        to: &mut Outgoing,
    ) -> io::Result<()>;

    /// Handles a frame, and reads the data of its block. Returns false if the reader is to leave.
    fn read(
        &self,
        half: &Half<M, S>,
        id: ConnectionId,
        frame: Frame,
        from: &mut Incoming,
    ) -> io::Result<bool>;
}

/// Carries frames over a connection until both of its threads have left.
pub(super) fn carry<M: Machine, S: Send>(
    half: &Half<M, S>,
    index: u16,
    name: &str,
    transport: Transport,
    blocks: &impl Blocks<M, S>,
) {
    let Transport { socket, records } = transport;
    let Some(id) = half.connect(index, &socket) else {
        return;
    };
    let _leaving = Leaving { half, id };
    let (reader, writer) = records.unzip();
    let mut incoming = Incoming::new(Arc::clone(&socket), reader);
    let mut outgoing = Outgoing::new(socket, writer);
    thread::scope(|scope| {
        let write = || {
            let _closing = Closing { half, id };
            write(half, id, name, &mut outgoing, blocks);
        };
        let named = thread::Builder::new().name(format!("net {index} write"));
        if let Err(error) = named.spawn_scoped(scope, write) {
            lose(half, id, name, &format!("no thread for it: {error}"));
        }
        let _closing = Closing { half, id };
        read(half, id, name, &mut incoming, blocks);
    });
}

/// Closes the connection if one of its threads panics, so that the other one leaves, too.
struct Closing<'a, M: Machine, S> {
    half: &'a Half<M, S>,
    id: ConnectionId,
}

impl<M: Machine, S> Drop for Closing<'_, M, S> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        self.half.event(|state, now| {
            state.machine.lost(now, self.id, "its thread has panicked");
            state.shut(self.id);
        });
    }
}

/// Reports that both threads have left.
struct Leaving<'a, M: Machine, S> {
    half: &'a Half<M, S>,
    id: ConnectionId,
}

impl<M: Machine, S> Drop for Leaving<'_, M, S> {
    fn drop(&mut self) {
        self.half.event(|state, now| {
            state.machine.gone(now, self.id);
            state.shut(self.id);
        });
    }
}

fn lose<M: Machine, S>(half: &Half<M, S>, id: ConnectionId, name: &str, why: &str) {
    let why = format!("{name}: {why}");
    half.event(|state, now| state.machine.lost(now, id, &why));
}

fn write<M: Machine, S>(
    half: &Half<M, S>,
    id: ConnectionId,
    name: &str,
    outgoing: &mut Outgoing,
    blocks: &impl Blocks<M, S>,
) {
    let mut bytes = Vec::new();
    loop {
        let written = match half.work(id) {
            Work::Leave => return,
            Work::Shut => outgoing.shut(),
            Work::Data { number } => blocks.write(half, id, number, outgoing),
            Work::Frame(frame) => {
                bytes.clear();
                frame.encode(&mut bytes);
                outgoing.send(&bytes, &[])
            }
        };
        match written {
            Err(error) => lose(half, id, name, &error.to_string()),
            Ok(()) if outgoing.needs_replacing() => half.event(|state, _| state.machine.retire(id)),
            Ok(()) => {}
        }
    }
}

fn read<M: Machine, S>(
    half: &Half<M, S>,
    id: ConnectionId,
    name: &str,
    incoming: &mut Incoming,
    blocks: &impl Blocks<M, S>,
) {
    match read_frames(half, id, incoming, blocks) {
        // The other half may still send its last bytes. If they found a closed socket, the reset
        // could overtake the last frame of this half.
        Ok(true) => {
            let mut rest = [0; MOST_WANTED];
            while incoming.receive(&mut rest).is_ok_and(|count| count > 0) {}
        }
        Ok(false) => lose(half, id, name, "the other machine closed the connection"),
        Err(error) => lose(half, id, name, &error.to_string()),
    }
}

/// Reads frames until nothing that matters follows. Returns false if the connection ended before.
fn read_frames<M: Machine, S>(
    half: &Half<M, S>,
    id: ConnectionId,
    incoming: &mut Incoming,
    blocks: &impl Blocks<M, S>,
) -> io::Result<bool> {
    let mut decoder = FrameDecoder::default();
    let mut bytes = [0; MOST_WANTED];
    loop {
        let decoded = match decoder.wanted() {
            Ok(wanted) => {
                let count = incoming.receive(&mut bytes[..wanted.min(MOST_WANTED)])?;
                if count == 0 {
                    return Ok(false);
                }
                half.event(|state, now| state.machine.received(now, id));
                decoder.take(&mut &bytes[..count])
            }
            Err(violation) => Err(violation),
        };
        match decoded {
            Ok(None) => {}
            Ok(Some(frame)) => {
                if !blocks.read(half, id, frame, incoming)? {
                    return Ok(true);
                }
            }
            Err(violation) => {
                half.event(|state, now| state.machine.malformed(now, id, violation));
                return Ok(true);
            }
        }
        if incoming.needs_replacing() {
            half.event(|state, _| state.machine.retire(id));
        }
    }
}
