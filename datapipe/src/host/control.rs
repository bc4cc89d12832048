//! Orders and reports: one packet each, over a pair of sockets. The order brings the segment's descriptor along.
//!
//! What the other side says is checked like anything from outside. That it hangs up says nothing about its life.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::{Corrupt, StageError};
use crate::limits::{MAX_FAILURE_TEXT, MAX_MODULE_ARGUMENTS, MAX_MODULE_NAME};
use crate::pool::PortError;
use crate::stage::Module;
use crate::wire::codec::{Bytes, Malformed, Put, cut, len_u16, len_u32};

/// Of the packets. Controller and host may be different programs.
const VERSION: u8 = 1;
/// Bytes of an order's fields of fixed size, and more.
const ORDER_FIELDS: usize = 64;

/// What an instance in a process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) stage: u32,
    pub(crate) instance: u32,
    pub(crate) terminate_at_limit: bool,
    /// Of the stage as the controller knows it: [`MiddleStage::kind`](crate::stage::MiddleStage::kind).
    pub(crate) kind: u8,
    pub(crate) module: Module,
}

impl Order {
    fn encode(&self) -> Vec<u8> {
        let Module { name, arguments } = &self.module;
        let mut bytes = vec![VERSION, self.kind, u8::from(self.terminate_at_limit)];
        bytes.put_u32(self.stage);
        bytes.put_u32(self.instance);
        bytes.put_u16(len_u16(name.len()));
        bytes.put(name.as_bytes());
        bytes.put_u32(len_u32(arguments.len()));
        bytes.put(arguments);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Bytes::new("an order", bytes);
        let version = bytes.u8()?;
        if version != VERSION {
            return Err(bytes.wrong(format!("has version {version}, but this host knows {VERSION} only")));
        }
        let kind = bytes.u8()?;
        let terminate_at_limit = bytes.u8()? != 0;
        let (stage, instance) = (bytes.u32()?, bytes.u32()?);
        let len = usize::from(bytes.u16()?);
        let name = bytes.text(len)?;
        let len = bytes.u32()? as usize;
        let arguments = bytes.take(len)?.to_vec();
        bytes.end()?;
        Ok(Self { stage, instance, terminate_at_limit, kind, module: Module { name, arguments } })
    }
}

