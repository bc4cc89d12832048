//! Checks of the free memory and of the free inodes, before a workload uses them.

use std::error::Error;
use std::fs;

/// File system in memory that holds all data.
pub(super) const DIRECTORY: &str = "/dev/shm";

/// Memory that stays free for the programs and for the rest of the machine, in bytes.
const RESERVE: u64 = 1 << 30;

/// Checks that `files` files with `len` bytes in total fit. Looks at the file system and at the
/// machine: a file system can have more room than the machine has memory.
pub(super) fn check_space(len: u64, files: u64) -> Result<(), Box<dyn Error>> {
    let need = len + RESERVE;
    let system = rustix::fs::statvfs(DIRECTORY)?;
    if system.f_favail < files {
        return Err(format!(
            "{DIRECTORY} has room for {} files; {files} are needed",
            system.f_favail
        )
        .into());
    }
    let room = system.f_bavail.saturating_mul(system.f_frsize);
    if room < need {
        return Err(format!("{DIRECTORY} has {room} bytes free; {need} are needed").into());
    }
    let memory = available_memory()?;
    if memory < need {
        return Err(format!(
            "the machine has {memory} bytes of memory available; {need} are needed"
        )
        .into());
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
