//! X25519 (RFC 7748).

use ctutils::CtEq;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use super::clean_stack::on_clean_stack;
use super::key_bytes::KeyBytes;
use super::secret_kind::KEY_LEN;

/// Returns the public key that belongs to a secret one.
pub(super) fn public_key(secret: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    on_clean_stack(|| x25519(*secret, X25519_BASEPOINT_BYTES))
}

/// Returns the secret that the owners of the two keys share; `None` if it is zero: the public key
/// then is a point of low order, which gives zero with every secret key.
pub(super) fn shared_secret(secret: &[u8; KEY_LEN], public: &[u8; KEY_LEN]) -> Option<KeyBytes> {
    let shared = on_clean_stack(|| {
        let mut shared = KeyBytes::zeros();
        *shared = x25519(*secret, *public);
        shared
    });
    let is_zero = bool::from(shared[..].ct_eq(&[0; KEY_LEN][..]));
    (!is_zero).then_some(shared)
}

#[cfg(test)]
pub(in crate::crypto) mod tests {
    use super::super::known_answers::hex;
    use super::*;

    /// Points of order 1, 2, 4 and 8, and other encodings of two of them.
    pub(in crate::crypto) const LOW_ORDER: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    fn array(text: &str) -> [u8; KEY_LEN] {
        hex(text).try_into().unwrap()
    }

    /// RFC 7748, 5.2: two products, and 1 and 1,000 rounds.
    #[test]
    fn x25519_rfc_7748_products() {
        for (scalar, u, expected) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ] {
            let shared = shared_secret(&array(scalar), &array(u)).unwrap();
            assert_eq!(*shared, array(expected));
        }
        let (mut k, mut u) = (X25519_BASEPOINT_BYTES, X25519_BASEPOINT_BYTES);
        for round in 1..=1000 {
            (k, u) = (*shared_secret(&k, &u).unwrap(), k);
            let expected = match round {
                1 => "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
                1000 => "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
                _ => continue,
            };
            assert_eq!(k, array(expected), "round {round}");
        }
    }

    /// RFC 7748, 6.1.
    #[test]
    fn x25519_rfc_7748_exchange() {
        let alice = array("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = array("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let (to_alice, to_bob) = (public_key(&alice), public_key(&bob));
        let expected = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(to_alice.to_vec(), expected);
        let expected = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(to_bob.to_vec(), expected);
        let shared = array("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(*shared_secret(&alice, &to_bob).unwrap(), shared);
        assert_eq!(*shared_secret(&bob, &to_alice).unwrap(), shared);
    }

    #[test]
    fn points_of_low_order_give_no_shared_secret() {
        for low in LOW_ORDER {
            for secret in [[1; KEY_LEN], [0xff; KEY_LEN], [0; KEY_LEN]] {
                assert!(shared_secret(&secret, &array(low)).is_none(), "{low}");
            }
        }
    }
}