/// Two connected ends, neither of which another program gets by accident.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Gives an order. It waits in the socket until the process takes it.
pub(crate) fn give(control: &OwnedFd, order: &Order, segment: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [segment];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    rustix::net::sendmsg(control, &[IoSlice::new(&order.encode())], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes the order, and the segment's descriptor.
pub(super) fn take(control: &OwnedFd) -> Result<(Order, OwnedFd), StageError> {
    let mut bytes = vec![0; ORDER_FIELDS + MAX_MODULE_NAME + MAX_MODULE_ARGUMENTS];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(control, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let order = Order::decode(&bytes[..got.bytes])?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    let descriptor = descriptor.ok_or_else(|| StageError::new("an order came without a segment"))?;
    Ok((order, descriptor))
}

const ENDED: u8 = 0;
const FAILED: u8 = 1;
const PANICKED: u8 = 2;
const STOPPED: u8 = 3;
const CORRUPT: u8 = 4;
/// A queue or a buffer that a report does not name.
const NONE: u32 = u32::MAX;
/// Bytes of a report before its text: its kind, and the queue and the buffer of a contradiction.
const REPORT_FIELDS: usize = 9;

/// Reports how the instance ended.
pub(super) fn tell(control: &OwnedFd, result: &Result<(), StageError>) {
    let (kind, text, queue, buffer) = match result {
        Ok(()) => (ENDED, String::new(), None, None),
        Err(error) if error.is_stopped() => (STOPPED, String::new(), None, None),
        Err(error) => match (error.corrupt().map(Corrupt::parts), error.panic_message()) {
            (Some((what, queue, buffer)), _) => (CORRUPT, what.to_owned(), queue, buffer),
            (_, Some(message)) => (PANICKED, message.to_owned(), None, None),
            _ => (FAILED, error.to_string(), None, None),
        },
    };
    let mut bytes = vec![kind];
    bytes.put_u32(queue.unwrap_or(NONE));
    bytes.put_u32(buffer.unwrap_or(NONE));
    bytes.put(cut(&text, MAX_FAILURE_TEXT).as_bytes());
    // A controller that does not listen any more has died, and this process is about to.
    let _ = rustix::net::send(control, &bytes, SendFlags::NOSIGNAL);
}

/// What a process that is dead has reported: nothing if it did not come to that.
pub(crate) fn told(control: &OwnedFd) -> Option<Result<(), StageError>> {
    let mut bytes = vec![0; REPORT_FIELDS + MAX_FAILURE_TEXT];
    let (_, len) = rustix::net::recv(control.as_fd(), &mut bytes[..], RecvFlags::DONTWAIT).ok()?;
    let report = bytes.get(..len).filter(|report| !report.is_empty())?; // nothing means that it has hung up
    Some(decode_report(report).unwrap_or_else(|malformed| Err(malformed.into())))
}

fn decode_report(bytes: &[u8]) -> Result<Result<(), StageError>, Malformed> {
    let mut bytes = Bytes::new("what its process reported", bytes);
    let (kind, queue, buffer) = (bytes.u8()?, bytes.u32()?, bytes.u32()?);
    let text = String::from_utf8_lossy(bytes.rest()).into_owned();
    Ok(match kind {
        ENDED => Ok(()),
        FAILED => Err(StageError::new(text)),
        PANICKED => Err(StageError::panicked(text)),
        STOPPED => Err(PortError::Stopped.into()),
        CORRUPT => {
            let corrupt = Corrupt::new(text);
            let corrupt = if queue == NONE { corrupt } else { corrupt.at_queue(queue) };
            let corrupt = if buffer == NONE { corrupt } else { corrupt.at_buffer(buffer) };
            Err(PortError::Corrupt(corrupt).into())
        }
        _ => return Err(bytes.wrong(format!("is of an unknown kind, {kind}"))),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn order() -> Order {
        let module = Module { name: "x".repeat(MAX_MODULE_NAME), arguments: vec![7; MAX_MODULE_ARGUMENTS] };
        Order { stage: 3, instance: 2, terminate_at_limit: true, kind: 4, module }
    }

    #[test]
    fn the_longest_order_and_its_descriptor_arrive() {
        let (ours, theirs) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        give(&ours, &order(), file.as_fd()).unwrap();
        let (got, descriptor) = take(&theirs).unwrap();
        assert_eq!(got, order());
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(descriptor.as_fd()), inode(file.as_fd()));
    }

    #[test]
    fn orders_that_are_cut_or_longer_are_refused() {
        let whole = order().encode();
        assert_eq!(Order::decode(&whole).unwrap(), order());
        for len in (0..40).chain([whole.len() - 1]) {
            assert!(Order::decode(&whole[..len]).is_err(), "{len} bytes");
        }
        assert!(
            Order::decode(&[&whole[..], &[0]].concat()).unwrap_err().to_string().contains("1 bytes too many")
        );
        let mut other = whole;
        other[0] = 9;
        assert!(Order::decode(&other).unwrap_err().to_string().contains("version 9"));
    }

    #[test]
    fn an_order_without_a_segment_is_refused() {
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, &order().encode(), SendFlags::NOSIGNAL).unwrap();
        assert!(take(&theirs).unwrap_err().to_string().contains("without a segment"));
        drop(ours);
        assert!(take(&theirs).is_err(), "a controller that has hung up");
    }

    #[test]
    fn reports_arrive_as_they_were_meant() {
        let report = |result| {
            let (ours, theirs) = pair().unwrap();
            tell(&theirs, &result);
            drop(theirs);
            told(&ours)
        };
        assert!(report(Ok(())).unwrap().is_ok());
        assert!(report(Err(PortError::Stopped.into())).unwrap().unwrap_err().is_stopped());
        let panic = report(Err(StageError::panicked("ouch".to_owned()))).unwrap().unwrap_err();
        assert!(panic.is_panic() && panic.to_string() == "panicked: ouch");
        let long = report(Err(StageError::new("é".repeat(MAX_FAILURE_TEXT)))).unwrap().unwrap_err();
        assert_eq!(long.to_string(), "é".repeat(MAX_FAILURE_TEXT / 2));
        for corrupt in [Corrupt::new("a"), Corrupt::new("b").at_queue(1), Corrupt::new("c").at_buffer(0)] {
            let error = report(Err(PortError::Corrupt(corrupt.clone()).into())).unwrap().unwrap_err();
            assert_eq!(error.corrupt(), Some(&corrupt));
        }
        let (ours, theirs) = pair().unwrap();
        assert!(told(&ours).is_none(), "nothing yet");
        for (bytes, why) in [(&[77; 9][..], "unknown kind, 77"), (&[0], "ends 4 bytes too early")] {
            rustix::net::send(&theirs, bytes, SendFlags::NOSIGNAL).unwrap();
            let error = told(&ours).unwrap().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        drop(theirs);
        assert!(told(&ours).is_none(), "a hang-up is no report");
    }
}
