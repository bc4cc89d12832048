//! The two ends of a link: a tail that sends its blocks over several connections, and a head that
//! receives them in order. Each lends its blocks to threads, one for each connection, and each may
//! be killed at any instruction.
//!
//! Both ends have one rule: a block's number is its place in the queue of either pipe. The
//! receiving end announces how many buffers it has allocated so far, and a block is sent only if
//! its number is less; it acknowledges the number of blocks that it has sent on, and what is less
//! is freed. What a connection has not delivered when it ends goes over the others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datapipe::pool::{Bell, BlockInfo, Blocked, HeadPort, Lent, Stop, TailPort, TryError};
use datapipe::prelude::*;
use parking_lot::{Condvar, Mutex};

/// Connections of a link.
const CONNECTIONS: usize = 3;
/// Time after which a thread that waits looks if the pipe was stopped.
const LOOK: Duration = Duration::from_millis(20);

/// Flags of a block on the link.
const VACANT: u64 = 1;
/// In the place of flags: there are no more blocks, and the number is how many there were.
const END: u64 = 2;

/// Acknowledgement of the receiving end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ack {
    /// Time at which the process started, so that a later one is distinguished.
    pub(crate) incarnation: u64,
    /// Number of blocks that were sent on.
    pub(crate) next: u64,
    /// Number of buffers allocated so far.
    pub(crate) limit: u64,
    /// 1 if all blocks were sent on.
    pub(crate) is_ended: u64,
}

impl Ack {
    pub(crate) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let words = [self.incarnation, self.next, self.limit, self.is_ended];
        write_words(&mut to, words)
    }

    fn read(from: impl Read) -> io::Result<Self> {
        let [incarnation, next, limit, is_ended] = read_words(from)?;
        Ok(Self {
            incarnation,
            next,
            limit,
            is_ended,
        })
    }
}

fn write_words<const N: usize>(mut to: impl Write, words: [u64; N]) -> io::Result<()> {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    to.write_all(&bytes)
}

fn read_words<const N: usize>(mut from: impl Read) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes)?;
        *word = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

/// State that the threads of the sending end share.
#[derive(Default)]
struct Sending {
    state: Mutex<SendingState>,
    /// Rung when `state` changes for the threads of connections.
    changed: Condvar,
    bell: Bell,
}

#[derive(Default)]
struct SendingState {
    ack: Ack,
    /// Blocks that are not acknowledged.
    blocks: BTreeMap<u64, Arc<Lent>>,
    unsent: BTreeSet<u64>,
    total: Option<u64>,
}

/// Returns the tail that sends to the listener at `path`.
pub(crate) fn sending(path: PathBuf) -> TailStage<'static> {
    Stage::tail_port("send", move |port| {
        let link = Arc::new(Sending::default());
        for _ in 0..CONNECTIONS {
            let (link, path, stop) = (Arc::clone(&link), path.clone(), port.stop());
            thread::spawn(move || send_over_connections(&link, &path, &stop));
        }
        send_all(port, &link)
    })
}

/// An event for the port of the sending end.
enum ToSend {
    Block(Block),
    /// The input has ended.
    All,
    /// Everything before this number was acknowledged.
    Acknowledged(u64),
    Ended,
}

fn send_all(port: &TailPort, link: &Sending) -> Result<(), StageError> {
    port.take_vacant_blocks();
    let mut freed = 0;
    loop {
        let event = port.wait(&link.bell, None, || {
            let state = link.state.lock();
            let (ack, has_all) = (state.ack, state.total.is_some());
            drop(state);
            match ack {
                Ack { next, .. } if next > freed => Ok(ToSend::Acknowledged(next)),
                Ack { is_ended: 1, .. } => Ok(ToSend::Ended),
                _ if has_all => Err(Blocked::Outside.into()),
                _ => Ok(port.try_receive()?.map_or(ToSend::All, ToSend::Block)),
            }
        })?;
        match event {
            // A predecessor has sent it, and died before it knew that it had arrived.
            ToSend::Block(block) if block.number().get() < freed => drop(block),
            ToSend::Block(block) => {
                let number = block.number().get();
                let mut state = link.state.lock();
                state.blocks.insert(number, Arc::new(block.lend()));
                state.unsent.insert(number);
            }
            ToSend::All => {
                let total = port.received()?.get();
                link.state.lock().total = Some(total);
            }
            ToSend::Acknowledged(next) => {
                freed = next;
                let mut state = link.state.lock();
                let rest = state.blocks.split_off(&next);
                let acknowledged = std::mem::replace(&mut state.blocks, rest);
                state.unsent = state.unsent.split_off(&next);
                drop(state);
                for (number, lent) in acknowledged {
                    // A connection may still have the other half of what was sent twice.
                    match Arc::try_unwrap(lent) {
                        Ok(lent) if number % 2 == 0 => drop(port.take_back(lent)?),
                        lent => drop(lent),
                    }
                }
            }
            ToSend::Ended => return Ok(()),
        }
        link.changed.notify_all();
    }
}

