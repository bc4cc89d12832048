//! A key slot: the data key of a session, wrapped for one secret. 128 bytes, whose layout is fixed.
//!
//! A reader checks a slot from front to back, and takes memory only after it has compared the costs
//! with the limits, because an attacker may have written the slot.

use std::fmt;

use ctutils::CtEq;
use zeroize::Zeroizing;

use crate::limits::MAX_KEY_SLOTS;

use super::cipher::{Backend, Cipher, NONCE_LEN, TAG_LEN};
use super::cost::Argon2Cost;
use super::data_key::DataKey;
use super::derive::derive;
use super::key::Secret;
use super::key_bytes::KeyBytes;
use super::key_error::KeyError;
use super::random::fill_random;
use super::secret_kind::{KEY_LEN, SecretKind};
use super::unlock_error::UnlockError;

/// Bytes of a slot.
pub const SLOT_LEN: usize = 128;

const SALT: usize = 16;
const CHECK: usize = 48;
const WRAPPED: usize = 80;
const TAG: usize = 112;

/// Values of the field `kind`.
const KEY_FILE: u8 = 1;
const PASSPHRASE: u8 = 2;

/// Values of the field `kdf`.
const NO_KDF: u8 = 0;
const ARGON2ID: u8 = 1;

/// Purposes of the two keys derived from a secret: HKDF's `info`.
const CHECK_PURPOSE: &[u8] = b"datapipe 1 key check";
const WRAP_PURPOSE: &[u8] = b"datapipe 1 key wrap";

/// A slot's key seals one data key and nothing else, so its nonce may be fixed.
const WRAP_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// A session's data key, wrapped for one secret.
///
/// ```
/// use datapipe::crypto::{Argon2Cost, DataKey, Key, KeySlot, Passphrase, Secret, unlock};
///
/// let session_id = [7; 16];
/// let data_key = DataKey::random()?;
/// let daily = Secret::from(Passphrase::from_bytes("what the operators know")?);
/// let vault = Secret::from(Key::from_bytes([9; 32]));
/// let cost = Argon2Cost::default();
/// let slots = [
///     KeySlot::wrap(&data_key, &daily, &session_id, cost)?,
///     KeySlot::wrap(&data_key, &vault, &session_id, cost)?,
/// ];
/// // Either of the two gives the same key.
/// let same = unlock(&slots, &vault, &session_id)?;
/// # let _ = same;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeySlot([u8; SLOT_LEN]);

impl KeySlot {
    /// Wraps `data_key` for `secret`, for the session with this id. The cost matters for a
    /// passphrase only: a key file cannot be guessed.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the cost is outside of the limits, if its memory is not available, or if the
    /// system has no random numbers.
    pub fn wrap(
        data_key: &DataKey,
        secret: &Secret,
        session_id: &[u8; 16],
        cost: Argon2Cost,
    ) -> Result<Self, KeyError> {
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        Self::wrap_with_salt(data_key, secret, session_id, cost, &salt).map_err(KeyError::Wrap)
    }

    fn wrap_with_salt(
        data_key: &DataKey,
        secret: &Secret,
        session_id: &[u8; 16],
        cost: Argon2Cost,
        salt: &[u8; 32],
    ) -> Result<Self, UnlockError> {
        let mut slot = Self([0; SLOT_LEN]);
        match secret.kind() {
            SecretKind::KeyFile => slot.0[..2].copy_from_slice(&[KEY_FILE, NO_KDF]),
            SecretKind::Passphrase => {
                slot.0[..2].copy_from_slice(&[PASSPHRASE, ARGON2ID]);
                slot.0[4..8].copy_from_slice(&cost.memory_kib.to_le_bytes());
                slot.0[8..12].copy_from_slice(&cost.passes.to_le_bytes());
                slot.0[12..16].copy_from_slice(&cost.lanes.to_le_bytes());
            }
        }
        slot.0[SALT..CHECK].copy_from_slice(salt);
        let slot_key = slot.slot_key(secret)?;
        slot.0[CHECK..WRAPPED].copy_from_slice(&derive(&slot_key, salt, &[CHECK_PURPOSE])[..]);
        // It is erased by its encryption, or when it is dropped.
        let mut wrapped = Zeroizing::new(data_key.bytes().to_vec());
        let tag = slot
            .cipher(&slot_key)
            .seal(&WRAP_NONCE, &slot.covered(session_id), &mut wrapped)
            .expect("32 bytes are not too long");
        slot.0[WRAPPED..TAG].copy_from_slice(&wrapped);
        slot.0[TAG..].copy_from_slice(&tag);
        Ok(slot)
    }

