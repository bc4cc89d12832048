//! A key slot: a data key, wrapped for one secret or recipient. 128 bytes, whose layout is fixed.
//!
//! A reader checks a slot from front to back, and takes memory only after it has compared the costs
//! with the limits, because an attacker may have written the slot.

use std::fmt;

use ctutils::CtEq;

use crate::limits::MAX_KEY_SLOTS;

use super::cipher::{Backend, Cipher, NONCE_LEN, TAG_LEN};
use super::cost::Argon2Cost;
use super::data_key::{DataKey, KEY_ID_LEN};
use super::derive::derive;
use super::exchange::shared_secret;
use super::key::{Key, Passphrase, Secret};
use super::key_bytes::KeyBytes;
use super::key_error::KeyError;
use super::random::fill_random;
use super::recipient::{Identity, Recipient};
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
const RECIPIENT: u8 = 3;

/// Values of the field `kdf`.
const NO_KDF: u8 = 0;
const ARGON2ID: u8 = 1;

/// Purposes of the keys derived from a secret: HKDF's `info`.
const RECIPIENT_PURPOSE: &[u8] = b"datapipe 1 recipient";
const CHECK_PURPOSE: &[u8] = b"datapipe 1 key check";
const WRAP_PURPOSE: &[u8] = b"datapipe 1 key wrap";

/// A slot's key seals one data key and nothing else, so its nonce may be fixed.
const WRAP_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// A data key, wrapped for one secret or recipient.
///
/// ```
/// use datapipe::crypto::{Argon2Cost, DataKey, Identity, Key, KeySlot, Passphrase, Secret, unlock};
///
/// let data_key = DataKey::random()?;
/// let daily = Secret::from(Passphrase::from_bytes("what the operators know")?);
/// let vault = Secret::from(Key::from_bytes([9; 32]));
/// let auditor = Identity::random()?;
/// let cost = Argon2Cost::default();
/// let slots = [
///     KeySlot::wrap(&data_key, &daily, cost)?,
///     KeySlot::wrap(&data_key, &vault, cost)?,
///     KeySlot::wrap_for(&data_key, &auditor.recipient())?,
/// ];
/// // Each of the three gives the same key.
/// let same = unlock(&slots, &auditor.into(), &data_key.id())?;
/// assert_eq!(same.id(), data_key.id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeySlot([u8; SLOT_LEN]);

impl KeySlot {
    /// Wraps `data_key` for `secret`. The cost matters for a passphrase only: a key file cannot be
    /// guessed. An identity's slot is that of its recipient.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the cost is outside of the limits, if its memory is not available, or if the
    /// system has no random numbers.
    pub fn wrap(data_key: &DataKey, secret: &Secret, cost: Argon2Cost) -> Result<Self, KeyError> {
        let mut salt = [0; 32];
        fill_random(&mut salt)?;
        match secret {
            Secret::Key(key) => Ok(Self::wrap_for_key(data_key, key, &salt)),
            Secret::Passphrase(passphrase) => {
                Self::wrap_for_passphrase(data_key, passphrase, cost, &salt).map_err(KeyError::Wrap)
            }
            Secret::Identity(identity) => Self::wrap_for(data_key, &identity.recipient()),
        }
    }

    /// Wraps `data_key` for the owner of `recipient`'s secret key. The writer keeps nothing with
    /// which the slot could be opened.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the system has no random numbers.
    pub fn wrap_for(data_key: &DataKey, recipient: &Recipient) -> Result<Self, KeyError> {
        Self::wrap_with_ephemeral(data_key, recipient, &Identity::random()?).map_err(KeyError::Wrap)
    }

    fn wrap_for_key(data_key: &DataKey, key: &Key, salt: &[u8; 32]) -> Self {
        let slot = Self::with_kind(KEY_FILE, NO_KDF, salt);
        slot.sealing(data_key, key.bytes())
    }

