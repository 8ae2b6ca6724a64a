//! The golden bytes of tests/vectors/connect.json, for the tests of this crate.

use std::sync::OnceLock;

use serde_json::Value;

fn all() -> &'static Value {
    static VECTORS: OnceLock<Value> = OnceLock::new();
    VECTORS.get_or_init(|| {
        let text = include_str!("../../../../../tests/vectors/connect.json");
        serde_json::from_str(text).expect("the vectors are JSON")
    })
}

/// The case of that id.
pub(crate) fn case(id: &str) -> &'static Value {
    let cases = all()["cases"].as_array().expect("cases");
    cases.iter().find(|case| case["id"] == id).unwrap_or_else(|| panic!("no vector {id}"))
}

/// The bytes of a case that has but one string of them.
pub(crate) fn bytes(id: &str) -> Vec<u8> {
    unhex(&case(id)["hex"])
}

/// The bytes a JSON string spells in hex.
pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a hex string")).expect("hex")
}

/// The same, of a fixed size.
pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value).try_into().expect("the size asked for")
}

/// The address a `{host, port}` object names.
pub(crate) fn addr(value: &Value) -> std::net::SocketAddrV4 {
    let host = value["host"].as_str().expect("host").parse().expect("an address");
    let port = value["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    std::net::SocketAddrV4::new(host, port)
}

/// The addresses of a list; `null` is none.
pub(crate) fn addrs(value: &Value) -> Vec<std::net::SocketAddrV4> {
    value.as_array().map(|list| list.iter().map(addr).collect()).unwrap_or_default()
}