    /// The slot with these bytes. They are checked when the slot is opened, so that one slot which
    /// this version does not know does not lock the others.
    pub fn from_bytes(bytes: &[u8; SLOT_LEN]) -> Self {
        Self(*bytes)
    }

    /// The slot's bytes, to be stored.
    pub fn to_bytes(&self) -> [u8; SLOT_LEN] {
        self.0
    }

    /// The kind of secret that opens this slot; `None` if this version does not know it.
    pub fn secret_kind(&self) -> Option<SecretKind> {
        match self.0[0] {
            KEY_FILE => Some(SecretKind::KeyFile),
            PASSPHRASE => Some(SecretKind::Passphrase),
            _ => None,
        }
    }

    /// Opens the slot with the secret that it was made for, in the session with this id.
    ///
    /// A passphrase takes as much memory and time as the slot demands, within the limits.
    ///
    /// # Errors
    ///
    /// See [`UnlockError`].
    pub fn open(&self, secret: &Secret, session_id: &[u8; 16]) -> Result<DataKey, UnlockError> {
        let needs = self.validate()?;
        if needs != secret.kind() {
            return Err(UnlockError::OtherKind { needs });
        }
        let slot_key = self.slot_key(secret)?;
        let check = derive(&slot_key, &self.salt(), &[CHECK_PURPOSE]);
        if !bool::from(check[..].ct_eq(&self.0[CHECK..WRAPPED])) {
            return Err(UnlockError::WrongSecret { kind: needs });
        }
        let mut data_key = KeyBytes::copy_of(&self.array(WRAPPED));
        self.cipher(&slot_key)
            .open(
                &WRAP_NONCE,
                &self.covered(session_id),
                &mut data_key[..],
                &self.array::<TAG_LEN>(TAG),
            )
            .map_err(|_| UnlockError::Damaged)?;
        Ok(DataKey::from_bytes(data_key))
    }

    /// Checks that every field has a value that this version knows, and returns the kind of secret
    /// that opens the slot. Does not check the costs of a passphrase.
    fn validate(&self) -> Result<SecretKind, UnlockError> {
        let unknown = |what, number| Err(UnlockError::Unknown { what, number });
        let Some(kind) = self.secret_kind() else {
            return unknown("kind", u32::from(self.0[0]));
        };
        let kdf = if kind == SecretKind::KeyFile {
            NO_KDF
        } else {
            ARGON2ID
        };
        if self.0[1] != kdf {
            return unknown("key derivation", u32::from(self.0[1]));
        }
        let reserved = u16::from_le_bytes(self.array(2));
        if reserved != 0 {
            return unknown("reserved field", u32::from(reserved));
        }
        let Argon2Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost();
        let given = [memory_kib, passes, lanes]
            .into_iter()
            .find(|number| *number != 0);
        match (kind, given) {
            (SecretKind::KeyFile, Some(number)) => unknown("cost for a key file", number),
            _ => Ok(kind),
        }
    }

    /// The key from which check and wrapping key are derived: the key file's 32 bytes, or the 32
    /// bytes that Argon2id derives from the passphrase.
    fn slot_key(&self, secret: &Secret) -> Result<KeyBytes, UnlockError> {
        match secret {
            Secret::Key(key) => Ok(KeyBytes::copy_of(key.bytes())),
            Secret::Passphrase(passphrase) => self.cost().stretch(passphrase, &self.salt()),
        }
    }

    /// The cipher that wraps the data key.
    fn cipher(&self, slot_key: &[u8; KEY_LEN]) -> Cipher {
        Cipher::with_key_bytes(
            &derive(slot_key, &self.salt(), &[WRAP_PURPOSE]),
            Backend::default(),
        )
    }

