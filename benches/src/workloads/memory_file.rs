//! An unnamed file in memory.
//!
//! Other processes open it through the descriptor of this process, as `/proc/PID/fd/N`. The kernel
//! frees the memory with that descriptor, however this process ends.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process;

use super::space::{DIRECTORY, check_space};

/// Bytes that are generated and written at once.
const CHUNK: usize = 1 << 20;

/// A file in memory that other processes can open while this value exists.
pub(super) struct MemoryFile {
    file: File,
    /// CRC-32 of the entire content.
    pub(super) crc: u32,
}

impl MemoryFile {
    /// Makes a file of `len` pseudo-random bytes, rounded up to whole MiB. They do not compress.
    pub(super) fn random(len: u64) -> Result<Self, Box<dyn Error>> {
        check_space(len, 0)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(DIRECTORY)
            .map_err(|error| format!("cannot create an unnamed file in {DIRECTORY}: {error}"))?;
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

    /// Returns the path under which other processes of the same user can open the file.
    pub(super) fn path(&self) -> OsString {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }
}

/// Returns the next number of Sebastiano Vigna's SplitMix64: two multiplications, and no pattern
/// that a compressor could use.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
