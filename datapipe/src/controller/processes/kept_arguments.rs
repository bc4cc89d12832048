//! Arguments of a module while its pipe runs. They may contain a key, and the controller needs them
//! again only for a process that it starts later, so they are outside of its memory: in a file of
//! the kernel that is not mapped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

/// Arguments of a module.
#[derive(Debug)]
pub(super) struct KeptArguments {
    /// `None` if they are empty.
    file: Option<File>,
    len: usize,
}

impl KeptArguments {
    /// Keeps a copy of `arguments`.
    pub(super) fn new(arguments: &[u8]) -> io::Result<Self> {
        let mut file = None;
        if !arguments.is_empty() {
            let memory = memfd_create("datapipe-arguments", MemfdFlags::CLOEXEC)?;
            let memory = file.insert(File::from(memory));
            memory.write_all_at(arguments, 0)?;
        }
        Ok(Self {
            file,
            len: arguments.len(),
        })
    }

    /// Returns a copy, which is erased when it is dropped.
    pub(super) fn read(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut arguments = Zeroizing::new(vec![0; self.len]);
        if let Some(file) = &self.file {
            file.read_exact_at(&mut arguments, 0)?;
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn kept_arguments_are_read_any_number_of_times() {
        for arguments in [&b""[..], b"level", &[7; 70_000]] {
            let kept = KeptArguments::new(arguments).unwrap();
            assert_eq!(kept.read().unwrap().as_slice(), arguments);
            assert_eq!(kept.read().unwrap().as_slice(), arguments);
        }
    }
}
