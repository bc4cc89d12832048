//! Arbitrary text as a recipient: one that is accepted is written and read as the same, and
//! archives can be encrypted for it.
#![no_main]

use datapipe::crypto::{DataKey, KeySlot, Recipient};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, [u8; 32])| {
    let (text, bytes) = input;
    let recipients = [text.parse(), Recipient::from_bytes(bytes)];
    for recipient in recipients.into_iter().flatten() {
        assert_eq!(
            recipient.to_string().parse::<Recipient>().unwrap(),
            recipient
        );
        KeySlot::wrap_for(&DataKey::random().unwrap(), &recipient).unwrap();
    }
});
