//! libsodium's `crypto_secretstream_xchacha20poly1305`, encrypting in place.
//!
//! Differs from the published construction in one byte-level quirk that libsodium keeps for compatibility:
//! the padding before the lengths under the MAC is (message length mod 16) bytes, not its complement. Where
//! both are the same, at every multiple of 8, a message is what the AEAD of RFC 8439 makes of the tag's block
//! and the message behind it. `ring` has that in one pass, at more than twice the speed of cipher and MAC one
//! after the other; so it pays to leave [`BLOCK`] bytes of room in front of a message of such a length.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::{ChaCha20, R20, hchacha};
use poly1305::universal_hash::{KeyInit, UniversalHash};
use poly1305::{Block, Poly1305};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::Error;

/// Bytes of the header that starts a stream and gives the receiver its nonce.
pub const HEADER_LEN: usize = 24;

/// Bytes that a message grows by: the encrypted tag in front, the MAC behind.
pub const OVERHEAD: usize = 1 + MAC_LEN;

/// Bytes of the MAC.
pub const MAC_LEN: usize = 16;

/// Tag of an ordinary message, the only one that peers send.
pub const TAG_MESSAGE: u8 = 0;

/// Tag (and bit) after which both ends change the key.
pub const TAG_REKEY: u8 = 2;

/// Bytes of a ChaCha20 block, and of the room in front of a message that [`Push::push_in_place`] and
/// [`Pull::pull_in_place`] need.
pub const BLOCK: usize = 64;

/// Lengths of messages that are multiples of this are padded as RFC 8439 has it.
const STANDARD: usize = 8;

/// The encrypting end.
pub struct Push(CipherState);

/// The decrypting end.
pub struct Pull(CipherState);

struct CipherState {
    key: Zeroizing<[u8; 32]>,
    /// u32 LE message counter from 1, then 8 bytes that change with every MAC.
    nonce: [u8; 12],
}

impl Push {
    /// Starts a stream under `key` with a random header, which the receiver needs.
    ///
    /// # Panics
    /// If the operating system gives no randomness.
    pub fn new(key: &[u8; 32]) -> (Self, [u8; HEADER_LEN]) {
        let mut header = [0; HEADER_LEN];
        getrandom::fill(&mut header).expect("the operating system gives randomness");
        (Self::with_header(key, &header), header)
    }

    /// Starts a stream under a header that must not be used twice with the same key.
    pub fn with_header(key: &[u8; 32], header: &[u8; HEADER_LEN]) -> Self {
        Self(CipherState::new(key, header))
    }

    /// Encrypts `message` in place. What travels is the first returned byte, the message, the MAC.
    pub fn push(&mut self, tag: u8, ad: &[u8], message: &mut [u8]) -> (u8, [u8; MAC_LEN]) {
        let (mut cipher, mac_key, mut tag_block) = self.0.start(tag);
        cipher.apply_keystream(message);
        let sealed_tag = tag_block[0];
        let mac = authenticate(&mac_key, ad, &tag_block, message);
        self.0.finish(&mac, tag);
        tag_block.zeroize();
        (sealed_tag, mac)
    }

    /// As [`Self::push`] without associated data, for the message behind the first [`BLOCK`] bytes of
    /// `buffer`, which are overwritten.
    ///
    /// # Panics
    /// If `buffer` is shorter than that.
    pub fn push_in_place(&mut self, tag: u8, buffer: &mut [u8]) -> (u8, [u8; MAC_LEN]) {
        let (block, message) = buffer.split_at_mut(BLOCK);
        if !message.len().is_multiple_of(STANDARD) {
            return self.push(tag, &[], message);
        }
        block.fill(0);
        block[0] = tag;
        let (key, nonce) = self.0.standard();
        let mac = key
            .seal_in_place_separate_tag(nonce, Aad::empty(), buffer)
            .expect("a message is shorter than 256 GiB");
        let mac = <[u8; MAC_LEN]>::try_from(mac.as_ref()).expect("a MAC has 16 bytes");
        self.0.finish(&mac, tag);
        (buffer[0], mac)
    }
}