/// Keeps one connection of the sending end, and makes it again whenever it ends.
fn send_over_connections(link: &Arc<Sending>, path: &PathBuf, stop: &Stop) {
    while !stop.is_stopped() && link.state.lock().ack.is_ended == 0 {
        let Ok(stream) = UnixStream::connect(path) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let mut sent = Vec::new();
        // Only an error or the end of the link ends it; either way the rest goes over another.
        let _ = send_over(link, &stream, stop, &mut sent);
        let _ = stream.shutdown(Shutdown::Both);
        let mut state = link.state.lock();
        let lost: Vec<_> = sent
            .into_iter()
            .filter(|number| state.blocks.contains_key(number))
            .collect();
        state.unsent.extend(lost);
        drop(state);
        link.changed.notify_all();
    }
}

/// Sends blocks over a connection, and notes which in `sent`.
fn send_over(
    link: &Arc<Sending>,
    stream: &UnixStream,
    stop: &Stop,
    sent: &mut Vec<u64>,
) -> io::Result<()> {
    let (link_of_acks, acks) = (Arc::clone(link), stream.try_clone()?);
    let welcome = Ack::read(stream)?;
    note_ack(link, welcome);
    let reader = thread::spawn(move || {
        while let Ok(ack) = Ack::read(&acks) {
            note_ack(&link_of_acks, ack);
        }
        link_of_acks.changed.notify_all();
    });
    let mut has_sent_end = false;
    loop {
        let mut state = link.state.lock();
        let is_current = welcome.incarnation == state.ack.incarnation;
        let limit = state.ack.limit;
        let next = state.unsent.first().copied();
        if let Some(number) = next.filter(|&number| is_current && number < limit) {
            state.unsent.remove(&number);
            let lent = state.blocks.get(&number).map(Arc::clone);
            drop(state);
            sent.push(number);
            lent.map_or(Ok(()), |lent| send_block(stream, number, &lent))?;
            continue;
        }
        if let Some(total) = state.total.filter(|_| !has_sent_end) {
            drop(state);
            write_words(stream, [END, total, 0])?;
            has_sent_end = true;
            continue;
        }
        if reader.is_finished() || stop.is_stopped() {
            return Ok(());
        }
        link.changed.wait_for(&mut state, LOOK);
    }
}

fn send_block(mut stream: &UnixStream, number: u64, block: &Lent) -> io::Result<()> {
    let flags = if block.is_vacant() { VACANT } else { 0 };
    write_words(stream, [flags, number, block.len() as u64])?;
    stream.write_all(&block.info().to_bytes())?;
    stream.write_all(block.bytes())
}

fn note_ack(link: &Sending, ack: Ack) {
    let mut state = link.state.lock();
    let old = &mut state.ack;
    if ack.incarnation >= old.incarnation {
        // A later process has other buffers, and what was promised before it is void.
        let is_later = ack.incarnation > old.incarnation;
        old.limit = if is_later {
            ack.limit
        } else {
            ack.limit.max(old.limit)
        };
        old.incarnation = ack.incarnation;
    }
    old.next = old.next.max(ack.next);
    old.is_ended |= ack.is_ended;
    drop(state);
    link.changed.notify_all();
    link.bell.ring();
}

/// State that the threads of the receiving end share.
#[derive(Default)]
struct Receiving {
    state: Mutex<ReceivingState>,
    changed: Condvar,
    bell: Bell,
}

#[derive(Default)]
struct ReceivingState {
    ack: Ack,
    /// Rooms for blocks.
    stock: Vec<Lent>,
    /// The connection on which each block arrives at present.
    claims: BTreeMap<u64, UnixStream>,
    /// Blocks that have arrived, and if they are vacant.
    filled: BTreeMap<u64, (Lent, bool)>,
    total: Option<u64>,
    connections: Vec<UnixStream>,
}

/// Returns the head that receives from the connections to `listener`.
pub(crate) fn receiving(listener: UnixListener) -> HeadStage<'static> {
    Stage::head_port("receive", move |port| {
        let link = Arc::new(Receiving::default());
        let next = port.sent()?.get();
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
        link.state.lock().ack = Ack {
            incarnation: started.as_nanos() as u64,
            next,
            limit: next,
            is_ended: 0,
        };
        let (acceptors, stop) = (Arc::clone(&link), port.stop());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (link, stop) = (Arc::clone(&acceptors), stop.clone());
                thread::spawn(move || receive_over(&link, &stream, &stop));
            }
        });
        receive_all(port, &link)
    })
}

