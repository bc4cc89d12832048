//! A key slot: the data key of a session, wrapped for one secret. 128 bytes, whose layout is fixed.
//!
//! A slot is judged from its front to its back, and memory is taken only once its costs were
//! compared with the limits: whoever wrote it may have been anybody.

use std::fmt;

use ctutils::CtEq;
use zeroize::Zeroizing;

use crate::limits::MAX_KEY_SLOTS;

use super::cipher::{Backend, Cipher, NONCE_LEN, TAG_LEN};
use super::cost::Argon2Cost;
use super::data_key::DataKey;
use super::derive::derive;
use super::key::{KEY_LEN, Secret, SecretKind};
use super::key_error::KeyError;
use super::random::fill_random;

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

/// What is derived from a secret, and for what: HKDF's `info`.
const CHECK_PURPOSE: &[u8] = b"datapipe 1 key check";
const WRAP_PURPOSE: &[u8] = b"datapipe 1 key wrap";

/// A slot's key seals this once and nothing else, so its nonce may be fixed.
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
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeySlot([u8; SLOT_LEN]);

impl KeySlot {
    /// Wraps `data_key` for `secret`, for the session with this id. The cost matters for a
    /// passphrase only: nobody can guess a key file.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the cost is outside of the limits, if there is no such memory, or if the
    /// system has no random numbers.
    pub fn wrap(
        data_key: &DataKey,
        secret: &Secret,
        session_id: &[u8; 16],
        cost: Argon2Cost,
    ) -> Result<Self, KeyError> {
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        Self::wrap_with_salt(data_key, secret, session_id, cost, &salt)
            .map_err(|error| KeyError::new(format!("cannot wrap the data key: {error}")))
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
        let own = slot.own_key(secret)?;
        slot.0[CHECK..WRAPPED].copy_from_slice(&*derive(&own, salt, &[CHECK_PURPOSE]));
        let mut wrapped = Zeroizing::new(*data_key.bytes());
        let tag = slot
            .cipher(&own)
            .seal(&WRAP_NONCE, &slot.covered(session_id), wrapped.as_mut())
            .expect("32 bytes are not too long");
        slot.0[WRAPPED..TAG].copy_from_slice(wrapped.as_ref());
        slot.0[TAG..].copy_from_slice(&tag);
        Ok(slot)
    }

    /// The slot that these bytes are. They are judged when it is unwrapped, so that one slot which
    /// this version does not know does not lock the others.
    pub fn parse(bytes: &[u8; SLOT_LEN]) -> Self {
        Self(*bytes)
    }

    /// The slot's bytes, to be stored.
    pub fn to_bytes(&self) -> [u8; SLOT_LEN] {
        self.0
    }

    /// Which kind of secret opens this slot; `None` if this version does not know it.
    pub fn secret_kind(&self) -> Option<SecretKind> {
        match self.0[0] {
            KEY_FILE => Some(SecretKind::KeyFile),
            PASSPHRASE => Some(SecretKind::Passphrase),
            _ => None,
        }
    }

    /// The data key, if `secret` is the one that it was wrapped for, in the session with this id.
    ///
    /// A passphrase takes as much memory and time as the slot asks for, within the limits.
    ///
    /// # Errors
    ///
    /// See [`UnlockError`].
    pub fn unwrap(&self, secret: &Secret, session_id: &[u8; 16]) -> Result<DataKey, UnlockError> {
        let needs = self.judge()?;
        if needs != secret.kind() {
            return Err(UnlockError::OtherKind { needs });
        }
        let own = self.own_key(secret)?;
        let check = derive(&own, &self.salt(), &[CHECK_PURPOSE]);
        if !bool::from(check[..].ct_eq(&self.0[CHECK..WRAPPED])) {
            return Err(UnlockError::WrongSecret { kind: needs });
        }
        let mut data_key = Zeroizing::new(self.array::<KEY_LEN>(WRAPPED));
        self.cipher(&own)
            .open(
                &WRAP_NONCE,
                &self.covered(session_id),
                data_key.as_mut(),
                &self.array::<TAG_LEN>(TAG),
            )
            .map_err(|_| UnlockError::Damaged)?;
        Ok(DataKey::from_bytes(*data_key))
    }

