//! The keys of an archive, derived from the normative page of the format, not by the library.

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use datapipe::wire::{ArchiveHeader, SessionHeader};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

use crate::key_search::Keys;

fn derive(key: &[u8], salt: &[u8], info: &[&[u8]]) -> Vec<u8> {
    let mut derived = vec![0; 32];
    Hkdf::<Sha256>::new(Some(salt), key)
        .expand_multi_info(info, &mut derived)
        .unwrap();
    derived
}

/// Derives all keys of the archive with these headers, whose first slot is for this secret:
/// `secret`, the content of a key file or a passphrase; `slot`, what Argon2id derives from a
/// passphrase; `wrap`, the key of the slot's cipher; `data`, the session's key; `archive`, the key
/// that encrypts blocks.
pub(crate) fn keys_of(secret: &[u8], session: &SessionHeader, archive: &ArchiveHeader) -> Keys {
    let slot = &session.slots[0];
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
    let check = derive(&key, salt, &[b"datapipe 1 key check"]);
    assert_eq!(check, slot[48..80], "the secret of the first slot");
    let wrap = derive(&key, salt, &[b"datapipe 1 key wrap"]);
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&wrap).unwrap();
    let mut data = slot[80..112].to_vec();
    let covered = [&session.id[..], &slot[..80]].concat();
    let tag: [u8; 16] = slot[112..].try_into().unwrap();
    cipher
        .decrypt_inout_detached(
            &[0; 12].into(),
            &covered,
            data.as_mut_slice().into(),
            &tag.into(),
        )
        .unwrap();
    let hash = Sha256::new()
        .chain_update(session.identity())
        .chain_update(archive.to_bytes())
        .finalize();
    let info: [&[u8]; 3] = [b"datapipe 1 archive key", &archive.id, &hash];
    let archive = derive(&data, &archive.salt, &info);
    keys.extend([
        ("wrap".to_owned(), wrap),
        ("data".to_owned(), data),
        ("archive".to_owned(), archive),
    ]);
    Keys(keys)
}