impl Pull {
    /// Follows the stream that started with `header` under `key`.
    pub fn new(key: &[u8; 32], header: &[u8; HEADER_LEN]) -> Self {
        Self(CipherState::new(key, header))
    }

    /// Checks `mac`, decrypts `message` in place and returns the tag. On an error the message is untouched,
    /// the state is as before, and the stream cannot be trusted further.
    pub fn pull(
        &mut self,
        sealed_tag: u8,
        ad: &[u8],
        message: &mut [u8],
        mac: &[u8; MAC_LEN],
    ) -> Result<u8, Error> {
        let (mut cipher, mac_key, mut tag_block) = self.0.start(0);
        let tag = tag_block[0] ^ sealed_tag;
        tag_block[0] = sealed_tag;
        let expected = authenticate(&mac_key, ad, &tag_block, message);
        tag_block.zeroize();
        if !bool::from(expected.ct_eq(mac)) {
            return Err(Error::Unauthentic);
        }
        cipher.apply_keystream(message);
        self.0.finish(mac, tag);
        Ok(tag)
    }

    /// As [`Self::pull`] without associated data, for the message behind the first [`BLOCK`] bytes of
    /// `buffer`, which are overwritten. On an error the state is as before, and nothing is left of the
    /// message.
    ///
    /// # Panics
    /// If `buffer` is shorter than that.
    pub fn pull_in_place(
        &mut self,
        sealed_tag: u8,
        buffer: &mut [u8],
        mac: &[u8; MAC_LEN],
    ) -> Result<u8, Error> {
        let (block, message) = buffer.split_at_mut(BLOCK);
        if !message.len().is_multiple_of(STANDARD) {
            return self.pull(sealed_tag, &[], message, mac).inspect_err(|_| message.fill(0));
        }
        let (_, mut mac_key, mut tag_block) = self.0.start(0);
        mac_key.zeroize();
        // All of the block but its first byte is known to both ends, and does not travel.
        block.copy_from_slice(&tag_block);
        block[0] = sealed_tag;
        tag_block.zeroize();
        let (key, nonce) = self.0.standard();
        if key.open_in_place_separate_tag(nonce, Aad::empty(), (*mac).into(), buffer, 0..).is_err() {
            buffer.fill(0);
            return Err(Error::Unauthentic);
        }
        let tag = buffer[0];
        self.0.finish(mac, tag);
        Ok(tag)
    }
}

impl CipherState {
    fn new(key: &[u8; 32], header: &[u8; HEADER_LEN]) -> Self {
        let (for_key, for_nonce) = header.split_first_chunk::<16>().expect("24 bytes hold 16");
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&1u32.to_le_bytes());
        nonce[4..].copy_from_slice(for_nonce);
        Self { key: Zeroizing::new(hchacha::<R20>(key.into(), for_key.into()).into()), nonce }
    }

    /// The cipher standing at the message's first block, the MAC key (block 0), and block 1 with the tag.
    fn start(&self, tag: u8) -> (ChaCha20, [u8; 32], [u8; BLOCK]) {
        let mut cipher = ChaCha20::new((&*self.key).into(), (&self.nonce).into());
        let mut blocks = [0; 2 * BLOCK];
        blocks[BLOCK] = tag;
        cipher.apply_keystream(&mut blocks);
        let (mut mac_key, mut tag_block) = ([0; 32], [0; BLOCK]);
        mac_key.copy_from_slice(&blocks[..32]);
        tag_block.copy_from_slice(&blocks[BLOCK..]);
        blocks.zeroize();
        (cipher, mac_key, tag_block)
    }

    /// Key and nonce of the next message for the AEAD of RFC 8439.
    fn standard(&self) -> (LessSafeKey, Nonce) {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*self.key).expect("a key has 32 bytes");
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(self.nonce))
    }

    fn finish(&mut self, mac: &[u8; MAC_LEN], tag: u8) {
        let (counter, mixed) = self.nonce.split_first_chunk_mut::<4>().expect("12 bytes hold 4");
        for (byte, mac) in mixed.iter_mut().zip(mac) {
            *byte ^= mac;
        }
        let next = u32::from_le_bytes(*counter).wrapping_add(1);
        *counter = next.to_le_bytes();
        if tag & TAG_REKEY != 0 || next == 0 {
            self.rekey();
        }
    }

    fn rekey(&mut self) {
        let mut cipher = ChaCha20::new((&*self.key).into(), (&self.nonce).into());
        let mut block = [0; 40];
        block[..32].copy_from_slice(&*self.key);
        block[32..].copy_from_slice(&self.nonce[4..]);
        cipher.apply_keystream(&mut block);
        self.key.copy_from_slice(&block[..32]);
        self.nonce[4..].copy_from_slice(&block[32..]);
        self.nonce[..4].copy_from_slice(&1u32.to_le_bytes());
        block.zeroize();
    }
}