/// An event for the port of the receiving end.
enum Arrived {
    Block(Lent, bool),
    Room(Block),
    All,
}

fn receive_all(port: &HeadPort, link: &Receiving) -> Result<(), StageError> {
    loop {
        let event = port.wait(&link.bell, None, || {
            let mut state = link.state.lock();
            let next = state.ack.next;
            if let Some((lent, is_vacant)) = state.filled.remove(&next) {
                return Ok(Arrived::Block(lent, is_vacant));
            }
            if state.total == Some(next) {
                return Ok(Arrived::All);
            }
            drop(state);
            Ok::<_, TryError>(Arrived::Room(port.try_alloc()?))
        })?;
        let mut dropped = Vec::new();
        let mut state = match event {
            Arrived::Block(lent, is_vacant) => {
                let block = port.take_back(lent)?;
                if is_vacant {
                    port.send_vacant(block)?;
                } else {
                    port.send(block)?;
                }
                let mut state = link.state.lock();
                state.ack.next += 1;
                state
            }
            Arrived::Room(block) => {
                let lent = block.lend();
                let mut state = link.state.lock();
                state.stock.push(lent);
                let rooms = state.stock.len() + state.claims.len() + state.filled.len();
                state.ack.limit = state.ack.limit.max(state.ack.next + rooms as u64);
                state
            }
            Arrived::All => {
                let mut state = link.state.lock();
                state.ack.is_ended = 1;
                dropped = std::mem::take(&mut state.stock);
                state
            }
        };
        let ack = state.ack;
        state.connections.retain(|stream| ack.write(stream).is_ok());
        drop(state);
        drop(dropped);
        link.changed.notify_all();
        if ack.is_ended == 1 {
            return Ok(());
        }
    }
}

/// Receives the blocks of a connection until it ends.
fn receive_over(link: &Receiving, stream: &UnixStream, stop: &Stop) {
    let Ok(acks) = stream.try_clone() else { return };
    let mut state = link.state.lock();
    if state.ack.write(stream).is_ok() {
        state.connections.push(acks);
    }
    drop(state);
    while let Ok([flags, number, len]) = read_words(stream) {
        let received = match flags {
            END => {
                link.state.lock().total = Some(number);
                Ok(())
            }
            _ => receive_block(link, stream, stop, (flags, number, len as usize)),
        };
        link.bell.ring();
        if received.is_err() {
            break;
        }
    }
    // The sending end must notice it, although others have the connection, too.
    let _ = stream.shutdown(Shutdown::Both);
}

fn receive_block(
    link: &Receiving,
    mut stream: &UnixStream,
    stop: &Stop,
    (flags, number, len): (u64, u64, usize),
) -> io::Result<()> {
    let claimed = claim(link, stream, stop, number)?;
    let Some(mut lent) = claimed else {
        // It has come before, over another connection.
        io::copy(&mut stream.take(64 + len as u64), &mut io::sink())?;
        return Ok(());
    };
    let mut fill = || {
        let mut info = [0; 64];
        stream.read_exact(&mut info)?;
        stream.read_exact(lent.grow(len).map_err(io::Error::other)?)?;
        lent.set_info(BlockInfo::from_bytes(info));
        Ok(())
    };
    let filled = fill();
    let mut state = link.state.lock();
    state.claims.remove(&number);
    if filled.is_ok() {
        state.filled.insert(number, (lent, flags == VACANT));
    }
    // Otherwise the room is dropped: the port frees it, and allocates another one.
    drop(state);
    link.changed.notify_all();
    filled
}

/// Takes a room for a block. Returns none if the block has arrived. A block that is under way over
/// another connection was given up there by the sending end.
fn claim(
    link: &Receiving,
    stream: &UnixStream,
    stop: &Stop,
    number: u64,
) -> io::Result<Option<Lent>> {
    let mut state = link.state.lock();
    loop {
        if number < state.ack.next || state.filled.contains_key(&number) {
            return Ok(None);
        }
        match state.claims.get(&number) {
            Some(other) => other.shutdown(Shutdown::Both)?,
            None => {
                if let Some(lent) = state.stock.pop() {
                    state.claims.insert(number, stream.try_clone()?);
                    return Ok(Some(lent));
                }
            }
        }
        stop.check().map_err(io::Error::other)?;
        link.changed.wait_for(&mut state, LOOK);
    }
}