    /// Whether every field has a value that this version knows, and which kind of secret opens the
    /// slot.
    fn judge(&self) -> Result<SecretKind, UnlockError> {
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

    /// What the slot's other keys come from: the key file's 32 bytes, or those that come of the
    /// passphrase.
    fn own_key(&self, secret: &Secret) -> Result<Zeroizing<[u8; KEY_LEN]>, UnlockError> {
        match secret {
            Secret::Key(key) => Ok(Zeroizing::new(*key.bytes())),
            Secret::Passphrase(passphrase) => self.cost().stretch(passphrase, &self.salt()),
        }
    }

    fn cipher(&self, own: &[u8; KEY_LEN]) -> Cipher {
        Cipher::of(
            &derive(own, &self.salt(), &[WRAP_PURPOSE]),
            Backend::default(),
        )
    }

    /// What the tag covers besides the wrapped key: the session, and all of the slot before it.
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

/// The data key of a session, from the first of its slots that `secret` opens.
///
/// A slot that cannot be opened, for whatever reason, does not lock the others.
///
/// # Errors
///
/// [`UnlockError::SlotCount`] if there is none or there are more than [`MAX_KEY_SLOTS`]. If no slot
/// opens, the error of the slot that came nearest: first one that knows the secret but is damaged,
/// then one that could not be tried, then one that knows another secret, then one that this version
/// does not know, then one for the other kind of secret.
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
        match slot.unwrap(secret, session_id) {
            Ok(data_key) => return Ok(data_key),
            Err(error) if error.nearness() > nearest.nearness() => nearest = error,
            Err(_) => {}
        }
    }
    Err(nearest)
}

/// Why a slot does not open, or why none does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlockError {
    /// The slot is for the other kind of secret.
    OtherKind {
        /// The kind that it is for.
        needs: SecretKind,
    },
    /// The slot was made for another secret of this kind.
    WrongSecret {
        /// The kind of the secret.
        kind: SecretKind,
    },
    /// The secret is right, but the wrapped key is not what was stored with it, or the session is
    /// another.
    Damaged,
    /// The slot asks for more than a reader gives. Nothing was computed.
    TooCostly {
        /// Of what it asks for too much.
        what: &'static str,
        /// How much it asks for.
        has: u32,
        /// The most that it may ask for.
        most: u32,
    },
    /// The slot asks for less than Argon2 can do with. Nothing was computed.
    TooCheap {
        /// Of what it asks for too little.
        what: &'static str,
        /// How much it asks for.
        has: u32,
        /// The least that it may ask for.
        least: u32,
    },
    /// The memory that the slot asks for, within the limits, could not be had.
    NoMemory {
        /// How much, in KiB.
        memory_kib: u32,
    },
    /// A field of the slot has a value that this version does not know.
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        number: u32,
    },
    /// A session has no slot, or more than [`MAX_KEY_SLOTS`].
    SlotCount {
        /// How many it has.
        has: usize,
    },
}

impl UnlockError {
    /// How near a slot was to being opened: the greater, the more it says about what went wrong.
    fn nearness(&self) -> u8 {
        match self {
            Self::SlotCount { .. } => 0,
            Self::OtherKind { .. } => 1,
            Self::Unknown { .. } => 2,
            Self::WrongSecret { .. } => 3,
            Self::TooCostly { .. } | Self::TooCheap { .. } => 4,
            Self::NoMemory { .. } => 5,
            Self::Damaged => 6,
        }
    }
}

impl fmt::Display for UnlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind { needs } => write!(f, "the key slot opens with a {needs}: give that"),
            Self::WrongSecret { kind } => {
                write!(f, "the {kind} is not the right one: give the one that the archive was encrypted with")
            }
            Self::Damaged => f.write_str(
                "the key slot is damaged or of another session, although it knows the secret: use another slot's \
                 secret, or another copy",
            ),
            Self::TooCostly { what, has, most } => {
                write!(f, "Argon2id with {has} {what} is refused, {most} is the most: if a key slot asks for it, ")?;
                f.write_str("it is damaged or hostile: use another slot's secret, or another copy")
            }
            Self::TooCheap { what, has, least } => {
                write!(f, "Argon2id with {has} {what} is refused, {least} is the least: if a key slot asks for it, ")?;
                f.write_str("it is damaged: use another slot's secret, or another copy")
            }
            Self::NoMemory { memory_kib } => write!(
                f,
                "the passphrase needs {memory_kib} KiB of memory, which could not be had: free some, or use a key file"
            ),
            Self::Unknown { what, number } => write!(
                f,
                "the key slot has the {what} {number}, which this version does not know: use a newer version, or \
                 another slot's secret"
            ),
            Self::SlotCount { has } => {
                write!(f, "the session has {has} key slots, not 1 to {MAX_KEY_SLOTS}: use another copy")
            }
        }
    }
}

impl std::error::Error for UnlockError {}

