//! Hashes of the protocol: BLAKE2b-256, plain and keyed, and the namespaces made from it; randomness.

pub(crate) use secret_stream::{hash, keyed_hash};

/// What a signature or key of the DHT is bound to: hash(hash("hyperswarm/dht") ‖ command).
pub(crate) fn namespace(command: u8) -> [u8; 32] {
    secret_stream::namespace("hyperswarm/dht", command)
}

/// Fresh randomness for keys and nonces.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::cases;
    use crate::testing::vectors::connect::array;

    #[test]
    fn namespaces_are_those_of_the_vectors() {
        for case in cases("namespace") {
            let command = u8::try_from(case["input"]["commandByte"].as_u64().unwrap()).unwrap();
            assert_eq!(namespace(command), array(&case["hex"]), "{}", case["id"]);
        }
    }
}
