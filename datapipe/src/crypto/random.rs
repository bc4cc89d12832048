//! Random bytes of the operating system.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;

/// Fills `bytes` with random bytes that cannot be predicted.
///
/// # Errors
///
/// [`Error::System`] if the system has no random numbers.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).map_err(|errno| {
            Error::System {
                what: "cannot draw random numbers",
                source: errno.into(),
            }
        })?;
    }
    Ok(())
}