#[cfg(test)]
mod tests {
    use super::super::key::{Key, Passphrase};
    use super::super::known_answers::hex;
    use super::*;

    const SESSION: [u8; 16] = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";
    /// Enough for Argon2, and little enough for a test of many guesses.
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
        DataKey::from_bytes(counting(0x40))
    }

    fn slot(secret: &Secret) -> KeySlot {
        KeySlot::wrap(&data_key(), secret, &SESSION, CHEAP).unwrap()
    }

    fn flipped(slot: &KeySlot, bit: usize) -> KeySlot {
        let mut bytes = slot.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        KeySlot::parse(&bytes)
    }

    fn error(slot: &KeySlot, secret: &Secret) -> UnlockError {
        slot.unwrap(secret, &SESSION).expect_err("opened")
    }

    /// Written by another program: HKDF, Argon2id and AESGCM of Python's cryptography package,
    /// after the normative page. If this fails, the format has changed.
    #[test]
    fn golden_slots() {
        let golden = |secret: &Secret, text: &str| {
            let slot = KeySlot::wrap_with_salt(&data_key(), secret, &SESSION, CHEAP, &counting(0))
                .unwrap();
            assert_eq!(slot.to_bytes().to_vec(), hex(text));
            let bytes = hex(text).try_into().unwrap();
            let opened = KeySlot::parse(&bytes).unwrap(secret, &SESSION).unwrap();
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
    fn a_slot_opens_with_its_secret_and_no_other() {
        let secrets = [key(), passphrase("open sesame")];
        for (at, secret) in secrets.iter().enumerate() {
            let slot = KeySlot::parse(&slot(secret).to_bytes());
            assert_eq!(slot.secret_kind(), Some(secret.kind()));
            assert_eq!(
                slot.unwrap(secret, &SESSION).unwrap().bytes(),
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
    fn a_slot_opens_in_its_own_session_only() {
        for bit in 0..128 {
            let mut session = SESSION;
            session[bit / 8] ^= 1 << (bit % 8);
            let other = slot(&key())
                .unwrap(&key(), &session)
                .expect_err("opened in another session");
            assert_eq!(other, UnlockError::Damaged);
        }
    }

    #[test]
    fn the_same_key_is_never_wrapped_to_the_same_bytes() {
        let (one, two) = (slot(&key()).to_bytes(), slot(&key()).to_bytes());
        assert_eq!(one[..SALT], two[..SALT]);
        for part in [SALT..CHECK, CHECK..WRAPPED, WRAPPED..TAG, TAG..SLOT_LEN] {
            assert_ne!(one[part.clone()], two[part]);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_key_file_slot_is_found() {
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
    fn every_flipped_bit_of_a_passphrase_slot_is_found() {
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
                // Within the limits, and so the same as a smaller one: it need not be computed
                // here.
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
    fn a_slot_of_the_other_kind_by_its_first_bytes_does_not_open() {
        let mut bytes = slot(&key()).to_bytes();
        bytes[..2].copy_from_slice(&[PASSPHRASE, ARGON2ID]);
        let needs = SecretKind::Passphrase;
        assert_eq!(
            error(&KeySlot::parse(&bytes), &key()),
            UnlockError::OtherKind { needs }
        );
        let found = error(&KeySlot::parse(&bytes), &passphrase("open sesame"));
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
    fn costs_beyond_the_limits_are_refused_on_both_sides() {
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
        let refused = error(&KeySlot::parse(&bytes), &secret);
        let most = 1 << 20;
        assert_eq!(
            refused,
            UnlockError::TooCostly {
                what: "KiB of memory",
                has: u32::MAX,
                most
            }
        );
        // A key file costs nothing, so its slot takes no notice of a cost.
        assert!(KeySlot::wrap(&data_key(), &key(), &SESSION, cost).is_ok());
    }

    #[test]
    fn any_slot_of_several_unlocks() {
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
    fn if_none_unlocks_the_nearest_error_is_told() {
        let secret = passphrase("open sesame");
        let mut costly = slot(&secret).to_bytes();
        costly[8] = 17;
        // From the farthest to the nearest.
        let slots = [
            slot(&key()),
            flipped(&slot(&key()), 7),
            slot(&passphrase("another")),
            KeySlot::parse(&costly),
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
    fn slots_do_not_print_what_they_wrap() {
        let text = format!("{:?}", slot(&key()));
        assert!(
            text.starts_with("KeySlot { kind: 1, kdf: 0, cost: "),
            "{text}"
        );
        assert!(text.len() < 120, "{text}");
    }
}
