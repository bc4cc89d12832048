//! The parent of the receiving half: it lends its rooms to the readers, and sends on the blocks in
//! the order of their numbers.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Instant;
use std::{io, thread};

use datapipe::StageError;
use datapipe::pool::{Block, BlockInfo, Blocked, HeadPort, Lent, NoRoom, TryError};
use parking_lot::Mutex;

use super::carry::{Blocks, carry};
use super::dial::{accept, secure};
use super::error::{AgentError, LinkSide};
use super::half::Half;
use super::settings::{ReceivingLink, settings, stopped};
use super::wire::{Incoming, Outgoing};
use crate::link::{
    ConnectionId, DataHead, Frame, LinkError, Reading, Receiver, StopCode, StopReason,
};

/// Bytes of a block that are thrown away at a time.
const DISCARDED: usize = 64 << 10;

/// Rooms for blocks, and blocks that have arrived, with true for those that are vacant.
#[derive(Default)]
struct Rooms {
    stock: Vec<Lent>,
    arrived: BTreeMap<u64, (Lent, bool)>,
}

type ReceivingHalf = Half<Receiver, Rooms>;

/// Runs the half until its link is over.
pub(super) fn run(port: &HeadPort, link: ReceivingLink) -> Result<(), StageError> {
    let next = port.sent()?.get();
    let connections = link.addresses.len();
    let settings = settings(connections, link.timers);
    let mut first = port.alloc()?;
    let most = room(&mut first)?;
    let half = &ReceivingHalf::new(connections, Rooms::default(), |now| {
        Receiver::new(now, settings, next, false, most)
    })?;
    half.event(|state, _| {
        state.store.stock.push(first.lend());
        state.machine.stocked(true);
        state.machine.set_rate(link.rate)
    })?;
    thread::scope(|scope| {
        let _end = Ending(half);
        let link = &link;
        let named = thread::Builder::new().name("net accept".to_owned());
        named.spawn_scoped(scope, move || accept_all(half, link))?;
        let outcome = receive_all(port, half);
        if outcome.as_ref().is_err_and(StageError::is_stopped) {
            let text = stopped(LinkSide::Receiving);
            let reason = StopReason::new(StopCode::FAILED, text);
            half.event(|state, now| state.machine.stop(now, reason));
            half.await_over();
        }
        Ok(outcome?.map_err(|reason| AgentError {
            side: LinkSide::Receiving,
            addresses: link.addresses.clone(),
            reason,
        })?)
    })
}

/// Ends the threads of connections when the parent has ended.
struct Ending<'a>(&'a ReceivingHalf);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let text = "its parent has ended";
        let reason = || LinkError::StoppedHere(StopReason::new(StopCode::FAILED, text));
        self.0.abandon(reason);
    }
}

/// Bytes that any buffer has room for, headroom and tailroom included.
fn room(block: &mut Block) -> Result<u32, StageError> {
    let after = block
        .grow(usize::MAX)
        .map_or_else(|none| none.available, |all| all.len());
    let before = block.grow_front(usize::MAX);
    let before = before.map_or_else(|none| none.available, |all| all.len());
    Ok(u32::try_from(before + after)?)
}

/// Makes room for the data of a block, which begin before the end of the headroom only if they
/// would not fit otherwise.
fn make_room(lent: &mut Lent, len: usize) -> Result<(), NoRoom> {
    lent.clear();
    if let Err(NoRoom { available, .. }) = lent.grow(len) {
        lent.grow(available)?;
        lent.grow_front(len - available)?;
    }
    Ok(())
}

/// An event for the parent.
enum Arrived {
    Block(Lent, bool),
    Room(Block),
    /// All blocks of the stream were sent on.
    All,
    Tick,
    Over(Result<(), LinkError>),
}

fn receive_all(port: &HeadPort, half: &ReceivingHalf) -> Result<Result<(), LinkError>, StageError> {
    loop {
        let deadline = half.plan();
        let mut waited = false;
        let event = port.wait(&half.bell, deadline, || {
            next_event(port, half, deadline, &mut waited)
        });
        match event {
            Ok(Arrived::Block(lent, is_vacant)) => {
                let block = port.take_back(lent)?;
                if is_vacant {
                    port.send_vacant(block)?;
                } else {
                    port.send(block)?;
                }
                half.event(|state, _| state.machine.sent_on());
            }
            Ok(Arrived::Room(block)) => {
                let lent = block.lend();
                half.event(|state, _| {
                    state.store.stock.push(lent);
                    state.machine.stocked(waited);
                });
            }
            Ok(Arrived::All) => {
                let stock = half.event(|state, _| std::mem::take(&mut state.store.stock));
                for lent in stock {
                    drop(port.take_back(lent)?);
                }
                port.end()?;
                half.event(|state, now| state.machine.completed(now));
            }
            Ok(Arrived::Over(outcome)) => return Ok(outcome),
            Ok(Arrived::Tick) | Err(TryError::Blocked(_)) => {
                half.event(|state, now| state.machine.tick(now));
            }
            Err(TryError::Port(error)) => return Err(error.into()),
        }
    }
}

