//! Random bytes of the operating system.

use rustix::rand::{GetRandomFlags, getrandom};

use super::key_error::KeyError;

/// Fills `bytes` with random bytes that cannot be predicted.
///
/// # Errors
///
/// [`KeyError`] if the system has no random numbers.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), KeyError> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|errno| KeyError::Random(errno.into()))?;
    }
    Ok(())
}
