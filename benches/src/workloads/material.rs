//! Data in memory that leaves nothing behind.
//!
//! The file has no name: it is reached through the descriptor of this process, as `/proc/PID/fd/N`,
//! and the memory goes back to the machine with that descriptor, however this process ends.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process;

/// Where the memory is.
pub(super) const DIRECTORY: &str = "/dev/shm";

/// Memory that is left to the programs, and to everybody else on the machine.
const RESERVE: u64 = 1 << 30;

const CHUNK: usize = 1 << 20;

/// A file in memory that other processes can open while this value lives.
pub(super) struct MemoryFile {
    file: File,
    /// CRC-32 of the whole content.
    pub(super) crc: u32,
}

impl MemoryFile {
    /// A file of `len` bytes, rounded up to whole MiB, that look random and do not compress.
    pub(super) fn random(len: u64) -> Result<Self, Box<dyn Error>> {
        check_room(len, 0)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(DIRECTORY)
            .map_err(|error| format!("cannot make an unnamed file in {DIRECTORY}: {error}"))?;
        let mut chunk = vec![0; CHUNK];
        let mut hasher = crc32fast::Hasher::new();
        let mut state = 0;
        for _ in 0..len.div_ceil(CHUNK as u64) {
            for word in chunk.chunks_exact_mut(8) {
                word.copy_from_slice(&split_mix(&mut state).to_le_bytes());
            }
            hasher.update(&chunk);
            file.write_all(&chunk)
                .map_err(|error| format!("cannot fill {DIRECTORY}: {error}"))?;
        }
        Ok(Self {
            file,
            crc: hasher.finalize(),
        })
    }

    /// Path under which other processes of the same user can open the file.
    pub(super) fn path(&self) -> OsString {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }
}

/// Looks at the file system and at the machine, for `len` bytes in so many `files`: an ample file
/// system may lie in a machine that is full.
pub(super) fn check_room(len: u64, files: u64) -> Result<(), Box<dyn Error>> {
    let need = len + RESERVE;
    let system = rustix::fs::statvfs(DIRECTORY)?;
    if system.f_favail < files {
        return Err(format!(
            "{DIRECTORY} has room for {} files, and {files} are needed",
            system.f_favail
        )
        .into());
    }
    let room = system.f_bavail.saturating_mul(system.f_frsize);
    if room < need {
        return Err(format!("{DIRECTORY} has room for {room} bytes, and {need} are needed").into());
    }
    let memory = available_memory()?;
    if memory < need {
        return Err(format!(
            "the machine has {memory} bytes of memory available, and {need} are needed"
        )
        .into());
    }
    Ok(())
}

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

/// Sebastiano Vigna's SplitMix64: one multiplication more than nothing, and no pattern a compressor
/// could use.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