/// Poly1305 over ad ‖ its padding ‖ tag block ‖ ciphertext ‖ its padding ‖ both lengths.
fn authenticate(key: &[u8; 32], ad: &[u8], tag_block: &[u8; BLOCK], ciphertext: &[u8]) -> [u8; MAC_LEN] {
    let mut poly = Poly1305::new(key.into());
    poly.update_padded(ad);
    poly.update(Block::slice_as_chunks(tag_block).0);
    let (blocks, rest) = Block::slice_as_chunks(ciphertext);
    poly.update(blocks);

    // `rest`, then as many zeros as it is long (the quirk), then the lengths: at most 15 + 15 + 16 bytes,
    // and not whole blocks, so they go in together.
    let mut tail = [0; 48];
    tail[..rest.len()].copy_from_slice(rest);
    let end = 2 * rest.len() + 16;
    tail[end - 16..end - 8].copy_from_slice(&(ad.len() as u64).to_le_bytes());
    tail[end - 8..end].copy_from_slice(&((BLOCK + ciphertext.len()) as u64).to_le_bytes());
    poly.compute_unpadded(&tail[..end]).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::vectors::{Case, array, bytes};

    fn start(case: &Case) -> (Push, Pull) {
        let [key, header] = ["key", "header"].map(|name| &case.value["inputs"][name]);
        let (key, header) = (array(key), array(header));
        (Push::with_header(&key, &header), Pull::new(&key, &header))
    }

    fn assert_state(state: &CipherState, expected: &Value) {
        assert_eq!(state.key.as_slice(), bytes(&expected["k"]));
        assert_eq!(state.nonce.as_slice(), bytes(&expected["nonce"]));
    }

    fn push(push: &mut Push, tag: u8, ad: &[u8], message: &[u8]) -> Vec<u8> {
        let mut text = message.to_vec();
        let (sealed_tag, mac) = push.push(tag, ad, &mut text);
        [&[sealed_tag], text.as_slice(), &mac].concat()
    }

    fn pull(pull: &mut Pull, ad: &[u8], sealed: &[u8]) -> Result<(u8, Vec<u8>), Error> {
        let (tag, rest) = sealed.split_first().unwrap();
        let (text, mac) = rest.split_last_chunk().unwrap();
        let mut text = text.to_vec();
        let tag = pull.pull(*tag, ad, &mut text, mac)?;
        Ok((tag, text))
    }

    #[test]
    fn five_messages_with_rekey_and_final() {
        let case = Case::load("secretstream-5");
        let (mut sender, mut receiver) = start(&case);
        assert_state(&sender.0, &case.value["state_after_init"]);
        let steps = case.value["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 5);
        for step in steps {
            let (message, tag) = (bytes(&step["message"]), step["tag"].as_u64().unwrap() as u8);
            let sealed = push(&mut sender, tag, &[], &message);
            assert_eq!(sealed, bytes(&step["cipher"]));
            assert_state(&sender.0, &step["state_after"]);
            assert_eq!(pull(&mut receiver, &[], &sealed).unwrap(), (tag, message));
            assert_state(&receiver.0, &step["state_after"]);
        }
    }

    #[test]
    fn counter_wraps_into_a_rekey() {
        let case = Case::load("secretstream-counter-wrap");
        let (mut sender, mut receiver) = start(&case);
        let before = case.input("state_before");
        for state in [&mut sender.0, &mut receiver.0] {
            assert_eq!(state.key.as_slice(), &before[..32]);
            state.nonce.copy_from_slice(&before[32..44]);
        }
        let after = case.hex("state_after1");
        for (index, name) in ["cipher1", "cipher2"].into_iter().enumerate() {
            let message = bytes(&case.value["inputs"]["messages"][index]);
            let sealed = push(&mut sender, 0, &[], &message);
            assert_eq!(sealed, case.hex(name));
            assert_eq!(pull(&mut receiver, &[], &sealed).unwrap(), (0, message));
            if index == 0 {
                for state in [&sender.0, &receiver.0] {
                    assert_eq!([&state.key[..], &state.nonce].concat(), after[..44]);
                }
            }
        }
    }

    #[test]
    fn associated_data() {
        let case = Case::load("secretstream-ad");
        let (mut sender, mut receiver) = start(&case);
        let (ad, message) = (case.input("ad"), case.input("message"));
        let sealed = push(&mut sender, 0, &ad, &message);
        assert_eq!(sealed, bytes(&case.value["hex"]));
        assert!(pull(&mut receiver, b"other", &sealed).is_err());
        assert_eq!(pull(&mut receiver, &ad, &sealed).unwrap(), (0, message));
    }

    /// A message behind room for its block.
    fn with_room(message: &[u8]) -> Vec<u8> {
        [&[0xaa; BLOCK], message].concat()
    }

    proptest! {
        #[test]
        fn in_place_is_the_same_at_every_length(
            message in proptest::collection::vec(any::<u8>(), 0..400),
            flip in any::<proptest::sample::Index>(),
            rekey in any::<bool>(),
        ) {
            let (mut sender, header) = Push::new(&[9; 32]);
            let mut fast_sender = Push::with_header(&[9; 32], &header);
            let mut receiver = Pull::new(&[9; 32], &header);
            for cut in 0..=message.len().min(16) {
                let message = &message[cut..];
                let tag = if rekey { TAG_REKEY } else { TAG_MESSAGE };
                let mut buffer = with_room(message);
                let (sealed_tag, mac) = fast_sender.push_in_place(tag, &mut buffer);
                let sealed = [&[sealed_tag], &buffer[BLOCK..], &mac].concat();
                prop_assert_eq!(&sealed, &push(&mut sender, tag, &[], message));

                let mut bad = sealed.clone();
                let index = flip.index(bad.len());
                bad[index] ^= 0x10;
                let (bad_tag, rest) = bad.split_first().unwrap();
                let (text, bad_mac) = rest.split_last_chunk().unwrap();
                let mut bad = with_room(text);
                prop_assert!(receiver.pull_in_place(*bad_tag, &mut bad, bad_mac).is_err());
                prop_assert!(bad[BLOCK..].iter().all(|byte| *byte == 0));

                let mut buffer = with_room(&buffer[BLOCK..]);
                prop_assert_eq!(receiver.pull_in_place(sealed_tag, &mut buffer, &mac).unwrap(), tag);
                prop_assert_eq!(&buffer[BLOCK..], message);
            }
        }

        #[test]
        fn every_length_round_trips_and_every_bit_counts(
            message in proptest::collection::vec(any::<u8>(), 0..400),
            flip in any::<proptest::sample::Index>(),
            rekey in any::<bool>(),
        ) {
            let (mut sender, header) = Push::new(&[9; 32]);
            let mut receiver = Pull::new(&[9; 32], &header);
            for _ in 0..3 {
                let tag = if rekey { TAG_REKEY } else { TAG_MESSAGE };
                let sealed = push(&mut sender, tag, &[], &message);
                prop_assert_eq!(sealed.len(), message.len() + OVERHEAD);
                let mut bad = sealed.clone();
                let index = flip.index(bad.len());
                bad[index] ^= 0x10;
                prop_assert!(pull(&mut receiver, &[], &bad).is_err());
                prop_assert_eq!(pull(&mut receiver, &[], &sealed).unwrap(), (tag, message.clone()));
            }
        }
    }
}
