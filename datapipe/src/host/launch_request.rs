//! The launch request: the packet that names the instances and the stage that a process is to run,
//! with the segment's descriptor. `docs/host-protocol.md` is normative.

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
use crate::memory::{InstanceId, PipeName, Segment, StageId};
use crate::pool::AtLimit;
use crate::stage::{AllowedPath, Confinement, Module, StageKind};
use crate::wire::codec::{Bytes, DecodeError, Put};

/// Version of the protocol. Controller and host may be different programs.
const VERSION: u8 = 1;
/// Length in bytes of the longest launch request.
const MAX_LEN: usize = 256 << 10;
/// Arguments and paths have the same limit; all other fields take less than a kilobyte.
const _: () = assert!(MAX_MODULE_NAME + 2 * MAX_MODULE_ARGUMENTS + 1024 <= MAX_LEN);
/// Descriptors of a launch request: the segment's and the module's.
const MAX_DESCRIPTORS: usize = 1 + MAX_MODULE_DESCRIPTORS;

/// Flags of a launch request.
const TERMINATE_AT_LIMIT: u8 = 1;
const NAMED: u8 = 2;
const CONFINED: u8 = 4;
const PLAIN: u8 = 8;

/// The instances that a process is to run, and their stage.
#[derive(Clone, Debug)]
pub(crate) struct LaunchRequest {
    /// The first instance. Not checked: the shape of the pipe says whether it exists.
    pub(crate) first: InstanceId,
    /// Number of instances.
    pub(crate) instances: u32,
    pub(crate) at_limit: AtLimit,
    /// The stage to make and run; `None` if the process attached and has its own code.
    pub(crate) job: Option<Job>,
}

/// A stage to be made and run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Kind of the stage, as the controller knows it.
    pub(crate) kind: StageKind,
    pub(crate) module: Module,
    pub(crate) confinement: Option<Confinement>,
    /// The stage restores no owners, setuid, setgid, capabilities and devices.
    pub(crate) restores_plainly: bool,
}

/// A decoded packet, before its descriptors are assigned.
#[derive(Debug)]
struct Decoded {
    request: LaunchRequest,
    /// The segment's name, if it has one.
    segment: Option<PipeName>,
}

impl LaunchRequest {
    /// Sends the request. It waits in the socket until the process receives it.
    pub(crate) fn send(&self, control: &OwnedFd, segment: &Segment) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let of_module = self
            .job
            .iter()
            .flat_map(|job| job.module.descriptors.iter().map(AsFd::as_fd));
        let descriptors: Vec<BorrowedFd<'_>> =
            segment.descriptor().into_iter().chain(of_module).collect();
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors))
        {
            return Err(io::Error::other(format!(
                "a launch request has {} descriptors, the limit is {MAX_DESCRIPTORS}",
                descriptors.len()
            )));
        }
        let name = segment.descriptor().is_none().then(|| segment.name());
        let bytes = self.encode(name);
        rustix::net::sendmsg(
            control,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Receives a request, and maps the segment.
    pub(super) fn recv(control: &OwnedFd) -> Result<(Self, Segment), StageError> {
        let mut bytes = Zeroizing::new(vec![0; MAX_LEN]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        let received =
            rustix::net::recvmsg(control, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        // Taken before any check, so that an error closes them.
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(StageError::new(
                "the controller hung up before it sent a launch request",
            ));
        }
        let truncated = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if received.flags.intersects(truncated) {
            return Err(StageError::new(format!(
                "launch request truncated: more than {} KiB or {MAX_DESCRIPTORS} descriptors",
                MAX_LEN >> 10
            )));
        }
        let Decoded {
            mut request,
            segment,
        } = Self::decode(&bytes[..received.bytes])?;
        let mut descriptors = descriptors.into_iter();
        let segment = match segment {
            Some(name) => Segment::attach_named(&name)?,
            None => {
                let none = || StageError::new("a launch request came without a segment");
                Segment::attach(descriptors.next().ok_or_else(none)?)?
            }
        };
        if let Some(job) = &mut request.job {
            job.module.descriptors = descriptors.map(Arc::new).collect();
        }
        Ok((request, segment))
    }

    /// The result may contain a key, so it is wiped when dropped.
    fn encode(&self, segment: Option<&str>) -> Zeroizing<Vec<u8>> {
        let confinement = self.job.as_ref().and_then(|job| job.confinement.as_ref());
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.at_limit == AtLimit::Terminate, TERMINATE_AT_LIMIT)
            | flag(segment.is_some(), NAMED)
            | flag(confinement.is_some(), CONFINED)
            | flag(
                self.job.as_ref().is_some_and(|job| job.restores_plainly),
                PLAIN,
            );
        let kind = self.job.as_ref().map_or(0, |job| job.kind as u8);
        // Large enough never to move, which would leave a copy of a key.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN));
        bytes.put(&[VERSION, kind, flags]);
        bytes.put_u32(self.first.stage().get());
        bytes.put_u32(self.first.index());
        bytes.put_u32(self.instances);
        if let Some(name) = segment {
            bytes.put_prefixed(name.as_bytes());
        }
        if let Some(job) = &self.job {
            bytes.put_prefixed(job.module.name.as_bytes());
            bytes.put_prefixed(&job.module.arguments);
            if let Some(Confinement { read, write }) = &job.confinement {
                bytes.put_prefixed(&encode_paths(read));
                bytes.put_prefixed(&encode_paths(write));
            }
        }
        bytes
    }

    /// Decodes the fields in the order of `docs/host-protocol.md`. The version comes first because
    /// it decides about all others; the flags and the stage kind decide which texts follow.
    fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let mut bytes = Bytes::new("a launch request", bytes);
        let version = bytes.u8()?;
        if version != VERSION {
            return Err(bytes.error(format!(
                "has version {version}, but this program knows only {VERSION}"
            )));
        }
        let (kind, flags) = (bytes.u8()?, bytes.u8()?);
        if flags & !(TERMINATE_AT_LIMIT | NAMED | CONFINED | PLAIN) != 0 {
            return Err(bytes.error(format!(
                "has flags that this program does not know: {flags:#x}"
            )));
        }
        let first = StageId::new(bytes.u32()?).instance(bytes.u32()?);
        let instances = bytes.u32()?;
        if !(1..=MAX_INSTANCES).contains(&instances) {
            return Err(bytes.error(format!(
                "is for {instances} instances, the limits are 1 and {MAX_INSTANCES}"
            )));
        }
        let mut segment = None;
        if flags & NAMED != 0 {
            let name = bytes.prefixed()?;
            let parsed = str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse::<PipeName>().ok());
            let invalid = || bytes.error("has an invalid name of a segment".to_owned());
            segment = Some(parsed.ok_or_else(invalid)?);
        }
        let job = match kind {
            0 => None,
            kind => Some(Job::decode(kind, flags, &mut bytes)?),
        };
        bytes.end()?;
        Ok(Decoded {
            request: Self {
                first,
                instances,
                at_limit: if flags & TERMINATE_AT_LIMIT != 0 {
                    AtLimit::Terminate
                } else {
                    AtLimit::Wait
                },
                job,
            },
            segment,
        })
    }
}

