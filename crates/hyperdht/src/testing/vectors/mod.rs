//! The golden bytes of tests/vectors/dht.json and dht-session.json, for the tests of this crate.

pub(crate) mod connect;

use std::net::SocketAddrV4;
use std::sync::LazyLock;

use bytes::Bytes;
use secret_stream::KeyPair;
use serde_json::Value;

use connect::{addr, array, unhex};

static DHT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../../tests/vectors/dht.json")).expect("JSON")
});

static SESSION: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../../tests/vectors/dht-session.json")).expect("JSON")
});

/// The cases of a group, of which there is at least one.
pub(crate) fn cases(group: &str) -> impl Iterator<Item = &'static Value> {
    let cases = DHT["cases"].as_array().unwrap();
    assert!(cases.iter().any(|case| case["group"] == group), "there are vectors for {group}");
    cases.iter().filter(move |case| case["group"] == group)
}

/// Requests to a node and what it sends in answer, in order.
pub(crate) fn exchanges() -> &'static [Value] {
    DHT["exchanges"].as_array().unwrap()
}

/// How one of the helper structures behaves step by step.
pub(crate) fn trace(id: &str) -> &'static Value {
    DHT["traces"].as_array().unwrap().iter().find(|trace| trace["id"] == id).unwrap()
}

/// The previous and the current token secret of the node that answered.
pub(crate) fn token_secrets() -> ([u8; 32], [u8; 32]) {
    let secrets = &DHT["about"]["tokenSecrets"];
    (array(&secrets["previous"]), array(&secrets["current"]))
}

/// The key pair of that name.
pub(crate) fn key_pair(name: &str) -> KeyPair {
    KeyPair::from_seed(&array(&DHT["about"]["keys"][name]["seed"]))
}

/// Datagrams off the wire.
pub(crate) fn datagrams() -> impl Iterator<Item = &'static Value> {
    let sequences = SESSION["sequences"].as_array().unwrap().iter();
    sequences.flat_map(|sequence| sequence["datagrams"].as_array().unwrap())
}

/// Ids by the names that the session gives its nodes.
pub(crate) fn session_id(name: &str) -> [u8; 32] {
    array(&SESSION["sequences"][0]["ids"][name])
}

/// The bytes of a field that may be null or absent.
pub(crate) fn optional_bytes(value: &Value) -> Option<Bytes> {
    (!value.is_null()).then(|| unhex(value).into())
}

/// The same, of 32 bytes.
pub(crate) fn optional_array(value: &Value) -> Option<[u8; 32]> {
    (!value.is_null()).then(|| array(value))
}

/// An address written as `host:port`.
pub(crate) fn text_addr(value: &Value) -> SocketAddrV4 {
    value.as_str().unwrap().parse().unwrap()
}

/// Addresses of a list that may be absent.
pub(crate) fn addrs(value: &Value) -> Vec<SocketAddrV4> {
    value.as_array().map(|list| list.iter().map(addr).collect()).unwrap_or_default()
}

mod tests {
    use super::*;
    use crate::connect::PeerAddress;
    use crate::connect::message::{Handshake, Holepunch};

    fn optional_addr(value: &Value) -> Option<SocketAddrV4> {
        (!value.is_null()).then(|| addr(value))
    }

    #[test]
    fn the_routers_messages_are_read_and_written_alike() {
        for case in cases("router") {
            let (input, bytes) = (&case["input"], unhex(&case["hex"]));
            if input["noise"].is_null() {
                let message = Holepunch::decode(&bytes).unwrap();
                assert_eq!(input["id"], message.id);
                assert_eq!(unhex(&input["payload"]), message.payload);
                assert_eq!(optional_addr(&input["peerAddress"]), message.peer_address);
                assert_eq!(message.encode(), bytes, "{}", case["id"]);
            } else {
                let message = Handshake::decode(&bytes).unwrap();
                assert_eq!(unhex(&input["noise"]), message.noise);
                assert_eq!(optional_addr(&input["peerAddress"]), message.peer_address);
                assert_eq!(optional_addr(&input["relayAddress"]), message.relay_address);
                assert_eq!(message.encode(), bytes, "{}", case["id"]);
            }
        }
    }

    #[test]
    fn peer_addresses_are_read_and_written_alike() {
        for case in cases("hyperdht-address") {
            let (input, bytes) = (&case["input"], unhex(&case["hex"]));
            let address = PeerAddress::decode(&bytes).unwrap();
            assert_eq!(address.public_key, array::<32>(&input["key"]));
            assert_eq!(address.relay_addresses, addrs(&input["nodes"]));
            // No nodes are written as no nodes, which JavaScript also has another form for.
            if case["id"] != "address-bare-key" && case["id"] != "address-empty" {
                assert_eq!(address.encode(), bytes, "{}", case["id"]);
            }
        }
    }
}
