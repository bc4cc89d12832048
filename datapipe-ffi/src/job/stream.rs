//! Streams that the caller's functions read and write.

use std::io::{self, Read, Write};

/// Reads by a function of the caller. It gets a buffer, and returns the bytes that it has put
/// there, 0 at the end, or a negative error number of the system.
pub(crate) struct CallbackReader<F>(pub(crate) F);

impl<F: FnMut(&mut [u8]) -> i64> Read for CallbackReader<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let answer = (self.0)(bytes);
        checked(answer, bytes.len(), "the read function")
    }
}

/// Writes by a function of the caller. It gets bytes, and returns how many it has taken, or a
/// negative error number of the system.
pub(crate) struct CallbackWriter<F>(pub(crate) F);

impl<F: FnMut(&[u8]) -> i64> Write for CallbackWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let answer = (self.0)(bytes);
        checked(answer, bytes.len(), "the write function")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the answer of a function about `len` bytes.
fn checked(answer: i64, len: usize, name: &str) -> io::Result<usize> {
    match usize::try_from(answer) {
        Ok(count) if count <= len => Ok(count),
        Ok(count) => Err(io::Error::other(format!(
            "{name} has returned {count}, but had {len} bytes"
        ))),
        Err(_) => {
            let errno = answer
                .checked_neg()
                .and_then(|errno| i32::try_from(errno).ok());
            Err(match errno {
                Some(errno @ 1..4096) => io::Error::from_raw_os_error(errno),
                _ => io::Error::other(format!(
                    "{name} has returned {answer}, which is not a negative error number"
                )),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn answers_out_of_range_are_errors() {
        let mut bytes = [0; 4];
        let mut read = |answer| CallbackReader(|_: &mut [u8]| answer).read(&mut bytes);
        assert_eq!(read(4).unwrap(), 4);
        assert_eq!(read(0).unwrap(), 0);
        assert_eq!(read(-5).unwrap_err().raw_os_error(), Some(5));
        assert!(read(5).unwrap_err().to_string().contains("had 4 bytes"));
        for answer in [i64::MIN, -4096, i64::MAX] {
            assert_eq!(read(answer).unwrap_err().raw_os_error(), None, "{answer}");
        }
    }
}
