//! What a process is to do: one packet over a pair of sockets, and the segment with it.
//! `docs/host-protocol.md` is normative.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use zeroize::Zeroizing;

use crate::error::StageError;
use crate::limits::{MAX_INSTANCES, MAX_MODULE_ARGUMENTS, MAX_MODULE_DESCRIPTORS, MAX_MODULE_NAME};
use crate::memory::{PipeName, Segment};
use crate::stage::{Confinement, Module, StageKind};
use crate::wire::codec::{Bytes, DecodeError, Put, len_u32};

/// Of the packets. Controller and host may be different programs.
const VERSION: u8 = 1;
/// Longest order.
const MAX_ORDER: usize = 256 << 10;
/// Arguments and paths are limited alike; what else there is takes less than a kilobyte.
const _: () = assert!(MAX_MODULE_NAME + 2 * MAX_MODULE_ARGUMENTS + 1024 <= MAX_ORDER);

/// Flags of an order.
const TERMINATE_AT_LIMIT: u8 = 1;
const NAMED: u8 = 2;
const CONFINED: u8 = 4;

/// What a process is to do.
#[derive(Clone, Debug)]
pub(crate) struct LaunchRequest {
    pub(crate) stage: u32,
    /// The first instance, and how many.
    pub(crate) instance: u32,
    pub(crate) instances: u32,
    pub(crate) terminate_at_limit: bool,
    /// What to run there; nothing if that is for the process to decide, which attached.
    pub(crate) job: Option<Job>,
}

/// A stage to be made and run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// As the controller knows the stage.
    pub(crate) work: StageKind,
    pub(crate) module: Module,
    pub(crate) confinement: Option<Confinement>,
}

/// What an order says before what its descriptors are is known.
#[derive(Debug)]
struct Read {
    order: LaunchRequest,
    /// The segment's name, if it has one.
    segment: Option<PipeName>,
}

impl LaunchRequest {
    /// There may be a key in it.
    fn encode(&self, segment: Option<&str>) -> Zeroizing<Vec<u8>> {
        let confinement = self.job.as_ref().and_then(|job| job.confinement.as_ref());
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.terminate_at_limit, TERMINATE_AT_LIMIT)
            | flag(segment.is_some(), NAMED)
            | flag(confinement.is_some(), CONFINED);
        let work = self.job.as_ref().map_or(0, |job| job.work as u8);
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ORDER)); // never moved
        bytes.put(&[VERSION, work, flags]);
        bytes.put_u32(self.stage);
        bytes.put_u32(self.instance);
        bytes.put_u32(self.instances);
        let mut text = |text: &[u8]| {
            bytes.put_u32(len_u32(text.len()));
            bytes.put(text);
        };
        if let Some(name) = segment {
            text(name.as_bytes());
        }
        if let Some(Job {
            module,
            confinement,
            ..
        }) = &self.job
        {
            text(module.name.as_bytes());
            text(&module.arguments);
            for paths in confinement
                .iter()
                .flat_map(|allowed| [&allowed.read, &allowed.write])
            {
                text(&list(paths));
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Read, DecodeError> {
        let mut bytes = Bytes::new("an order", bytes);
        let version = bytes.u8()?;
        if version != VERSION {
            return Err(bytes.error(format!(
                "has version {version}, but this program knows {VERSION} only"
            )));
        }
        let (work, flags) = (bytes.u8()?, bytes.u8()?);
        if flags & !(TERMINATE_AT_LIMIT | NAMED | CONFINED) != 0 {
            return Err(bytes.error(format!(
                "has flags that this program does not know: {flags:#x}"
            )));
        }
        let (stage, instance, instances) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        if !(1..=MAX_INSTANCES).contains(&instances) {
            return Err(bytes.error(format!("is for {instances} instances")));
        }
        let mut segment = None;
        if flags & NAMED != 0 {
            let name = text(&mut bytes)?;
            let parsed = str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse::<PipeName>().ok());
            segment = Some(parsed.ok_or_else(|| bytes.error("names no segment".to_owned()))?);
        }
        let mut job = None;
        if work != 0 {
            let unknown = || bytes.error(format!("is for an unknown kind of work, {work}"));
            let work = StageKind::decode(work).ok_or_else(unknown)?;
            let len = bytes.u32()? as usize;
            let name = bytes.text(len)?;
            let arguments = Zeroizing::new(text(&mut bytes)?.to_vec());
            let mut confinement = None;
            if flags & CONFINED != 0 {
                let read = paths(text(&mut bytes)?)?;
                confinement = Some(Confinement {
                    read,
                    write: paths(text(&mut bytes)?)?,
                });
            }
            let module = Module {
                name,
                arguments,
                descriptors: Vec::new(),
            };
            job = Some(Job {
                work,
                module,
                confinement,
            });
        }
        bytes.end()?;
        let terminate_at_limit = flags & TERMINATE_AT_LIMIT != 0;
        Ok(Read {
            order: Self {
                stage,
                instance,
                instances,
                terminate_at_limit,
                job,
            },
            segment,
        })
    }
}

