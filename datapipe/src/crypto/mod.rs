//! Keys, and what they seal.
//!
//! ```text
//!   key file ----------------> K --+--> check    is this the right secret?
//!   passphrase --- Argon2id ---^   +--> KEK ---> opens the slot: DataKey --- one per archive ---> SubKey ---> Cipher
//! ```
//!
//! A session draws one random data key. Each [`KeySlot`] has it wrapped for one secret, so a second
//! secret costs 128 bytes and no second copy of the data, and nothing is ever sealed with what a
//! user gave. Each archive has a key of its own, derived from the data key, so that a nonce is a
//! number and a kind, and never comes twice.
//!
//! Pure: no threads, no pipes. The only files that it reads are those that have a key or a
//! passphrase in them. Does not say where in a stream slots, salts and tags lie.

mod cipher; // AES-256-GCM, by either of two implementations
mod cost; // what a guess at a passphrase costs, and who may ask for how much
mod data_key; // the key of a session, and those of its archives
mod derive; // HKDF-SHA256
mod key; // what a user unlocks with
mod key_error; // the error for keys and passphrases
mod random; // bytes that nobody can guess
mod slot; // the data key, wrapped for one secret

#[cfg(test)]
mod known_answers; // the vectors of the RFCs and of the GCM specification

pub use cipher::{Backend, Cipher, NONCE_LEN, NonceKind, TAG_LEN, TooLong, Unauthentic, nonce};
pub use cost::Argon2Cost;
pub use data_key::{DataKey, SubKey};
pub use key::{Key, Passphrase, Secret, SecretKind, others_can_read};
pub use key_error::KeyError;
pub(crate) use random::fill_random;
pub use slot::{KeySlot, SLOT_LEN, UnlockError, unlock};
