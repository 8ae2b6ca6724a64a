//! The address to connect to a peer: its key, and perhaps nodes that relay to it (npm `hyperdht-address`,
//! spec/dht.md §14).

use std::net::SocketAddrV4;
use std::str::FromStr;

use secret_stream::PublicKey;

use crate::encoding::{Malformed, Reader, Writer};

/// A peer's public key and the nodes to ask for it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who the peer is.
    pub public_key: PublicKey,
    /// Nodes to ask first.
    pub relay_addresses: Vec<SocketAddrV4>,
}

const RELAY_ADDRESSES: u64 = 1;

impl PeerAddress {
    /// The key, then a byte of flags and the relay addresses if there are any.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.public_key);
        if self.relay_addresses.is_empty() {
            w.uint(0);
        } else {
            w.uint(RELAY_ADDRESSES).addr4_array(&self.relay_addresses);
        }
        w.finish()
    }

    /// Reads a bare key of 32 bytes, or a key with flags behind it.
    ///
    /// # Errors
    /// [`Malformed`], if there are fewer bytes than that.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let public_key = r.fixed()?;
        let flags = if r.is_empty() { 0 } else { r.uint()? };
        let relays = if flags & RELAY_ADDRESSES != 0 { r.addr4_array()? } else { Vec::new() };
        let relay_addresses = relays.into_iter().filter(|a| a.port() != 0).collect();
        Ok(Self { public_key, relay_addresses })
    }
}

impl From<PublicKey> for PeerAddress {
    fn from(public_key: PublicKey) -> Self {
        Self { public_key, relay_addresses: Vec::new() }
    }
}

/// Hexadecimal digits of a key.
const HEX_LENGTH: usize = 64;
/// Digits of a key in base 32, five bits each.
const Z32_LENGTH: usize = 52;
/// The digits of z-base-32, in order.
const Z32_DIGITS: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

impl FromStr for PeerAddress {
    type Err = Malformed;

    /// Reads a bare key in 64 hexadecimal or 52 z-base-32 digits.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let key = match text.len() {
            HEX_LENGTH => from_digits(text, 4, |digit| char::from(digit).to_digit(16)),
            Z32_LENGTH => {
                from_digits(text, 5, |digit| Z32_DIGITS.iter().position(|d| *d == digit).map(|at| at as u32))
            }
            _ => None,
        };
        key.map(Self::from).ok_or(Malformed)
    }
}

/// The first 32 bytes that the digits, of `bits` each, spell; bits left over at the end are padding.
fn from_digits(text: &str, bits: u32, value: impl Fn(u8) -> Option<u32>) -> Option<PublicKey> {
    let mut key = Vec::with_capacity(32);
    let (mut held, mut count) = (0u32, 0);
    for digit in text.bytes() {
        held = (held << bits) | value(digit)?;
        count += bits;
        if count >= 8 {
            count -= 8;
            key.push((held >> count).to_le_bytes()[0]);
            held &= (1 << count) - 1;
        }
    }
    key.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::vectors::connect::{array, case, unhex};

    #[test]
    fn vectors_decode_and_encode_byte_for_byte() {
        let hex = &case("hyperdht-address")["hex"];
        let key: PublicKey = array(&case("hyperdht-address")["inputs"]["key"]);
        let bare = PeerAddress::from(key);
        let with_nodes =
            PeerAddress { public_key: key, relay_addresses: vec!["1.2.3.4:49737".parse().unwrap()] };
        assert_eq!(PeerAddress::decode(&unhex(&hex["plain"])).unwrap(), bare);
        assert_eq!(PeerAddress::decode(&unhex(&hex["no_nodes"])).unwrap(), bare);
        assert_eq!(PeerAddress::decode(&unhex(&hex["with_nodes"])).unwrap(), with_nodes);
        assert_eq!(bare.encode(), unhex(&hex["no_nodes"]));
        assert_eq!(with_nodes.encode(), unhex(&hex["with_nodes"]));
    }

    #[test]
    fn keys_are_read_from_hex_and_z_base_32() {
        // Texts from npm hypercore-id-encoding.
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let z32 = "yyyoryarywdyqnyjbefoadeqbhebnrounoktcfaadrpbs8y7daxo";
        let key: PublicKey = std::array::from_fn(|i| i as u8);
        assert_eq!(hex.parse(), Ok(PeerAddress::from(key)));
        assert_eq!(hex.to_uppercase().parse(), Ok(PeerAddress::from(key)));
        assert_eq!(z32.parse(), Ok(PeerAddress::from(key)));
        assert_eq!(format!("{}o", "9".repeat(51)).parse(), Ok(PeerAddress::from([0xff; 32])));
        assert_eq!(z32.to_uppercase().parse::<PeerAddress>(), Err(Malformed));
        assert_eq!("zz".parse::<PeerAddress>(), Err(Malformed));
        assert_eq!("l".repeat(52).parse::<PeerAddress>(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_input_never_panics(
            input in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,70}"
        ) {
            let _ = PeerAddress::decode(&input);
            let _ = text.parse::<PeerAddress>();
        }
    }
}