impl Job {
    /// Decodes the part of a request after the segment's name.
    fn decode(kind: u8, flags: u8, bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let unknown = || bytes.error(format!("is for an unknown kind of stage, {kind}"));
        let kind = StageKind::decode(kind).ok_or_else(unknown)?;
        let len = bytes.u32()? as usize;
        let name = bytes.text(len)?;
        let arguments = Zeroizing::new(bytes.prefixed()?.to_vec());
        let mut confinement = None;
        if flags & CONFINED != 0 {
            let read = decode_paths(bytes.prefixed()?)?;
            let write = decode_paths(bytes.prefixed()?)?;
            confinement = Some(Confinement { read, write });
        }
        Ok(Self {
            kind,
            module: Module {
                name,
                arguments,
                descriptors: Vec::new(),
            },
            confinement,
            restores_plainly: flags & PLAIN != 0,
        })
    }
}

/// Encodes a list of paths, each as a text, with device and inode of its file, or zeros.
fn encode_paths(paths: &[AllowedPath]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for AllowedPath { path, file } in paths {
        bytes.put_prefixed(path.as_os_str().as_bytes());
        let (device, inode) = file.unwrap_or_default();
        bytes.put_u64s(&[device, inode]);
    }
    bytes
}

fn decode_paths(bytes: &[u8]) -> Result<Vec<AllowedPath>, DecodeError> {
    let mut bytes = Bytes::new("a list of paths in a launch request", bytes);
    let mut paths = Vec::new();
    while !bytes.rest().is_empty() {
        let path = PathBuf::from(OsStr::from_bytes(bytes.prefixed()?));
        let file = Some((bytes.u64()?, bytes.u64()?)).filter(|file| *file != (0, 0));
        paths.push(AllowedPath { path, file });
    }
    Ok(paths)
}

