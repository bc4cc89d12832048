//! Arbitrary bytes as a key slot: opening it gives an error with a text, and takes no more memory
//! than the limit.
#![no_main]

use datapipe::crypto::{Identity, Key, KeySlot, Passphrase, Secret, unlock};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: ([u8; 128], u8, [u8; 16], u8)| {
    let (mut bytes, kind, key_id, copies) = input;
    let kind = 1 + kind % 3;
    // Kind and derivation are valid in four of five cases, so that the target reaches the code
    // after their checks.
    if !bytes[0].is_multiple_of(5) {
        bytes[..4].copy_from_slice(&[kind, u8::from(kind == 2), 0, 0]);
    }
    if kind != 2 && copies.is_multiple_of(2) {
        bytes[4..16].fill(0);
    }
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    // Expensive parameters within the limits would only slow the target down.
    let (memory, passes) = (word(4), word(8));
    if (1025..=1 << 20).contains(&memory) && passes <= 16 {
        return;
    }
    let secret = match kind {
        1 => Secret::Key(Key::from_bytes([7; 32])),
        2 => Secret::Passphrase(Passphrase::from_bytes("open sesame").unwrap()),
        _ => Secret::Identity(Identity::from_bytes([7; 32])),
    };
    let slot = KeySlot::from_bytes(&bytes);
    assert_eq!(slot.to_bytes(), bytes);
    let _ = (format!("{slot:?}"), slot.secret_kind());
    // The fuzzer cannot guess a check value of 32 bytes.
    let error = slot.open(&secret, &key_id).unwrap_err();
    assert!(!error.to_string().is_empty());
    unlock(&vec![slot; usize::from(copies % 3)], &secret, &key_id).unwrap_err();
});
