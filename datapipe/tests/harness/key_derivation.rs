//! The keys of an archive, derived from the normative page of the format, not by the library.

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use datapipe::wire::ArchiveHeader;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use crate::key_search::Keys;

fn derive(key: &[u8], salt: &[u8], info: &[&[u8]]) -> Vec<u8> {
    let mut derived = vec![0; 32];
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand_multi_info(info, &mut derived)
        .unwrap();
    derived
}

/// Derives all keys of the archive with this header, whose first slot is for this secret: `secret`,
/// the content of a key file, a passphrase, or the key of an identity; `slot`, derived by Argon2id
/// from a passphrase, or by HKDF from `shared`, which the identity shares with the slot; `wrap`,
/// the key of the slot's cipher; `data`, the data key; `archive`, the key that encrypts blocks.
pub(crate) fn keys_of(secret: &[u8], archive: &ArchiveHeader) -> Keys {
    let slot = &archive.slots[0];
    let number = |at: usize| u32::from_le_bytes(slot[at..at + 4].try_into().unwrap());
    let salt = &slot[16..48];
    let mut keys = vec![("secret".to_owned(), secret.to_vec())];
    let mut key = secret.to_vec();
    if slot[0] == 2 {
        let params = argon2::Params::new(number(4), number(8), number(12), Some(32)).unwrap();
        let mut memory = vec![argon2::Block::new(); params.block_count()];
        key = vec![0; 32];
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into_with_memory(secret, salt, &mut key, &mut memory)
            .unwrap();
        keys.push(("slot".to_owned(), key.clone()));
    }
    if slot[0] == 3 {
        let own: [u8; 32] = secret.try_into().unwrap();
        let shared = x25519(own, salt.try_into().unwrap()).to_vec();
        let both = [salt, &x25519(own, X25519_BASEPOINT_BYTES)].concat();
        key = derive(&shared, &both, &[b"datapipe 1 recipient"]);
        keys.extend([
            ("shared".to_owned(), shared),
            ("slot".to_owned(), key.clone()),
        ]);
    }
    let check = derive(&key, salt, &[b"datapipe 1 key check"]);
    assert_eq!(check, slot[48..80], "the secret of the first slot");
    let wrap = derive(&key, salt, &[b"datapipe 1 key wrap"]);
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&wrap).unwrap();
    let mut data = slot[80..112].to_vec();
    let covered = [&archive.key_id[..], &slot[..80]].concat();
    let tag: [u8; 16] = slot[112..].try_into().unwrap();
    cipher
        .decrypt_inout_detached(
            &[0; 12].into(),
            &covered,
            data.as_mut_slice().into(),
            &tag.into(),
        )
        .unwrap();
    assert_eq!(
        derive(&data, b"", &[b"datapipe 1 key id"])[..16],
        archive.key_id
    );
    // The number of slots has 8 bytes, and each slot 128.
    let body = archive.to_bytes();
    let hash = Sha256::digest(&body[..body.len() - 8 - 128 * archive.slots.len()]);
    let info: [&[u8]; 3] = [b"datapipe 1 archive key", &archive.id, &hash];
    let archive = derive(&data, &archive.salt, &info);
    keys.extend([
        ("wrap".to_owned(), wrap),
        ("data".to_owned(), data),
        ("archive".to_owned(), archive),
    ]);
    Keys(keys)
}