/// A control connection: two connected sockets, neither of which an exec passes on by accident.
pub(crate) fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::memory::{Backing, HugePages, Shape, StageShape};
    use crate::stage::CheckedPath;

    fn request() -> LaunchRequest {
        let arguments = Zeroizing::new(vec![7; MAX_MODULE_ARGUMENTS]);
        let module = Module {
            name: "x".repeat(MAX_MODULE_NAME),
            arguments,
            descriptors: Vec::new(),
        };
        let root = CheckedPath::new("/", std::fs::File::open("/").unwrap()).unwrap();
        let confinement = Some(
            Confinement::new()
                .read(["/a".into(), "/b c".into()])
                .write_checked([root]),
        );
        let job = Some(Job {
            kind: StageKind::Analyze,
            module,
            confinement,
            restores_plainly: true,
        });
        LaunchRequest {
            first: StageId::new(3).instance(2),
            instances: 4,
            at_limit: AtLimit::Terminate,
            job,
        }
    }

    fn segment(backing: Backing) -> Segment {
        let shape = Shape::builder(4, 512)
            .stages([StageShape::new(1).share(4), StageShape::new(1)])
            .build()
            .unwrap();
        Segment::create(
            &PipeName::new(),
            shape,
            &["head", "tail"],
            backing,
            HugePages::No,
        )
        .unwrap()
    }

    fn assert_same(one: &LaunchRequest, other: &LaunchRequest) {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        let module =
            |request: &LaunchRequest| request.job.as_ref().map(|job| job.module.arguments.clone());
        assert_eq!(module(one), module(other));
    }

    #[test]
    fn longest_request_arrives_with_its_descriptors() {
        let (ours, theirs) = control_pair().unwrap();
        let mut request = request();
        let files: Vec<_> = (0..MAX_MODULE_DESCRIPTORS)
            .map(|_| tempfile::tempfile().unwrap())
            .collect();
        let inodes = |request: &LaunchRequest| -> Vec<u64> {
            let given = request.job.as_ref().unwrap().module.descriptors.iter();
            given
                .map(|descriptor| rustix::fs::fstat(descriptor).unwrap().st_ino)
                .collect()
        };
        request.job.as_mut().unwrap().module.descriptors = files
            .into_iter()
            .map(|file| Arc::new(OwnedFd::from(file)))
            .collect();
        let segment = segment(Backing::Anonymous);
        request.send(&ours, &segment).unwrap();
        let (received, mapped) = LaunchRequest::recv(&theirs).unwrap();
        assert_same(
            &received,
            &LaunchRequest::decode(&request.encode(None))
                .map(|decoded| LaunchRequest {
                    job: request.job.clone(),
                    ..decoded.request
                })
                .unwrap(),
        );
        assert_eq!(
            (inodes(&received), mapped.name()),
            (inodes(&request), segment.name())
        );
    }

    #[test]
    fn named_segment_is_attached_by_its_name() {
        let (ours, theirs) = control_pair().unwrap();
        let segment = segment(Backing::Named);
        let request = LaunchRequest {
            job: None,
            ..request()
        };
        request.send(&ours, &segment).unwrap();
        let (received, mapped) = LaunchRequest::recv(&theirs).unwrap();
        assert_same(&received, &request);
        assert_eq!(mapped.name(), segment.name());
    }

    #[test]
    fn truncated_or_extended_request_is_rejected() {
        let whole = request().encode(None);
        assert_same(&LaunchRequest::decode(&whole).unwrap().request, &request());
        for len in (0..60).chain([whole.len() - 1]) {
            assert!(LaunchRequest::decode(&whole[..len]).is_err(), "{len} bytes");
        }
        let rejected = |change: &dyn Fn(&mut Vec<u8>), why: &str| {
            let mut other = whole.to_vec();
            change(&mut other);
            let error = LaunchRequest::decode(&other).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        rejected(&|bytes| bytes.push(0), "1 byte too many");
        rejected(&|bytes| bytes[0] = 9, "version 9");
        rejected(&|bytes| bytes[1] = 99, "unknown kind of stage, 99");
        rejected(&|bytes| bytes[2] |= 0x80, "flags");
        rejected(&|bytes| bytes[11] = 0, "for 0 instances");
    }

    #[test]
    fn request_without_a_segment_is_rejected() {
        let (ours, theirs) = control_pair().unwrap();
        rustix::net::send(&ours, &request().encode(None), SendFlags::NOSIGNAL).unwrap();
        assert!(
            LaunchRequest::recv(&theirs)
                .unwrap_err()
                .to_string()
                .contains("without a segment")
        );
        rustix::net::send(&ours, &request().encode(Some("../x")), SendFlags::NOSIGNAL).unwrap();
        assert!(
            LaunchRequest::recv(&theirs)
                .unwrap_err()
                .to_string()
                .contains("invalid name of a segment")
        );
        drop(ours);
        assert!(
            LaunchRequest::recv(&theirs)
                .unwrap_err()
                .to_string()
                .contains("hung up")
        );
    }

    #[test]
    fn key_in_the_arguments_is_not_printed() {
        assert!(!format!("{:?}", request()).contains("7, 7"));
    }
}
