//! XSalsa20-Poly1305 (libsodium's `crypto_secretbox`): MAC of 16 bytes, then the ciphertext.

use crypto_secretbox::aead::generic_array::GenericArray;
use crypto_secretbox::{AeadInPlace, KeyInit, XSalsa20Poly1305};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// Bytes of a nonce, which must not be used twice with one key.
pub const NONCE_LEN: usize = 24;

/// Bytes that a sealed box has more than its content.
pub const MAC_LEN: usize = 16;

/// The box of `plain`.
pub fn seal(key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN], plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; MAC_LEN + plain.len()];
    let (mac, text) = sealed.split_at_mut(MAC_LEN);
    text.copy_from_slice(plain);
    let tag = cipher(key)
        .encrypt_in_place_detached(GenericArray::from_slice(nonce), b"", text)
        .expect("only associated data makes sealing fail, and there is none");
    mac.copy_from_slice(&tag);
    sealed
}

/// What `sealed` holds, or `None` if it is not a box of this key and nonce.
pub fn open(key: &[u8; KEY_LEN], nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
    let (mac, text) = sealed.split_at_checked(MAC_LEN)?;
    let mut plain = text.to_vec();
    cipher(key)
        .decrypt_in_place_detached(
            GenericArray::from_slice(nonce),
            b"",
            &mut plain,
            GenericArray::from_slice(mac),
        )
        .ok()?;
    Some(plain)
}

fn cipher(key: &[u8; KEY_LEN]) -> XSalsa20Poly1305 {
    XSalsa20Poly1305::new(GenericArray::from_slice(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::{Case, array, bytes};

    #[test]
    fn secure_payloads() {
        for id in ["secure-payload-probe", "secure-payload-punch"] {
            let case = Case::load(id);
            let key = array(&case.value["inputs"]["key"]);
            let nonce: [u8; NONCE_LEN] = array(&case.value["inputs"]["nonce"]);
            let (plain, whole) = (case.input("plaintext"), bytes(&case.value["hex"]));
            assert_eq!([&nonce[..], &seal(&key, &nonce, &plain)].concat(), whole);
            assert_eq!(open(&key, &nonce, &whole[NONCE_LEN..]), Some(plain));
        }
    }

    #[test]
    fn tampered_and_short() {
        let case = Case::load("secure-payload-rejected");
        let key = array(&case.value["inputs"]["key"]);
        for name in ["tampered", "too_short"] {
            let whole = case.hex(name);
            let (nonce, sealed) = whole.split_first_chunk().unwrap();
            assert_eq!(open(&key, nonce, sealed), None, "{name}");
        }
        for length in 0..MAC_LEN {
            assert_eq!(open(&key, &[0; NONCE_LEN], &vec![0; length]), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_open(sealed in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(open(&[3; KEY_LEN], &[4; NONCE_LEN], &sealed), None);
        }
    }
}