    fn wrap_for_passphrase(
        data_key: &DataKey,
        passphrase: &Passphrase,
        cost: Argon2Cost,
        salt: &[u8; 32],
    ) -> Result<Self, UnlockError> {
        let mut slot = Self::with_kind(PASSPHRASE, ARGON2ID, salt);
        slot.0[4..8].copy_from_slice(&cost.memory_kib.to_le_bytes());
        slot.0[8..12].copy_from_slice(&cost.passes.to_le_bytes());
        slot.0[12..16].copy_from_slice(&cost.lanes.to_le_bytes());
        let slot_key = cost.stretch(passphrase, salt)?;
        Ok(slot.sealing(data_key, &slot_key))
    }

    /// Wraps for a recipient. `ephemeral` must be random, and used only here.
    fn wrap_with_ephemeral(
        data_key: &DataKey,
        recipient: &Recipient,
        ephemeral: &Identity,
    ) -> Result<Self, UnlockError> {
        let slot = Self::with_kind(RECIPIENT, NO_KDF, ephemeral.recipient().bytes());
        let shared = shared_secret(ephemeral.bytes(), recipient.bytes());
        let shared = shared.ok_or(UnlockError::NoSharedSecret)?;
        let slot_key = slot.recipient_key(&shared, recipient);
        Ok(slot.sealing(data_key, &slot_key))
    }

    /// A slot that has only its kind, its key derivation and its salt.
    fn with_kind(kind: u8, kdf: u8, salt: &[u8; 32]) -> Self {
        let mut slot = Self([0; SLOT_LEN]);
        slot.0[..2].copy_from_slice(&[kind, kdf]);
        slot.0[SALT..CHECK].copy_from_slice(salt);
        slot
    }

