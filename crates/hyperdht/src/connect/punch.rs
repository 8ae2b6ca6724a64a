//! What two peers tell each other to punch holes, and the box it travels in (spec/connect.md §8).

use std::net::{Ipv4Addr, SocketAddrV4};

use secret_stream::secretbox;

use super::payload::{Firewall, error};
use crate::crypto::keyed_hash;
use crate::encoding::{ADDR4_SIZE, Malformed, Reader, Writer};

/// Addresses kept of one message: probes would go to each.
const MAX_ADDRESSES: usize = 16;

/// The message of one round, from client to server or back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HolepunchPayload {
    /// One of [`error`].
    pub error: u64,
    pub firewall: Firewall,
    /// Counts the client's messages, up to 252.
    pub round: u64,
    pub connected: bool,
    pub punching: bool,
    /// The sender's public addresses; port 0 if it differs for everybody.
    pub addresses: Option<Vec<SocketAddrV4>>,
    /// Where the sender has opened its NAT to.
    pub remote_address: Option<SocketAddrV4>,
    /// To be sent back from the address it was sent to.
    pub token: Option<[u8; 32]>,
    /// The other side's token, sent back.
    pub remote_token: Option<[u8; 32]>,
}

const CONNECTED: u64 = 1;
const PUNCHING: u64 = 2;
const ADDRESSES: u64 = 4;
const REMOTE_ADDRESS: u64 = 8;
const TOKEN: u64 = 16;
const REMOTE_TOKEN: u64 = 32;

impl HolepunchPayload {
    /// Says that the sender will not punch.
    pub(crate) fn abort(round: u64) -> Self {
        Self { error: error::ABORTED, round, ..Self::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let flag = |present: bool, flag: u64| if present { flag } else { 0 };
        let flags = flag(self.connected, CONNECTED)
            | flag(self.punching, PUNCHING)
            | flag(self.addresses.is_some(), ADDRESSES)
            | flag(self.remote_address.is_some(), REMOTE_ADDRESS)
            | flag(self.token.is_some(), TOKEN)
            | flag(self.remote_token.is_some(), REMOTE_TOKEN);
        let mut w = Writer::new();
        w.uint(flags).uint(self.error).uint(self.firewall.to_uint()).uint(self.round);
        if let Some(addresses) = &self.addresses {
            w.addr4_array(addresses);
        }
        if let Some(address) = self.remote_address {
            w.addr4(address);
        }
        for token in [&self.token, &self.remote_token].into_iter().flatten() {
            w.bytes(token);
        }
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let flags = r.uint()?;
        let has = |flag| flags & flag != 0;
        Ok(Self {
            error: r.uint()?,
            firewall: Firewall::from_uint(r.uint()?),
            round: r.uint()?,
            connected: has(CONNECTED),
            punching: has(PUNCHING),
            addresses: has(ADDRESSES).then(|| addresses(&mut r)).transpose()?,
            remote_address: has(REMOTE_ADDRESS).then(|| r.addr4()).transpose()?,
            token: has(TOKEN).then(|| r.fixed()).transpose()?,
            remote_token: has(REMOTE_TOKEN).then(|| r.fixed()).transpose()?,
        })
    }
}

fn addresses(r: &mut Reader) -> Result<Vec<SocketAddrV4>, Malformed> {
    let mut all = r.array(ADDR4_SIZE, Reader::addr4)?;
    all.truncate(MAX_ADDRESSES);
    Ok(all)
}

const NONCE_SIZE: usize = 24;
const TAG_SIZE: usize = 16;

/// Encrypts and decrypts the rounds of one handshake.
pub(crate) struct SecurePayload {
    shared_secret: [u8; 32],
    local_secret: [u8; 32],
}

impl SecurePayload {
    /// `holepunch_secret` is the key both sides have from the Noise handshake; `local_secret` is fresh
    /// randomness.
    pub(crate) fn new(holepunch_secret: [u8; 32], local_secret: [u8; 32]) -> Self {
        Self { shared_secret: holepunch_secret, local_secret }
    }

