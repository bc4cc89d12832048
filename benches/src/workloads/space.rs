//! Checks of the free memory, space and inodes, before a workload uses them.

use std::error::Error;
use std::fs;
use std::path::Path;

/// File system in memory that holds all data.
pub(super) const DIRECTORY: &str = "/dev/shm";

/// Type of a file system in memory, from linux/magic.h.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Memory that stays free for the programs and for the rest of the machine, in bytes.
const RESERVE: u64 = 1 << 30;

/// Checks that `files` files with `len` bytes in total fit. Looks at the file system and at the
/// machine: a file system can have more room than the machine has memory.
pub(super) fn check_space(len: u64, files: u64) -> Result<(), Box<dyn Error>> {
    check_file_system(Path::new(DIRECTORY), len, files)?;
    let (memory, need) = (available_memory()?, len + RESERVE);
    if memory < need {
        return Err(format!(
            "the machine has {memory} bytes of memory available; {need} are needed"
        )
        .into());
    }
    Ok(())
}

/// Checks that `files` files with `len` bytes in total fit on a disk.
pub(super) fn check_disk(directory: &Path, len: u64, files: u64) -> Result<(), Box<dyn Error>> {
    let system = rustix::fs::statfs(directory)?;
    if system.f_type == TMPFS {
        let directory = directory.display();
        return Err(
            format!("{directory} is in memory; TMPDIR must be a directory on a disk").into(),
        );
    }
    check_file_system(directory, len, files)
}

fn check_file_system(directory: &Path, len: u64, files: u64) -> Result<(), Box<dyn Error>> {
    let (system, need) = (rustix::fs::statvfs(directory)?, len + RESERVE);
    let directory = directory.display();
    if system.f_favail < files {
        return Err(format!(
            "{directory} has room for {} files; {files} are needed",
            system.f_favail
        )
        .into());
    }
    let room = system.f_bavail.saturating_mul(system.f_frsize);
    if room < need {
        return Err(format!("{directory} has {room} bytes free; {need} are needed").into());
    }
    Ok(())
}

/// Reads the kernel's estimate of the memory that programs can still use, in bytes.
fn available_memory() -> Result<u64, Box<dyn Error>> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .ok_or("no MemAvailable in /proc/meminfo")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