    /// Completes a slot that has everything before its check.
    fn sealing(mut self, data_key: &DataKey, slot_key: &[u8; KEY_LEN]) -> Self {
        let check = derive(slot_key, &self.salt(), &[CHECK_PURPOSE]);
        self.0[CHECK..WRAPPED].copy_from_slice(&check[..]);
        // It is erased by its encryption, or when it is dropped.
        let mut wrapped = KeyBytes::copy_of(data_key.bytes());
        let tag = self
            .cipher(slot_key)
            .seal(&WRAP_NONCE, &self.covered(&data_key.id()), &mut wrapped[..])
            .expect("32 bytes are not too long");
        self.0[WRAPPED..TAG].copy_from_slice(&wrapped[..]);
        self.0[TAG..].copy_from_slice(&tag);
        self
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
            RECIPIENT => Some(SecretKind::Identity),
            _ => None,
        }
    }

    /// Opens the slot with the secret that it was made for, in an archive whose header has the
    /// data key's id.
    ///
    /// A passphrase takes as much memory and time as the slot demands, within the limits.
    ///
    /// # Errors
    ///
    /// See [`UnlockError`].
    pub fn open(&self, secret: &Secret, key_id: &[u8; KEY_ID_LEN]) -> Result<DataKey, UnlockError> {
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
                &self.covered(key_id),
                &mut data_key[..],
                &self.array::<TAG_LEN>(TAG),
            )
            .map_err(|_| UnlockError::Damaged)?;
        let data_key = DataKey::from_bytes(data_key);
        // The tag does not commit to a key. Without this, a writer could give each of two readers
        // another data key, and so another content, under one header.
        if !bool::from(data_key.id()[..].ct_eq(&key_id[..])) {
            return Err(UnlockError::Damaged);
        }
        Ok(data_key)
    }

    /// Checks that every field has a value that this version knows, and returns the kind of secret
    /// that opens the slot. Does not check the costs of a passphrase.
    fn validate(&self) -> Result<SecretKind, UnlockError> {
        let unknown = |what, number| Err(UnlockError::Unknown { what, number });
        let Some(kind) = self.secret_kind() else {
            return unknown("kind", u32::from(self.0[0]));
        };
        let (kdf, cost) = match kind {
            SecretKind::KeyFile => (NO_KDF, Some("cost for a key file")),
            SecretKind::Passphrase => (ARGON2ID, None),
            SecretKind::Identity => (NO_KDF, Some("cost for a recipient")),
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
        match (cost, given) {
            (Some(cost), Some(number)) => unknown(cost, number),
            _ => Ok(kind),
        }
    }

    /// The key from which check and wrapping key are derived: the key file's 32 bytes, the 32 bytes
    /// that Argon2id derives from the passphrase, or those of the recipient.
    fn slot_key(&self, secret: &Secret) -> Result<KeyBytes, UnlockError> {
        match secret {
            Secret::Key(key) => Ok(KeyBytes::copy_of(key.bytes())),
            Secret::Passphrase(passphrase) => self.cost().stretch(passphrase, &self.salt()),
            Secret::Identity(identity) => {
                let shared = shared_secret(identity.bytes(), &self.salt());
                let shared = shared.ok_or(UnlockError::NoSharedSecret)?;
                Ok(self.recipient_key(&shared, &identity.recipient()))
            }
        }
    }

    /// The key of a recipient's slot. It depends on both public keys: the ephemeral one, which is
    /// in the place of the salt, and the recipient's.
    fn recipient_key(&self, shared: &[u8; KEY_LEN], recipient: &Recipient) -> KeyBytes {
        let mut keys = [0; 2 * KEY_LEN];
        keys[..KEY_LEN].copy_from_slice(&self.salt());
        keys[KEY_LEN..].copy_from_slice(recipient.bytes());
        derive(shared, &keys, &[RECIPIENT_PURPOSE])
    }

    /// The cipher that wraps the data key.
    fn cipher(&self, slot_key: &[u8; KEY_LEN]) -> Cipher {
        Cipher::with_key_bytes(
            &derive(slot_key, &self.salt(), &[WRAP_PURPOSE]),
            Backend::default(),
        )
    }

    /// The data that the tag covers besides the wrapped key: the data key's id, and all of the slot
    /// before the wrapped key.
    fn covered(&self, key_id: &[u8; KEY_ID_LEN]) -> [u8; KEY_ID_LEN + WRAPPED] {
        let mut covered = [0; KEY_ID_LEN + WRAPPED];
        covered[..KEY_ID_LEN].copy_from_slice(key_id);
        covered[KEY_ID_LEN..].copy_from_slice(&self.0[..WRAPPED]);
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

/// Returns the data key of an archive whose header has this key id and these slots, from the first
/// slot that `secret` opens.
///
/// A slot that cannot be opened, for any reason, does not lock the others. A passphrase is
/// stretched for each slot that has one: at most [`MAX_KEY_SLOTS`] times.
///
/// # Errors
///
/// [`UnlockError::SlotCount`] if there is no slot, or more than [`MAX_KEY_SLOTS`]. If no slot
/// opens, the error of the slot that came nearest to opening. The order, from the nearest: a slot
/// that matches the secret but is damaged, one that could not be tried, one for another secret, one
/// that this version does not know, one for another kind of secret.
pub fn unlock(
    slots: &[KeySlot],
    secret: &Secret,
    key_id: &[u8; KEY_ID_LEN],
) -> Result<DataKey, UnlockError> {
    unlock_slot(slots, secret, key_id).map(|(_, data_key)| data_key)
}

/// As [`unlock`], and returns the number of the slot, too, counted from 0.
pub(crate) fn unlock_slot(
    slots: &[KeySlot],
    secret: &Secret,
    key_id: &[u8; KEY_ID_LEN],
) -> Result<(usize, DataKey), UnlockError> {
    let mut nearest = UnlockError::SlotCount { has: slots.len() };
    if slots.len() > MAX_KEY_SLOTS {
        return Err(nearest);
    }
    for (number, slot) in slots.iter().enumerate() {
        match slot.open(secret, key_id) {
            Ok(data_key) => return Ok((number, data_key)),
            Err(error) if error.rank() > nearest.rank() => nearest = error,
            Err(_) => {}
        }
    }
    Err(nearest)
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::LOW_ORDER;
    use super::super::known_answers::hex;
    use super::*;

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

    fn identity(first: u8) -> Secret {
        // Clamping ignores bits of the first and the last byte, so others must differ.
        let mut bytes = counting(0);
        bytes[7] = first;
        Identity::from_bytes(bytes).into()
    }

    fn data_key() -> DataKey {
        DataKey::from_bytes(KeyBytes::copy_of(&counting(0x40)))
    }

    fn slot(secret: &Secret) -> KeySlot {
        KeySlot::wrap(&data_key(), secret, CHEAP).unwrap()
    }

    fn flipped(slot: &KeySlot, bit: usize) -> KeySlot {
        let mut bytes = slot.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        KeySlot::from_bytes(&bytes)
    }

    fn error(slot: &KeySlot, secret: &Secret) -> UnlockError {
        slot.open(secret, &data_key().id()).expect_err("opened")
    }

    /// Slots that another program made from the normative page, with HKDF, Argon2id and AESGCM of
    /// Python's cryptography package. If this test fails, the format has changed.
    #[test]
    fn golden_slots() {
        let golden = |slot: KeySlot, secret: &Secret, text: &str| {
            assert_eq!(slot.to_bytes().to_vec(), hex(text));
            let opened = slot.open(secret, &data_key().id()).unwrap();
            assert_eq!(opened.bytes(), data_key().bytes());
        };
        let (data_key, salt) = (data_key(), counting(0));
        let key = Key::from_bytes(counting(0x80));
        golden(
            KeySlot::wrap_for_key(&data_key, &key, &salt),
            &key.into(),
            "01000000000000000000000000000000 000102030405060708090a0b0c0d0e0f
             101112131415161718191a1b1c1d1e1f 4935347365bbcf57f6b130a677f038c3
             055c9381ab5257a84a734e53a572abdd 7fc38a79f3ee7376053d63073a5f557e
             7858eb2d30eb1a7225d9247d8994e04d 8562d57d5373b676fc99bf6b9fa0f5cf",
        );
        let passphrase = Passphrase::from_bytes("correct horse battery staple").unwrap();
        golden(
            KeySlot::wrap_for_passphrase(&data_key, &passphrase, CHEAP, &salt).unwrap(),
            &passphrase.into(),
            "02010000400000000200000004000000 000102030405060708090a0b0c0d0e0f
             101112131415161718191a1b1c1d1e1f 8cdb87c159ff2390e9afd9b36c5027be
             ac74c8fea6e69f2b9202df63e99e8267 f39074072486655ce2d514ed4ecd09ee
             4abf745fa607dc584a1e80e3150892de 06fdb206f2a8098758880cf7760611db",
        );
        let identity = Identity::from_bytes(counting(0xc0));
        let expected = "dc2cca31e8e43bbd91dff7e475cca3347eb478107d5bd765aba4ae4a30c35d44";
        assert_eq!(identity.recipient().bytes().to_vec(), hex(expected));
        let ephemeral = Identity::from_bytes(counting(0xe0));
        golden(
            KeySlot::wrap_with_ephemeral(&data_key, &identity.recipient(), &ephemeral).unwrap(),
            &identity.into(),
            "03000000000000000000000000000000 736845d54e87de09d6bb114aa7042c50
             a4a015bd9901d1a0026f5956533a1519 2062c06c5c146653a93856235dbf754d
             965319af34b7d66ef35a60a167accf47 42f75d84f1be622eace5050da5fa994d
             89c44d5777b27a0a1c13515a1018a562 1b9103dd70930c1c34b764fda25be7d7",
        );
    }

    #[test]
    fn slot_opens_with_its_secret_only() {
        let secrets = [key(), passphrase("open sesame"), identity(0xc0)];
        let others = [
            Key::from_bytes(counting(0x81)).into(),
            passphrase("open sesame\n"),
            identity(0xc1),
        ];
        for (at, secret) in secrets.iter().enumerate() {
            let slot = KeySlot::from_bytes(&slot(secret).to_bytes());
            assert_eq!(slot.secret_kind(), Some(secret.kind()));
            let opened = slot.open(secret, &data_key().id()).unwrap();
            assert_eq!(opened.bytes(), data_key().bytes());
            let needs = secret.kind();
            for other in secrets.iter().filter(|other| other.kind() != needs) {
                assert_eq!(error(&slot, other), UnlockError::OtherKind { needs });
            }
            let kind = secret.kind();
            assert_eq!(error(&slot, &others[at]), UnlockError::WrongSecret { kind });
        }
    }

    #[test]
    fn slot_opens_under_its_own_key_id_only() {
        for secret in [key(), identity(0xc0)] {
            let slot = slot(&secret);
            for bit in 0..128 {
                let mut key_id = data_key().id();
                key_id[bit / 8] ^= 1 << (bit % 8);
                let other = slot
                    .open(&secret, &key_id)
                    .expect_err("opened under another key id");
                assert_eq!(other, UnlockError::Damaged);
                assert!(
                    other
                        .to_string()
                        .contains("the key id in the archive's header")
                );
            }
        }
    }

    /// A writer that knows the secret could wrap any data key under the id of another one: the tag
    /// is right then.
    #[test]
    fn slot_with_another_data_key_than_its_key_id_does_not_open() {
        let key_id = data_key().id();
        let key = Key::from_bytes(counting(0x80));
        let mut slot = KeySlot::with_kind(KEY_FILE, NO_KDF, &counting(0));
        let check = derive(key.bytes(), &counting(0), &[CHECK_PURPOSE]);
        slot.0[CHECK..WRAPPED].copy_from_slice(&check[..]);
        let mut wrapped = counting(0x41);
        let sealed = slot.cipher(key.bytes());
        let tag = sealed.seal(&WRAP_NONCE, &slot.covered(&key_id), &mut wrapped);
        slot.0[WRAPPED..TAG].copy_from_slice(&wrapped);
        slot.0[TAG..].copy_from_slice(&tag.unwrap());
        assert_eq!(error(&slot, &key.into()), UnlockError::Damaged);
    }

    #[test]
    fn recipient_slot_whose_ephemeral_key_gives_no_secret_does_not_open() {
        for low in LOW_ORDER {
            let mut bytes = slot(&identity(0xc0)).to_bytes();
            bytes[SALT..CHECK].copy_from_slice(&hex(low));
            let found = error(&KeySlot::from_bytes(&bytes), &identity(0xc0));
            assert_eq!(found, UnlockError::NoSharedSecret, "{low}");
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
    fn slot_with_any_bit_flipped_does_not_open() {
        for secret in [key(), identity(0xc0)] {
            let (slot, kind) = (slot(&secret), secret.kind());
            for bit in 0..SLOT_LEN * 8 {
                let found = error(&flipped(&slot, bit), &secret);
                let expected = match bit / 8 {
                    // Kinds 1, 2 and 3 differ by one or two bits.
                    0 => matches!(
                        found,
                        UnlockError::Unknown { .. } | UnlockError::OtherKind { .. }
                    ),
                    1..SALT => matches!(found, UnlockError::Unknown { .. }),
                    SALT..WRAPPED => found == UnlockError::WrongSecret { kind },
                    _ => found == UnlockError::Damaged,
                };
                assert!(expected, "{kind}, bit {bit}: {found}");
            }
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
        let slot = KeySlot::wrap(&data_key(), &secret, cost).unwrap();
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
        let text = KeySlot::wrap(&data_key(), &secret, cost)
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
        assert!(KeySlot::wrap(&data_key(), &key(), cost).is_ok());
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
                unlock(&slots, secret, &data_key().id()).unwrap().bytes(),
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
            assert_eq!(
                unlock(&slots, &secret, &data_key().id()).unwrap_err(),
                *nearest
            );
            slots.reverse();
            assert_eq!(
                unlock(&slots, &secret, &data_key().id()).unwrap_err(),
                *nearest
            );
        }
        let many = vec![slot(&key()); MAX_KEY_SLOTS + 1];
        assert_eq!(
            unlock(&many, &key(), &data_key().id()).unwrap_err(),
            UnlockError::SlotCount { has: 9 }
        );
        assert!(unlock(&many[1..], &key(), &data_key().id()).is_ok());
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