    /// The data that the tag covers besides the wrapped key: the session's id, and all of the slot
    /// before the wrapped key.
    fn covered(&self, session_id: &[u8; 16]) -> [u8; 16 + WRAPPED] {
        let mut covered = [0; 16 + WRAPPED];
        covered[..16].copy_from_slice(session_id);
        covered[16..].copy_from_slice(&self.0[..WRAPPED]);
        covered
    }

    fn cost(&self) -> Argon2Cost {
        let number = |at| u32::from_le_bytes(self.array(at));
        Argon2Cost {
            memory_kib: number(4),
            passes: number(8),
            lanes: number(12),
        }
    }

    fn salt(&self) -> [u8; 32] {
        self.array(SALT)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.0[at..at + N]);
        array
    }
}

impl fmt::Debug for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("KeySlot");
        out.field("kind", &self.0[0])
            .field("kdf", &self.0[1])
            .field("cost", &self.cost())
            .finish_non_exhaustive()
    }
}

/// Opens a session: returns its data key, from the first of its slots that `secret` opens.
///
/// A slot that cannot be opened, for any reason, does not lock the others.
///
/// # Errors
///
/// [`UnlockError::SlotCount`] if there is no slot, or more than [`MAX_KEY_SLOTS`]. If no slot
/// opens, the error of the slot that came nearest to opening. The order, from the nearest: a slot
/// that matches the secret but is damaged, one that could not be tried, one for another secret, one
/// that this version does not know, one for the other kind of secret.
pub fn unlock(
    slots: &[KeySlot],
    secret: &Secret,
    session_id: &[u8; 16],
) -> Result<DataKey, UnlockError> {
    let mut nearest = UnlockError::SlotCount { has: slots.len() };
    if slots.len() > MAX_KEY_SLOTS {
        return Err(nearest);
    }
    for slot in slots {
        match slot.open(secret, session_id) {
            Ok(data_key) => return Ok(data_key),
            Err(error) if error.rank() > nearest.rank() => nearest = error,
            Err(_) => {}
        }
    }
    Err(nearest)
}

#[cfg(test)]
mod tests {
    use super::super::key::{Key, Passphrase};
    use super::super::known_answers::hex;
    use super::*;

    const SESSION: [u8; 16] = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";
    /// Large enough for Argon2, and small enough for a test with many guesses.
    const CHEAP: Argon2Cost = Argon2Cost {
        memory_kib: 64,
        passes: 2,
        lanes: 4,
    };

    /// 32 bytes that count up from `first`.
    fn counting(first: u8) -> [u8; 32] {
        std::array::from_fn(|i| first + u8::try_from(i).unwrap())
    }

    fn key() -> Secret {
        Key::from_bytes(counting(0x80)).into()
    }

    fn passphrase(text: &str) -> Secret {
        Passphrase::from_bytes(text).unwrap().into()
    }

    fn data_key() -> DataKey {
        DataKey::from_bytes(KeyBytes::copy_of(&counting(0x40)))
    }

    fn slot(secret: &Secret) -> KeySlot {
        KeySlot::wrap(&data_key(), secret, &SESSION, CHEAP).unwrap()
    }

    fn flipped(slot: &KeySlot, bit: usize) -> KeySlot {
        let mut bytes = slot.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        KeySlot::from_bytes(&bytes)
    }

    fn error(slot: &KeySlot, secret: &Secret) -> UnlockError {
        slot.open(secret, &SESSION).expect_err("opened")
    }

    /// Slots that another program made from the normative page, with HKDF, Argon2id and AESGCM of
    /// Python's cryptography package. If this test fails, the format has changed.
    #[test]
    fn golden_slots() {
        let golden = |secret: &Secret, text: &str| {
            let slot = KeySlot::wrap_with_salt(&data_key(), secret, &SESSION, CHEAP, &counting(0))
                .unwrap();
            assert_eq!(slot.to_bytes().to_vec(), hex(text));
            let bytes = hex(text).try_into().unwrap();
            let opened = KeySlot::from_bytes(&bytes).open(secret, &SESSION).unwrap();
            assert_eq!(opened.bytes(), data_key().bytes());
        };
        golden(
            &key(),
            "01000000000000000000000000000000 000102030405060708090a0b0c0d0e0f
             101112131415161718191a1b1c1d1e1f 4935347365bbcf57f6b130a677f038c3
             055c9381ab5257a84a734e53a572abdd 7fc38a79f3ee7376053d63073a5f557e
             7858eb2d30eb1a7225d9247d8994e04d 7a660730f58f5a6612f2a6e2022d8f6e",
        );
        golden(
            &passphrase("correct horse battery staple"),
            "02010000400000000200000004000000 000102030405060708090a0b0c0d0e0f
             101112131415161718191a1b1c1d1e1f 8cdb87c159ff2390e9afd9b36c5027be
             ac74c8fea6e69f2b9202df63e99e8267 f39074072486655ce2d514ed4ecd09ee
             4abf745fa607dc584a1e80e3150892de 70ba00b08e84d92be595461e0a7743c5",
        );
    }