    /// The box of a payload: the nonce, which must be fresh randomness, then the ciphertext.
    pub(crate) fn seal(&self, payload: &HolepunchPayload, nonce: [u8; NONCE_SIZE]) -> Vec<u8> {
        let mut sealed = nonce.to_vec();
        sealed.extend(secretbox::seal(&self.shared_secret, &nonce, &payload.encode()));
        sealed
    }

    /// What a box holds; nothing if it was not made with the shared key.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<HolepunchPayload> {
        if sealed.len() <= NONCE_SIZE + TAG_SIZE {
            return None;
        }
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_SIZE>()?;
        let plaintext = secretbox::open(&self.shared_secret, nonce, ciphertext)?;
        HolepunchPayload::decode(&plaintext).ok()
    }

    /// What a peer at `host` must send back to prove that it is there. The port is not covered.
    pub(crate) fn token(&self, host: Ipv4Addr) -> [u8; 32] {
        keyed_hash(&self.local_secret, &[host.to_string().as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::testing::vectors::connect::{addr, addrs, array, bytes, case, unhex};

    fn from_json(v: &Value) -> HolepunchPayload {
        let present = |key: &str| v.get(key).filter(|x| !x.is_null());
        HolepunchPayload {
            error: v["error"].as_u64().unwrap(),
            firewall: Firewall::from_uint(v["firewall"].as_u64().unwrap()),
            round: v["round"].as_u64().unwrap(),
            connected: v["connected"].as_bool().unwrap(),
            punching: v["punching"].as_bool().unwrap(),
            addresses: present("addresses").map(addrs),
            remote_address: present("remoteAddress").map(addr),
            token: present("token").map(array),
            remote_token: present("remoteToken").map(array),
        }
    }

    #[test]
    fn vectors_decode_and_encode_byte_for_byte() {
        for id in ["minimal", "probe", "punch", "random", "abort", "try-later", "all"] {
            let id = format!("holepunch-payload-{id}");
            let payload = from_json(&case(&id)["inputs"]);
            assert_eq!(payload.encode(), bytes(&id), "{id}");
            assert_eq!(HolepunchPayload::decode(&bytes(&id)), Ok(payload), "{id}");
        }
    }

    #[test]
    fn an_abort_is_that_of_the_vector() {
        assert_eq!(HolepunchPayload::abort(2).encode(), bytes("holepunch-payload-abort"));
    }

    #[test]
    fn boxes_are_those_of_the_vectors() {
        for id in ["secure-payload-probe", "secure-payload-punch"] {
            let inputs = &case(id)["inputs"];
            let secure = SecurePayload::new(array(&inputs["key"]), [0; 32]);
            let payload = HolepunchPayload::decode(&unhex(&inputs["plaintext"])).unwrap();
            assert_eq!(secure.seal(&payload, array(&inputs["nonce"])), bytes(id), "{id}");
            assert_eq!(secure.open(&bytes(id)), Some(payload), "{id}");
        }
    }

    #[test]
    fn boxes_of_other_keys_and_short_ones_do_not_open() {
        let rejected = case("secure-payload-rejected");
        let secure = SecurePayload::new(array(&rejected["inputs"]["key"]), [0; 32]);
        for sealed in rejected["hex"].as_object().unwrap().values() {
            assert_eq!(secure.open(&unhex(sealed)), None);
        }
    }

    #[test]
    fn the_token_is_that_of_the_vector() {
        let inputs = &case("secure-payload-token")["inputs"];
        let secure = SecurePayload::new([0; 32], array(&inputs["local_secret"]));
        let host = inputs["host"].as_str().unwrap().parse().unwrap();
        assert_eq!(secure.token(host).to_vec(), bytes("secure-payload-token"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = HolepunchPayload::decode(&input);
            prop_assert_eq!(SecurePayload::new([1; 32], [2; 32]).open(&input), None);
        }
    }
}
