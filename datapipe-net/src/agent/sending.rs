//! The parent of the sending half: it lends its blocks to the writers, and frees what the receiving
//! half has sent on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use std::{io, thread};

use datapipe::StageError;
use datapipe::pool::{Block, BlockInfo, Blocked, Lent, TailPort, TryError};

use super::carry::{Blocks, carry};
use super::dial::{DialError, dial};
use super::error::{AgentError, LinkSide};
use super::half::Half;
use super::settings::{SendingLink, settings, stopped};
use super::wire::{Incoming, Outgoing};
use crate::link::{
    Allowance, ConnectionId, DataHead, Frame, LinkError, Sender, StopCode, StopReason,
};

/// Blocks that were not freed yet, from the number `first` on.
struct Lending {
    first: u64,
    blocks: VecDeque<Arc<Lent>>,
}

type SendingHalf = Half<Sender, Lending>;

/// Runs the half until its link is over.
pub(super) fn run(port: &TailPort, link: SendingLink) -> Result<(), StageError> {
    port.take_vacant_blocks();
    port.take_control_blocks();
    let first = port.received()?.get();
    let connections = link.addresses.len();
    let settings = settings(connections, link.timers);
    let blocks = VecDeque::new();
    let half = &SendingHalf::new(connections, Lending { first, blocks }, |now| {
        Sender::new(now, settings, first, first)
    })?;
    thread::scope(|scope| {
        let _end = Ending(half);
        for index in 0..settings.connections {
            let link = &link;
            let named = thread::Builder::new().name(format!("net {index}"));
            named.spawn_scoped(scope, move || keep(half, link, index))?;
        }
        let outcome = send_all(port, half);
        if outcome.as_ref().is_err_and(StageError::is_stopped) {
            let text = stopped(LinkSide::Sending);
            let reason = StopReason::new(StopCode::FAILED, text);
            half.event(|state, now| state.machine.stop(now, reason));
            half.await_over();
        }
        Ok(outcome?.map_err(|reason| AgentError {
            side: LinkSide::Sending,
            addresses: link.addresses.clone(),
            reason,
        })?)
    })
}

/// Ends the threads of connections when the parent has ended.
struct Ending<'a>(&'a SendingHalf);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let text = "its parent has ended";
        let reason = || LinkError::StoppedHere(StopReason::new(StopCode::FAILED, text));
        self.0.abandon(reason);
    }
}

/// An event for the parent.
enum ToSend {
    Block(Block),
    /// The stream of this pipe has ended.
    End,
    Free(u64),
    Tick,
    Over(Result<(), LinkError>),
}

fn send_all(port: &TailPort, half: &SendingHalf) -> Result<Result<(), LinkError>, StageError> {
    loop {
        let deadline = half.plan();
        let event = port.wait(&half.bell, deadline, || next_event(port, half, deadline));
        match event {
            Ok(ToSend::Block(block)) => {
                let lent = Arc::new(block.lend());
                half.event(|state, _| {
                    state.store.blocks.push_back(lent);
                    state.machine.block();
                });
            }
            Ok(ToSend::End) => half.event(|state, now| state.machine.end(now)),
            Ok(ToSend::Free(below)) => {
                let freed: Vec<_> = half.event(|state, _| {
                    let count = below - state.store.first;
                    state.store.first = below;
                    state.store.blocks.drain(..count as usize).collect()
                });
                for block in freed {
                    // A writer has its block until it asks for other work, and the machine frees
                    // none before.
                    let lent = Arc::try_unwrap(block)
                        .map_err(|_| io::Error::other("a block that is freed is being sent"))?;
                    drop(port.take_back(lent)?);
                }
            }
            Ok(ToSend::Over(outcome)) => return Ok(outcome),
            Ok(ToSend::Tick) | Err(TryError::Blocked(_)) => {
                half.event(|state, now| state.machine.tick(now));
            }
            Err(TryError::Port(error)) => return Err(error.into()),
        }
    }
}

fn next_event(
    port: &TailPort,
    half: &SendingHalf,
    deadline: Option<Instant>,
) -> Result<ToSend, TryError> {
    let (ready, wants) = half.event(|state, now| {
        let ready = if state.free_below > state.store.first {
            Some(ToSend::Free(state.free_below))
        } else if let Some(outcome) = &state.over {
            Some(ToSend::Over(outcome.clone()))
        } else {
            (state.machine.timeout() <= now).then_some(ToSend::Tick)
        };
        (ready, state.machine.wants())
    });
    match ready {
        Some(event) => Ok(event),
        // The time that is waited for has become an earlier one.
        None if half.plan() < deadline => Ok(ToSend::Tick),
        None if wants => Ok(port.try_receive()?.map_or(ToSend::End, ToSend::Block)),
        None => Err(Blocked::Outside.into()),
    }
}

/// Keeps one connection: dials it again whenever it has ended.
fn keep(half: &SendingHalf, link: &SendingLink, index: u16) {
    let address = link.addresses[usize::from(index)];
    let name = format!("connection {index} to {address}");
    while half.await_dial(index) {
        match dial(address, link, &half.halt) {
            Ok(transport) => carry(half, index, &name, transport, &Writes),
            Err(DialError::Unreachable(why)) => {
                let why = format!("{name}: {why}");
                half.event(|state, now| state.machine.unreachable(now, index, &why));
            }
            Err(DialError::Here(why)) => {
                let why = format!("{name}: {why}");
                let reason = StopReason::new(StopCode::FAILED, why);
                half.event(|state, now| state.machine.stop(now, reason));
            }
            Err(DialError::Refused(why)) => {
                let why = format!("{name}: {why}");
                half.event(|state, now| state.machine.refused(now, &why));
            }
        }
    }
}

/// Writes blocks, and reads frames without data.
struct Writes;

impl Blocks<Sender, Lending> for Writes {
    fn write(
        &self,
        half: &SendingHalf,
        id: ConnectionId,
        number: u64,
        to: &mut Outgoing,
    ) -> io::Result<()> {
        let lent = half.event(|state, _| {
            let at = number.checked_sub(state.store.first);
            at.and_then(|at| state.store.blocks.get(at as usize).cloned())
        });
        let lent = lent.ok_or_else(|| io::Error::other(format!("block {number} is freed")))?;
        let info = Some(lent.info()).filter(|info| *info != BlockInfo::default());
        let mut head = Vec::new();
        Frame::Data(DataHead {
            number,
            vacant: lent.is_vacant(),
            info: info.map(BlockInfo::to_bytes),
            len: u32::try_from(lent.len()).expect("a buffer has at most 1 GiB"),
        })
        .encode(&mut head);
        let mut rest = lent.bytes();
        if rest.is_empty() {
            return to.send(&head, rest);
        }
        while !rest.is_empty() {
            let wanted = rest.len() as u64;
            match half.event(|state, now| state.machine.allowance(now, wanted)) {
                Allowance::Now(bytes) => {
                    let (piece, later) = rest.split_at(rest.len().min(bytes as usize));
                    to.send(&head, piece)?;
                    head.clear();
                    rest = later;
                }
                Allowance::At(time) if half.await_time(id, time) => {}
                Allowance::At(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(())
    }

    fn read(
        &self,
        half: &SendingHalf,
        id: ConnectionId,
        frame: Frame,
        _: &mut Incoming,
    ) -> io::Result<bool> {
        Ok(half.event(|state, now| state.machine.frame(now, id, frame)))
    }
}