    #[test]
    fn slot_opens_with_its_secret_only() {
        let secrets = [key(), passphrase("open sesame")];
        for (at, secret) in secrets.iter().enumerate() {
            let slot = KeySlot::from_bytes(&slot(secret).to_bytes());
            assert_eq!(slot.secret_kind(), Some(secret.kind()));
            assert_eq!(
                slot.open(secret, &SESSION).unwrap().bytes(),
                data_key().bytes()
            );
            let needs = secret.kind();
            assert_eq!(
                error(&slot, &secrets[1 - at]),
                UnlockError::OtherKind { needs }
            );
        }
        let kind = SecretKind::KeyFile;
        let other = Key::from_bytes(counting(0x81)).into();
        assert_eq!(
            error(&slot(&key()), &other),
            UnlockError::WrongSecret { kind }
        );
        let kind = SecretKind::Passphrase;
        let guess = passphrase("open sesame\n");
        assert_eq!(
            error(&slot(&secrets[1]), &guess),
            UnlockError::WrongSecret { kind }
        );
    }

    #[test]
    fn slot_opens_in_its_own_session_only() {
        for bit in 0..128 {
            let mut session = SESSION;
            session[bit / 8] ^= 1 << (bit % 8);
            let other = slot(&key())
                .open(&key(), &session)
                .expect_err("opened in another session");
            assert_eq!(other, UnlockError::Damaged);
        }
    }

    #[test]
    fn wrapped_bytes_of_the_same_key_differ() {
        let (one, two) = (slot(&key()).to_bytes(), slot(&key()).to_bytes());
        assert_eq!(one[..SALT], two[..SALT]);
        for part in [SALT..CHECK, CHECK..WRAPPED, WRAPPED..TAG, TAG..SLOT_LEN] {
            assert_ne!(one[part.clone()], two[part]);
        }
    }

    #[test]
    fn key_file_slot_with_any_bit_flipped_does_not_open() {
        let slot = slot(&key());
        for bit in 0..SLOT_LEN * 8 {
            let found = error(&flipped(&slot, bit), &key());
            let expected = match bit / 8 {
                0..SALT => matches!(found, UnlockError::Unknown { .. }),
                SALT..WRAPPED => {
                    found
                        == UnlockError::WrongSecret {
                            kind: SecretKind::KeyFile,
                        }
                }
                _ => found == UnlockError::Damaged,
            };
            assert!(expected, "bit {bit}: {found}");
        }
    }

    #[test]
    fn passphrase_slot_with_any_bit_flipped_does_not_open() {
        let secret = passphrase("open sesame");
        let cost = Argon2Cost {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        };
        let slot = KeySlot::wrap(&data_key(), &secret, &SESSION, cost).unwrap();
        for bit in 0..SLOT_LEN * 8 {
            let flipped = flipped(&slot, bit);
            if flipped.cost().check().is_ok() && flipped.cost().memory_kib > 64 << 10 {
                // This cost is within the limits and takes the same path as a smaller one. The
                // test need not compute it.
                assert!(flipped.cost().memory_kib <= 1 << 20, "bit {bit}");
                continue;
            }
            let found = error(&flipped, &secret);
            let expected = match bit / 8 {
                0..4 => matches!(found, UnlockError::Unknown { .. }),
                4..16 => matches!(
                    found,
                    UnlockError::TooCostly { .. }
                        | UnlockError::TooCheap { .. }
                        | UnlockError::WrongSecret { .. }
                ),
                SALT..WRAPPED => {
                    found
                        == UnlockError::WrongSecret {
                            kind: SecretKind::Passphrase,
                        }
                }
                _ => found == UnlockError::Damaged,
            };
            assert!(expected, "bit {bit}: {found}");
        }
    }

