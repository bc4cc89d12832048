//! Argon2id (RFC 9106): the cost of one guess at a passphrase, and the most that a slot may demand.

use std::mem::size_of;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::limits::{MAX_ARGON2_LANES, MAX_ARGON2_MEMORY_KIB, MAX_ARGON2_PASSES};

use super::clean_stack::on_clean_stack;
use super::key::Passphrase;
use super::key_bytes::KeyBytes;
use super::secret_kind::KEY_LEN;
use super::unlock_error::UnlockError;

/// Blocks of 1 KiB that Argon2 needs for each lane.
const BLOCKS_PER_LANE: u32 = 8;

/// Cost of Argon2id for each passphrase that a user or an attacker tries.
///
/// The default is the second option that RFC 9106 recommends: 64 MiB, 3 passes, 4 lanes.
///
/// Exhaustive: Argon2id has these three cost parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Argon2Cost {
    /// Memory in KiB: at least 8 for each lane, at most [`MAX_ARGON2_MEMORY_KIB`].
    pub memory_kib: u32,
    /// Passes over the memory, 1 to [`MAX_ARGON2_PASSES`].
    pub passes: u32,
    /// Lanes, 1 to [`MAX_ARGON2_LANES`]. They change the result; this library computes them one
    /// after the other.
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
    /// Compares each number with its limits. Lanes come first, because the smallest memory depends
    /// on them.
    ///
    /// # Errors
    ///
    /// [`UnlockError::TooCostly`] or [`UnlockError::TooCheap`], for the first number outside of its
    /// limits.
    pub fn check(&self) -> Result<(), UnlockError> {
        check_range("lanes", self.lanes, 1, MAX_ARGON2_LANES)?;
        check_range("passes", self.passes, 1, MAX_ARGON2_PASSES)?;
        check_range(
            "KiB of memory",
            self.memory_kib,
            BLOCKS_PER_LANE * self.lanes,
            MAX_ARGON2_MEMORY_KIB,
        )
    }

    /// Derives 32 bytes from a passphrase. Takes memory only after [`check`](Self::check).
    pub(super) fn stretch(
        &self,
        passphrase: &Passphrase,
        salt: &[u8; 32],
    ) -> Result<KeyBytes, UnlockError> {
        self.check()?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LEN));
        let params = params.expect("our limits are within those of Argon2");
        let memory = allocate_blocks(params.block_count());
        let mut memory = memory.ok_or(UnlockError::NoMemory {
            memory_kib: self.memory_kib,
        })?;
        let mut key = KeyBytes::zeros();
        let stretched = on_clean_stack(|| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
                passphrase.bytes(),
                salt,
                &mut key[..],
                memory.as_mut_slice(),
            )
        });
        stretched.expect("passphrase, salt, output and memory have lengths that Argon2 takes");
        Ok(key)
    }
}

/// Allocates `count` blocks, which are erased when they are dropped; `None` if the system refuses.
fn allocate_blocks(count: usize) -> Option<Zeroizing<Vec<Block>>> {
    let mut blocks = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(count).ok()?;
    blocks.resize(count, Block::new());
    Some(blocks)
}

/// Refuses a number outside of `least..=most`.
fn check_range(what: &'static str, has: u32, least: u32, most: u32) -> Result<(), UnlockError> {
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
    fn argon2_cost_is_accepted_up_to_its_limits() {
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
        // Eight times this number of lanes would overflow 32 bits.
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
    fn argon2_cost_beyond_the_limits_is_refused_before_memory_is_taken() {
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
    fn refused_memory_does_not_abort() {
        assert!(allocate_blocks(usize::MAX).is_none());
        // More than any address space has, and less than a vector may request.
        assert!(allocate_blocks(usize::MAX >> 11).is_none());
        assert_eq!(allocate_blocks(64).unwrap().len(), 64);
    }
}
