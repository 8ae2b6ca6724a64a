//! Messages beside the stream, each a datagram: a counter of 8 bytes, then a [`secretbox`](crate::secretbox).
//!
//! They may be lost or reordered. They may also be repeated, because nobody remembers the counters.

use zeroize::Zeroizing;

use crate::message::unordered_keys;
use crate::{HandshakeResult, secretbox};

/// Bytes that a datagram has more than its content.
pub const OVERHEAD: usize = COUNTER_LEN + secretbox::MAC_LEN;

const COUNTER_LEN: usize = 8;

/// The sending end.
pub struct UnorderedSealer {
    key: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl UnorderedSealer {
    /// A sender under the keys of `result`.
    ///
    /// # Panics
    /// If the operating system gives no randomness.
    pub fn new(result: &HandshakeResult) -> Self {
        let mut counter = [0; COUNTER_LEN];
        getrandom::fill(&mut counter).expect("the operating system gives randomness");
        let [initiators, responders] = unordered_keys(result);
        let key = Zeroizing::new(if result.is_initiator { initiators } else { responders });
        Self { key, counter: u64::from_le_bytes(counter) }
    }

    /// The datagram that carries `message`.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        self.counter = self.counter.wrapping_add(1);
        let counter = self.counter.to_le_bytes();
        [&counter[..], &secretbox::seal(&self.key, &nonce(&counter), message)].concat()
    }
}

/// The receiving end.
pub struct UnorderedOpener {
    key: Zeroizing<[u8; 32]>,
}

impl UnorderedOpener {
    /// A receiver of the peer of `result`.
    pub fn new(result: &HandshakeResult) -> Self {
        let [initiators, responders] = unordered_keys(result);
        Self { key: Zeroizing::new(if result.is_initiator { responders } else { initiators }) }
    }

    /// The message in `datagram`, or `None` for one to ignore.
    pub fn open(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (counter, sealed) = datagram.split_first_chunk()?;
        secretbox::open(&self.key, &nonce(counter), sealed)
    }
}

fn nonce(counter: &[u8; COUNTER_LEN]) -> [u8; secretbox::NONCE_LEN] {
    let mut nonce = [0; secretbox::NONCE_LEN];
    nonce[..COUNTER_LEN].copy_from_slice(counter);
    nonce
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::tests::handshake_result;
    use crate::vectors::{Case, array, bytes};

    #[test]
    fn bytes_of_the_initiator() {
        let case = Case::load("secret-stream-unordered");
        let result = handshake_result(true);
        assert_eq!(result.hash.as_slice(), case.input("handshake_hash"));
        let mut sealer = UnorderedSealer::new(&result);
        sealer.counter = u64::from_le_bytes(array(&case.value["inputs"]["initial_counter"]));
        let opener = UnorderedOpener::new(&handshake_result(false));
        assert_eq!(sealer.key.as_slice(), bytes(&case.value["keys"]["initiator_send"]));
        assert_eq!(
            UnorderedOpener::new(&result).key.as_slice(),
            bytes(&case.value["keys"]["initiator_recv"])
        );
        for (plain, datagram) in case.value["inputs"]["plaintexts"]
            .as_array()
            .unwrap()
            .iter()
            .zip(case.value["hex"].as_array().unwrap())
        {
            let (plain, datagram) = (bytes(plain), bytes(datagram));
            assert_eq!(sealer.seal(&plain), datagram);
            assert_eq!(opener.open(&datagram), Some(plain));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_ignored(datagram in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(UnorderedOpener::new(&handshake_result(true)).open(&datagram), None);
        }
    }
}
