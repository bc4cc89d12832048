//! Published test vectors for each primitive that this module uses.

use argon2::{Algorithm, Argon2, AssociatedData, Block, ParamsBuilder, Version};
use hkdf::Hkdf;
use sha2::Sha256;

use super::cipher::{Backend, Cipher, Unauthentic};

/// Decodes pairs of hexadecimal digits.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 5869, A.1.
#[test]
fn hkdf_sha256_case_1() {
    let mut okm = [0; 42];
    let hkdf = Hkdf::<Sha256>::new(Some(&hex("000102030405060708090a0b0c")), &[0x0b; 22]);
    hkdf.expand(&hex("f0f1f2f3f4f5f6f7f8f9"), &mut okm).unwrap();
    let expected =
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    assert_eq!(okm.to_vec(), expected);
}

/// RFC 9106, 5.3. It has a secret and associated data, which a key slot does not have. So the test
/// calls the crate directly.
#[test]
fn argon2id_rfc_9106_case() {
    let mut builder = ParamsBuilder::new();
    builder
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .output_len(32)
        .data(AssociatedData::new(&[4; 12]).unwrap());
    let params = builder.build().unwrap();
    let mut memory = vec![Block::new(); params.block_count()];
    let mut tag = [0; 32];
    Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params)
        .unwrap()
        .hash_password_into_with_memory(&[1; 32], &[2; 16], &mut tag, &mut memory[..])
        .unwrap();
    assert_eq!(
        tag.to_vec(),
        hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659")
    );
}

struct GcmCase {
    key: &'static str,
    nonce: &'static str,
    aad: &'static str,
    plain: &'static str,
    sealed: &'static str,
    tag: &'static str,
}

/// The cases 13, 14 and 16 of "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega,
/// appendix B.
const GCM_CASES: [GcmCase; 3] = [
    GcmCase {
        key: "0000000000000000000000000000000000000000000000000000000000000000",
        nonce: "000000000000000000000000",
        aad: "",
        plain: "",
        sealed: "",
        tag: "530f8afbc74536b9a963b4f1c4cb738b",
    },
    GcmCase {
        key: "0000000000000000000000000000000000000000000000000000000000000000",
        nonce: "000000000000000000000000",
        aad: "",
        plain: "00000000000000000000000000000000",
        sealed: "cea7403d4d606b6e074ec5d3baf39d18",
        tag: "d0d1c8a799996bf0265b98b5d48ab919",
    },
    GcmCase {
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        nonce: "cafebabefacedbaddecaf888",
        aad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        plain: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
                 8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        tag: "76fc6ece0f4e1768cddf8853bb2d551b",
    },
];

#[test]
fn aes_256_gcm_cases_with_every_backend() {
    for case in &GCM_CASES {
        let key = hex(case.key).try_into().unwrap();
        let nonce = hex(case.nonce).try_into().unwrap();
        for backend in Backend::ALL {
            let cipher = Cipher::with_key_bytes(&key, *backend);
            let mut data = hex(case.plain);
            let mut tag = cipher.seal(&nonce, &hex(case.aad), &mut data).unwrap();
            assert_eq!(data, hex(case.sealed), "{backend:?}");
            assert_eq!(tag.to_vec(), hex(case.tag), "{backend:?}");
            cipher
                .open(&nonce, &hex(case.aad), &mut data, &tag)
                .unwrap();
            assert_eq!(data, hex(case.plain), "{backend:?}");
            tag[15] ^= 1;
            assert_eq!(
                cipher.open(&nonce, &hex(case.aad), &mut data, &tag),
                Err(Unauthentic)
            );
        }
    }
}
