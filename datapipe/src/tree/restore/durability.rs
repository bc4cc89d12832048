//! Ways in which file systems report that data did not reach stable storage.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{FsWord, fstatfs};
use rustix::io::{Errno, Result, retry_on_intr};

/// Way in which a file system reports failed writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// It is in memory only: there is nothing to wait for.
    Memory,
    /// `syncfs` reports a failed write of any file.
    BySyncfs,
    /// Perhaps only `fsync` or `close` of the file itself: network file systems, FUSE, overlays.
    EachFile,
}

const TMPFS: FsWord = 0x0102_1994;
const RAMFS: FsWord = 0x8584_58f6;
/// File systems whose `syncfs` reports failed writes: ext2 to ext4, XFS, Btrfs, F2FS, bcachefs.
const REPORT_BY_SYNCFS: [FsWord; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e];

impl Durability {
    /// Way of the file system that has an open object.
    pub(super) fn of(fd: impl AsFd) -> Self {
        let Ok(kind) = fstatfs(fd).map(|stat| stat.f_type) else {
            return Self::EachFile;
        };
        match kind {
            TMPFS | RAMFS => Self::Memory,
            kind if REPORT_BY_SYNCFS.contains(&kind) && has_reporting_syncfs() => Self::BySyncfs,
            _ => Self::EachFile,
        }
    }
}

/// True if the kernel's `syncfs` reports failed writes: since Linux 5.8.
fn has_reporting_syncfs() -> bool {
    let name = rustix::system::uname();
    name.release().to_str().is_ok_and(is_reporting_release)
}

fn is_reporting_release(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 8)
}

/// Brings a file to stable storage.
pub(super) fn sync(file: &File) -> Result<()> {
    match retry_on_intr(|| rustix::fs::fsync(file)) {
        // The file system cannot sync.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Closes a file. A file system may report a failed write only here. On Linux a descriptor is
/// closed even if the call was interrupted.
pub(super) fn close(file: File) -> Result<()> {
    match nix::unistd::close(file) {
        Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(Errno::from_raw_os_error(error as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for release in ["5.8", "5.8.0-rc1", "5.10.1", "6.1.0-13-amd64", "10.0"] {
            assert!(is_reporting_release(release), "{release}");
        }
        for release in ["5.7.19", "4.19.0", "", "linux"] {
            assert!(!is_reporting_release(release), "{release}");
        }
    }

    #[test]
    fn proc_is_not_known_to_report() {
        let proc = File::open("/proc").unwrap();
        assert_eq!(Durability::of(&proc), Durability::EachFile);
    }
}
