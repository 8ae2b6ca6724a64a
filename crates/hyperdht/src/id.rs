//! Identifiers of the table: node ids and targets, 32 bytes each, compared by XOR.

use std::net::SocketAddrV4;

use crate::crypto::hash;
use crate::encoding::Writer;

/// A node id, or the target of a request: a BLAKE2b-256 hash, or a topic chosen by people.
pub type Id = [u8; 32];

/// The id of the node that is reached at `addr`. A node can't choose it, others can check it.
pub fn node_id(addr: SocketAddrV4) -> Id {
    let mut w = Writer::new();
    w.addr4(addr);
    hash(&[&w.finish()])
}

/// How far `id` is from `target`; smaller is closer.
pub(crate) fn distance(target: &Id, id: &Id) -> Id {
    std::array::from_fn(|i| target[i] ^ id[i])
}

/// Number of leading bits that `a` and `b` share, 0 to 256.
pub(crate) fn common_prefix(a: &Id, b: &Id) -> usize {
    let mut bits = 0;
    for (x, y) in a.iter().zip(b) {
        let same = (x ^ y).leading_zeros() as usize;
        bits += same;
        if same < 8 {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::cases;
    use crate::testing::vectors::connect::{addr, array};

    #[test]
    fn ids_are_those_of_the_vectors() {
        for case in cases("node-id") {
            assert_eq!(node_id(addr(&case["input"])), array(&case["hex"]), "{}", case["id"]);
        }
    }

    #[test]
    fn prefixes_are_counted_in_bits() {
        let mut other = [0; 32];
        assert_eq!(common_prefix(&[0; 32], &other), 256);
        other[1] = 0b0001_0000;
        assert_eq!(common_prefix(&[0; 32], &other), 11);
        other[0] = 0x80;
        assert_eq!(common_prefix(&[0; 32], &other), 0);
    }
}