fn next_event(
    port: &HeadPort,
    half: &ReceivingHalf,
    deadline: Option<Instant>,
    waited: &mut bool,
) -> Result<Arrived, TryError> {
    let (ready, wants) = half.event(|state, now| {
        let arrived = state.machine.ready().then(|| state.machine.next());
        let arrived = arrived.and_then(|next| state.store.arrived.remove(&next));
        let ready = if let Some((lent, is_vacant)) = arrived {
            Some(Arrived::Block(lent, is_vacant))
        } else if let Some(outcome) = &state.over {
            Some(Arrived::Over(outcome.clone()))
        } else if state.machine.is_complete() {
            Some(Arrived::All)
        } else {
            (state.machine.timeout() <= now).then_some(Arrived::Tick)
        };
        (ready, state.machine.wants_buffer())
    });
    match ready {
        Some(event) => Ok(event),
        // The time that is waited for has become an earlier one.
        None if half.plan() < deadline => Ok(Arrived::Tick),
        None if wants => match port.try_alloc() {
            Ok(block) => Ok(Arrived::Room(block)),
            Err(error) => {
                *waited = true;
                Err(error)
            }
        },
        None => Err(Blocked::Outside.into()),
    }
}

/// Accepts connections until the link is over. Those beyond twice the number that the link takes
/// are closed: each may have a successor before its loss is noticed, or be in its handshake.
fn accept_all(half: &ReceivingHalf, link: &ReceivingLink) {
    let (threads, most) = (&Mutex::new(0), 4 * link.listeners.len());
    thread::scope(|scope| {
        while let Some((index, socket)) = accept(&link.listeners, &half.halt) {
            if *threads.lock() >= most {
                continue;
            }
            *threads.lock() += 1;
            let named = thread::Builder::new().name(format!("net {index}"));
            let keep = move || {
                serve(half, link, index, socket);
                *threads.lock() -= 1;
            };
            if named.spawn_scoped(scope, keep).is_err() {
                *threads.lock() -= 1;
            }
        }
    });
}

/// Serves a connection until it ends.
fn serve(half: &ReceivingHalf, link: &ReceivingLink, index: u16, socket: TcpStream) {
    let address = link.addresses[usize::from(index)];
    let name = format!("connection {index} at {address}");
    match secure(socket, link.peer.as_ref(), &half.halt) {
        Ok(transport) => carry(half, index, &name, transport, &Reads),
        Err(error) => {
            let why = format!("{name}: {error}");
            half.event(|state, _| state.machine.unreachable(&why));
        }
    }
}

/// Reads blocks.
struct Reads;

impl Blocks<Receiver, Rooms> for Reads {
    fn write(
        &self,
        _: &ReceivingHalf,
        _: ConnectionId,
        _: u64,
        _: &mut Outgoing,
    ) -> io::Result<()> {
        // The machine of a receiving half never asks for it. An error costs one connection.
        Err(io::Error::other("a receiving half writes no blocks"))
    }

    fn read(
        &self,
        half: &ReceivingHalf,
        id: ConnectionId,
        frame: Frame,
        from: &mut Incoming,
    ) -> io::Result<bool> {
        loop {
            let (reading, room) = half.event(|state, now| {
                let reading = state.machine.frame(now, id, &frame);
                let takes = reading == Reading::Take;
                let room = takes.then(|| state.store.stock.pop());
                (reading, room.flatten())
            });
            match (reading, room, &frame) {
                (Reading::Leave, ..) => return Ok(false),
                (Reading::Wait(_), ..) => {
                    if !half.await_resume(id) {
                        return Ok(false);
                    }
                    continue;
                }
                (Reading::Take, Some(room), Frame::Data(head)) => {
                    take(half, id, head, room, from)?;
                }
                (Reading::Discard, _, Frame::Data(head)) => discard(half, id, head, from)?,
                _ => {}
            }
            return Ok(true);
        }
    }
}

/// Receives the data of a block into a room. If that fails, the room is empty again.
fn take(
    half: &ReceivingHalf,
    id: ConnectionId,
    head: &DataHead,
    mut room: Lent,
    from: &mut Incoming,
) -> io::Result<()> {
    let made = make_room(&mut room, head.len as usize).map_err(io::Error::other);
    let filled = made.and_then(|()| fill(half, id, room.bytes_mut(), from));
    if filled.is_err() {
        room.clear();
        half.event(|state, _| state.store.stock.push(room));
        return filled;
    }
    if let Some(info) = head.info {
        room.set_info(BlockInfo::from_bytes(info));
    }
    half.event(|state, now| {
        state.store.arrived.insert(head.number, (room, head.vacant));
        state.machine.filled(now, id);
    });
    Ok(())
}

/// Receives exactly as many bytes as `out` has.
fn fill(
    half: &ReceivingHalf,
    id: ConnectionId,
    mut out: &mut [u8],
    from: &mut Incoming,
) -> io::Result<()> {
    while !out.is_empty() {
        let count = from.receive(out)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out = &mut out[count..];
        half.event(|state, now| state.machine.received(now, id));
    }
    Ok(())
}

fn discard(
    half: &ReceivingHalf,
    id: ConnectionId,
    head: &DataHead,
    from: &mut Incoming,
) -> io::Result<()> {
    let mut rest = head.len as usize;
    let mut trash = vec![0; DISCARDED.min(rest)];
    while rest > 0 {
        let len = rest.min(DISCARDED);
        fill(half, id, &mut trash[..len], from)?;
        rest -= len;
    }
    Ok(())
}
