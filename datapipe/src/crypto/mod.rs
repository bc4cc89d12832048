//! Keys, key slots and the cipher.
//!
//! ```text
//!   key file ----------------> K --+--> check    is this the right secret?
//!   passphrase ---- Argon2id --^   +--> KEK ---> opens the slot: DataKey
//!   key pair ------ X25519 ----^                       |
//!                                                      +--- one per archive ---> SubKey --> Cipher
//! ```
//!
//! A random data key is drawn. Each [`KeySlot`] has it wrapped for one secret or one [`Recipient`].
//! So a second secret costs 128 bytes and no second copy of the data, and a user's secret never
//! seals data itself. Each archive has a key of its own, derived from the data key. So a nonce can
//! consist of a number and a kind, and is never used twice.
//!
//! The module is pure: no threads, no pipes. The only files that it reads are those of keys,
//! passphrases, identities and recipients. It does not define where slots, salts and tags are
//! stored in a stream; the format does.

mod cipher; // AES-256-GCM, by either of two implementations
mod clean_stack; // work that leaves no key on the stack
mod core_dumps; // dumps of a process that has keys
mod cost; // the cost of Argon2id, and its limits
mod data_key; // the data key, and the keys of archives
mod derive; // HKDF-SHA256
mod exchange; // X25519
mod key; // the secrets of a user: key file, passphrase
mod key_bytes; // the bytes of a key, erased when it is dropped
mod key_error; // errors of keys and passphrases
mod random; // random bytes of the operating system
mod recipient; // public keys, and the identities that belong to them
mod secret_kind; // kinds of secrets, and the length of keys
mod slot; // the data key, wrapped for one secret
mod text_key; // the text form of the keys of a pair
#[allow(unsafe_code, reason = "advises the kernel about pages of the heap")]
mod undumped; // values that are left out of core dumps
mod unlock_error; // reasons why a slot does not open
#[allow(unsafe_code, reason = "clears registers, which has no safe form")]
mod vector_registers; // round keys that a thread has in its registers

#[cfg(test)]
mod known_answers; // vectors of the RFCs and of the GCM specification

pub use cipher::Backend;
#[doc(hidden)]
pub use cipher::{Cipher, NONCE_LEN, TAG_LEN, TooLong, Unauthentic, nonce};
pub use core_dumps::prevent_core_dumps;
pub use cost::Argon2Cost;
#[doc(hidden)]
pub use data_key::{DataKey, KEY_ID_LEN, SubKey};
pub use key::{Key, Passphrase, Secret, others_can_change, others_can_read};
pub use key_error::KeyError;
pub(crate) use random::fill_random;
pub use recipient::{Identity, Recipient};
pub use secret_kind::SecretKind;
pub(crate) use slot::unlock_slot;
#[doc(hidden)]
pub use slot::{KeySlot, SLOT_LEN, unlock};
pub use text_key::{TextKey, TextKeyDefect};
pub use unlock_error::UnlockError;