    #[test]
    fn slot_with_the_other_kind_in_its_first_bytes_does_not_open() {
        let mut bytes = slot(&key()).to_bytes();
        bytes[..2].copy_from_slice(&[PASSPHRASE, ARGON2ID]);
        let needs = SecretKind::Passphrase;
        assert_eq!(
            error(&KeySlot::from_bytes(&bytes), &key()),
            UnlockError::OtherKind { needs }
        );
        let found = error(&KeySlot::from_bytes(&bytes), &passphrase("open sesame"));
        assert_eq!(
            found,
            UnlockError::TooCheap {
                what: "lanes",
                has: 0,
                least: 1
            }
        );
    }

    #[test]
    fn slot_cost_beyond_the_limits_is_refused_by_writer_and_reader() {
        let secret = passphrase("open sesame");
        let cost = Argon2Cost {
            memory_kib: (1 << 20) + 1,
            passes: 1,
            lanes: 1,
        };
        let text = KeySlot::wrap(&data_key(), &secret, &SESSION, cost)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("1048577 KiB") && text.contains("1048576 is the most"),
            "{text}"
        );
        let mut bytes = slot(&secret).to_bytes();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let refused = error(&KeySlot::from_bytes(&bytes), &secret);
        let most = 1 << 20;
        assert_eq!(
            refused,
            UnlockError::TooCostly {
                what: "KiB of memory",
                has: u32::MAX,
                most
            }
        );
        // A key file needs no Argon2id, so the cost is ignored.
        assert!(KeySlot::wrap(&data_key(), &key(), &SESSION, cost).is_ok());
    }

    #[test]
    fn unlock_opens_any_of_several_slots() {
        let (one, two) = (
            passphrase("open sesame"),
            passphrase("correct horse battery staple"),
        );
        let unknown = flipped(&slot(&key()), 7);
        let slots = [unknown, slot(&one), slot(&key()), slot(&two)];
        for secret in [&one, &two, &key()] {
            assert_eq!(
                unlock(&slots, secret, &SESSION).unwrap().bytes(),
                data_key().bytes()
            );
        }
    }

    #[test]
    fn unlock_returns_the_error_of_the_nearest_slot() {
        let secret = passphrase("open sesame");
        let mut costly = slot(&secret).to_bytes();
        costly[8] = 17;
        // From the farthest to the nearest.
        let slots = [
            slot(&key()),
            flipped(&slot(&key()), 7),
            slot(&passphrase("another")),
            KeySlot::from_bytes(&costly),
            flipped(&slot(&secret), 1023),
        ];
        let (kind, needs) = (SecretKind::Passphrase, SecretKind::KeyFile);
        let expected = [
            UnlockError::SlotCount { has: 0 },
            UnlockError::OtherKind { needs },
            UnlockError::Unknown {
                what: "kind",
                number: 129,
            },
            UnlockError::WrongSecret { kind },
            UnlockError::TooCostly {
                what: "passes",
                has: 17,
                most: 16,
            },
            UnlockError::Damaged,
        ];
        for (count, nearest) in expected.iter().enumerate() {
            let mut slots = slots[..count].to_vec();
            assert_eq!(unlock(&slots, &secret, &SESSION).unwrap_err(), *nearest);
            slots.reverse();
            assert_eq!(unlock(&slots, &secret, &SESSION).unwrap_err(), *nearest);
        }
        let many = vec![slot(&key()); MAX_KEY_SLOTS + 1];
        assert_eq!(
            unlock(&many, &key(), &SESSION).unwrap_err(),
            UnlockError::SlotCount { has: 9 }
        );
        assert!(unlock(&many[1..], &key(), &SESSION).is_ok());
    }

    #[test]
    fn slot_does_not_print_its_wrapped_key() {
        let text = format!("{:?}", slot(&key()));
        assert!(
            text.starts_with("KeySlot { kind: 1, kdf: 0, cost: "),
            "{text}"
        );
        assert!(text.len() < 120, "{text}");
    }
}