/// Bytes behind their length.
fn text<'b>(bytes: &mut Bytes<'b>) -> Result<&'b [u8], DecodeError> {
    let len = bytes.u32()? as usize;
    bytes.take(len)
}

/// Paths behind each other, each behind its length.
fn list(paths: &[PathBuf]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        let path = path.as_os_str().as_bytes();
        bytes.put_u32(len_u32(path.len()));
        bytes.put(path);
    }
    bytes
}

fn paths(bytes: &[u8]) -> Result<Vec<PathBuf>, DecodeError> {
    let mut bytes = Bytes::new("a list of paths in an order", bytes);
    let mut paths = Vec::new();
    while !bytes.rest().is_empty() {
        paths.push(PathBuf::from(OsStr::from_bytes(text(&mut bytes)?)));
    }
    Ok(paths)
}

/// Two connected ends, neither of which another program gets by accident.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Gives an order. It waits in the socket until the process takes it.
pub(crate) fn give(control: &OwnedFd, order: &LaunchRequest, segment: &Segment) -> io::Result<()> {
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1 + MAX_MODULE_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let job = order.job.iter();
    let given = job.flat_map(|job| {
        job.module
            .descriptors
            .iter()
            .map(|descriptor| descriptor.as_fd())
    });
    let descriptors: Vec<BorrowedFd<'_>> = segment.descriptor().into_iter().chain(given).collect();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    let name = segment.descriptor().is_none().then(|| segment.name());
    let bytes = order.encode(name);
    rustix::net::sendmsg(
        control,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes the order, and maps the segment.
pub(super) fn take(control: &OwnedFd) -> Result<(LaunchRequest, Segment), StageError> {
    let mut bytes = Zeroizing::new(vec![0; MAX_ORDER]);
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1 + MAX_MODULE_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(control, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if got.bytes == 0 {
        return Err(StageError::new(
            "the controller hung up before it gave an order",
        ));
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(StageError::new(
            "an order is longer than any, or has more descriptors",
        ));
    }
    let Read { mut order, segment } = LaunchRequest::decode(&bytes[..got.bytes])?;
    let mut descriptors = descriptors.into_iter();
    let segment = match segment {
        Some(name) => Segment::attach_named(&name)?,
        None => {
            let none = || StageError::new("an order came without a segment");
            Segment::attach(descriptors.next().ok_or_else(none)?)?
        }
    };
    if let Some(job) = &mut order.job {
        job.module.descriptors = descriptors.map(Arc::new).collect();
    }
    Ok((order, segment))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::memory::{Backing, HugePages, Shape, StageShape};

    fn order() -> LaunchRequest {
        let arguments = Zeroizing::new(vec![7; MAX_MODULE_ARGUMENTS]);
        let module = Module {
            name: "x".repeat(MAX_MODULE_NAME),
            arguments,
            descriptors: Vec::new(),
        };
        let confinement = Some(Confinement {
            read: vec!["/a".into(), "/b c".into()],
            write: vec!["/".into()],
        });
        let job = Some(Job {
            work: StageKind::Analyze,
            module,
            confinement,
        });
        LaunchRequest {
            stage: 3,
            instance: 2,
            instances: 4,
            terminate_at_limit: true,
            job,
        }
    }

    fn segment(backing: Backing) -> Segment {
        let stage = |share| StageShape {
            instances: 1,
            share,
            numbered: false,
        };
        let shape = Shape::new(4, 512, 0, 0, &[stage(4), stage(0)]).unwrap();
        Segment::create(
            &PipeName::new(),
            shape,
            &["head", "tail"],
            backing,
            HugePages::No,
        )
        .unwrap()
    }

    fn same(one: &LaunchRequest, other: &LaunchRequest) {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        let module =
            |order: &LaunchRequest| order.job.as_ref().map(|job| job.module.arguments.clone());
        assert_eq!(module(one), module(other));
    }

    #[test]
    fn the_longest_order_and_its_descriptors_arrive() {
        let (ours, theirs) = pair().unwrap();
        let mut order = order();
        let files: Vec<_> = (0..MAX_MODULE_DESCRIPTORS)
            .map(|_| tempfile::tempfile().unwrap())
            .collect();
        let inodes = |order: &LaunchRequest| -> Vec<u64> {
            let given = order.job.as_ref().unwrap().module.descriptors.iter();
            given
                .map(|descriptor| rustix::fs::fstat(descriptor).unwrap().st_ino)
                .collect()
        };
        order.job.as_mut().unwrap().module.descriptors = files
            .into_iter()
            .map(|file| Arc::new(OwnedFd::from(file)))
            .collect();
        let segment = segment(Backing::Anonymous);
        give(&ours, &order, &segment).unwrap();
        let (got, mapped) = take(&theirs).unwrap();
        same(
            &got,
            &LaunchRequest::decode(&order.encode(None))
                .map(|read| LaunchRequest {
                    job: order.job.clone(),
                    ..read.order
                })
                .unwrap(),
        );
        assert_eq!(
            (inodes(&got), mapped.name()),
            (inodes(&order), segment.name())
        );
    }

    #[test]
    fn a_named_segment_is_found_by_its_name() {
        let (ours, theirs) = pair().unwrap();
        let segment = segment(Backing::Named);
        let order = LaunchRequest {
            job: None,
            ..order()
        };
        give(&ours, &order, &segment).unwrap();
        let (got, mapped) = take(&theirs).unwrap();
        same(&got, &order);
        assert_eq!(mapped.name(), segment.name());
    }

    #[test]
    fn orders_that_are_cut_or_longer_are_refused() {
        let whole = order().encode(None);
        same(&LaunchRequest::decode(&whole).unwrap().order, &order());
        for len in (0..60).chain([whole.len() - 1]) {
            assert!(LaunchRequest::decode(&whole[..len]).is_err(), "{len} bytes");
        }
        let refused = |change: &dyn Fn(&mut Vec<u8>), why: &str| {
            let mut other = whole.to_vec();
            change(&mut other);
            let error = LaunchRequest::decode(&other).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(&|bytes| bytes.push(0), "1 bytes too many");
        refused(&|bytes| bytes[0] = 9, "version 9");
        refused(&|bytes| bytes[1] = 99, "unknown kind of work, 99");
        refused(&|bytes| bytes[2] |= 0x80, "flags");
        refused(&|bytes| bytes[11] = 0, "for 0 instances");
    }

    #[test]
    fn an_order_without_a_segment_is_refused() {
        let (ours, theirs) = pair().unwrap();
        rustix::net::send(&ours, &order().encode(None), SendFlags::NOSIGNAL).unwrap();
        assert!(
            take(&theirs)
                .unwrap_err()
                .to_string()
                .contains("without a segment")
        );
        rustix::net::send(&ours, &order().encode(Some("../x")), SendFlags::NOSIGNAL).unwrap();
        assert!(
            take(&theirs)
                .unwrap_err()
                .to_string()
                .contains("names no segment")
        );
        drop(ours);
        assert!(take(&theirs).unwrap_err().to_string().contains("hung up"));
    }

    #[test]
    fn keys_are_not_printed() {
        assert!(!format!("{:?}", order()).contains("7, 7"));
    }
}
