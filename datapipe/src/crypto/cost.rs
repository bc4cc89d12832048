//! Argon2id (RFC 9106): what a guess at a passphrase costs, and how much of it a slot may ask for.

use std::mem::size_of;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::limits::{MAX_ARGON2_LANES, MAX_ARGON2_MEMORY_KIB, MAX_ARGON2_PASSES};

use super::key::{KEY_LEN, Passphrase};
use super::unlock_error::UnlockError;

/// Blocks of memory that Argon2 needs for each lane, of 1 KiB each.
const BLOCKS_PER_LANE: u32 = 8;

/// What Argon2id costs whoever tries a passphrase.
///
/// The default is the second option that RFC 9106 recommends: 64 MiB, 3 passes, 4 lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB: at least 8 for each lane, at most [`MAX_ARGON2_MEMORY_KIB`].
    pub memory_kib: u32,
    /// Passes over the memory, 1 to [`MAX_ARGON2_PASSES`].
    pub passes: u32,
    /// Lanes, 1 to [`MAX_ARGON2_LANES`]. They change the result, and are computed one after the
    /// other here.
    pub lanes: u32,
}

impl Default for Argon2Cost {
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
        }
    }
}

impl Argon2Cost {
    /// Compares each number with its limits. Lanes come first, because the least memory depends on
    /// them.
    ///
    /// # Errors
    ///
    /// [`UnlockError::TooCostly`] or [`UnlockError::TooCheap`], for the first number that is
    /// outside.
    pub fn check(&self) -> Result<(), UnlockError> {
        within("lanes", self.lanes, 1, MAX_ARGON2_LANES)?;
        within("passes", self.passes, 1, MAX_ARGON2_PASSES)?;
        within(
            "KiB of memory",
            self.memory_kib,
            BLOCKS_PER_LANE * self.lanes,
            MAX_ARGON2_MEMORY_KIB,
        )
    }

    /// The 32 bytes that come of a passphrase. Takes memory only after [`check`](Self::check).
    pub(super) fn stretch(
        &self,
        passphrase: &Passphrase,
        salt: &[u8; 32],
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, UnlockError> {
        self.check()?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LEN));
        let params = params.expect("the limits lie within those of Argon2");
        let memory = blocks(params.block_count());
        let mut memory = memory.ok_or(UnlockError::NoMemory {
            memory_kib: self.memory_kib,
        })?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                passphrase.bytes(),
                salt,
                key.as_mut(),
                memory.as_mut_slice(),
            )
            .expect("passphrase, salt, output and memory have lengths that Argon2 takes");
        Ok(key)
    }
}

/// So many blocks, erased when they are dropped; `None` if the system does not give them.
fn blocks(count: usize) -> Option<Zeroizing<Vec<Block>>> {
    let mut blocks = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(count).ok()?;
    blocks.resize(count, Block::new());
    Some(blocks)
}

fn within(what: &'static str, has: u32, least: u32, most: u32) -> Result<(), UnlockError> {
    if has > most {
        return Err(UnlockError::TooCostly { what, has, most });
    }
    if has < least {
        return Err(UnlockError::TooCheap { what, has, least });
    }
    Ok(())
}

const _: () = {
    assert!(size_of::<Block>() == 1024, "memory_kib counts blocks");
    assert!(
        BLOCKS_PER_LANE * MAX_ARGON2_LANES <= MAX_ARGON2_MEMORY_KIB,
        "any number of lanes can have its memory"
    );
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(memory_kib: u32, passes: u32, lanes: u32) -> Result<(), UnlockError> {
        Argon2Cost {
            memory_kib,
            passes,
            lanes,
        }
        .check()
    }

    #[test]
    fn costs_at_the_limits_are_taken_and_beyond_them_refused() {
        assert_eq!(Argon2Cost::default().check(), Ok(()));
        for (memory_kib, passes, lanes) in
            [(8, 1, 1), (128, 16, 16), (1 << 20, 16, 16), (1 << 20, 1, 1)]
        {
            assert_eq!(check(memory_kib, passes, lanes), Ok(()));
        }
        let costly = |what, has, most| Err(UnlockError::TooCostly { what, has, most });
        let cheap = |what, has, least| Err(UnlockError::TooCheap { what, has, least });
        assert_eq!(
            check((1 << 20) + 1, 1, 1),
            costly("KiB of memory", 1_048_577, 1_048_576)
        );
        assert_eq!(
            check(u32::MAX, 1, 1),
            costly("KiB of memory", u32::MAX, 1_048_576)
        );
        assert_eq!(check(64, 17, 1), costly("passes", 17, 16));
        assert_eq!(check(1 << 20, 1, 17), costly("lanes", 17, 16));
        // Eight times so many lanes would not fit 32 bits.
        assert_eq!(
            check(u32::MAX, u32::MAX, u32::MAX),
            costly("lanes", u32::MAX, 16)
        );
        assert_eq!(check(7, 1, 1), cheap("KiB of memory", 7, 8));
        assert_eq!(check(127, 1, 16), cheap("KiB of memory", 127, 128));
        assert_eq!(check(64, 0, 1), cheap("passes", 0, 1));
        assert_eq!(check(64, 1, 0), cheap("lanes", 0, 1));
    }

    #[test]
    fn costs_beyond_the_limits_are_refused_before_anything_is_computed() {
        let passphrase = Passphrase::from_bytes("open sesame").unwrap();
        let cost = Argon2Cost {
            memory_kib: u32::MAX,
            passes: 1,
            lanes: 1,
        };
        assert!(matches!(
            cost.stretch(&passphrase, &[0; 32]),
            Err(UnlockError::TooCostly { .. })
        ));
    }

    #[test]
    fn memory_that_is_not_there_is_no_abort() {
        assert!(blocks(usize::MAX).is_none());
        // More than any address space has, and less than a vector may ask for.
        assert!(blocks(usize::MAX >> 11).is_none());
        assert_eq!(blocks(64).unwrap().len(), 64);
    }
}
