//! Tokens, by which a node learns that the asker really has its address (spec/dht.md §4).

use std::net::Ipv4Addr;

use rand::{CryptoRng, RngExt};

use crate::crypto::{hash, keyed_hash};
use crate::rpc::Token;

/// The secret changes after this many drains of the request window: 7.5 s.
const DRAINS_A_SECRET: u32 = 10;

/// Makes and checks tokens with a secret that changes, so that a token lives 7.5 to 15 s.
#[derive(Clone)]
pub(super) struct Tokens {
    previous: [u8; 32],
    current: [u8; 32],
    drains: u32,
}

impl Tokens {
    pub(super) fn new(rng: &mut impl CryptoRng) -> Self {
        Self::with_secrets(rng.random(), rng.random())
    }

    pub(super) fn with_secrets(previous: [u8; 32], current: [u8; 32]) -> Self {
        Self { previous, current, drains: 0 }
    }

    /// The token for whoever receives at `host`.
    pub(super) fn make(&self, host: Ipv4Addr) -> Token {
        keyed_hash(&self.current, &[host.to_string().as_bytes()])
    }

    /// Whether `token` was made for `host` lately.
    pub(super) fn is_valid(&self, token: &Token, host: Ipv4Addr) -> bool {
        let host = host.to_string();
        let matches = |secret| same(token, &keyed_hash(secret, &[host.as_bytes()]));
        matches(&self.current) | matches(&self.previous)
    }

    /// 750 ms have passed.
    pub(super) fn drain(&mut self) {
        self.drains += 1;
        if self.drains == DRAINS_A_SECRET {
            self.drains = 0;
            let next = hash(&[&self.previous]);
            self.previous = std::mem::replace(&mut self.current, next);
        }
    }
}

/// Compares in constant time.
fn same(a: &Token, b: &Token) -> bool {
    a.iter().zip(b).fold(0, |differences, (x, y)| differences | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::cases;
    use crate::testing::vectors::connect::array;

    #[test]
    fn tokens_and_secrets_are_those_of_the_vectors() {
        for case in cases("token") {
            let input = &case["input"];
            if case["id"] == "token-rotate" {
                let mut tokens = Tokens::with_secrets(array(&input["previous"]), array(&input["current"]));
                for _ in 0..DRAINS_A_SECRET {
                    tokens.drain();
                }
                assert_eq!(tokens.previous, array(&case["result"]["previous"]));
                assert_eq!(tokens.current, array(&case["result"]["current"]));
            } else {
                let tokens = Tokens::with_secrets([0; 32], array(&input["secret"]));
                let host = input["host"].as_str().unwrap().parse().unwrap();
                assert_eq!(tokens.make(host), array(&case["hex"]), "{}", case["id"]);
            }
        }
    }

    #[test]
    fn a_token_lives_for_one_change_of_the_secret_and_is_bound_to_its_host() {
        let (host, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let mut tokens = Tokens::with_secrets([1; 32], [2; 32]);
        let token = tokens.make(host);
        assert!(!tokens.is_valid(&token, other));
        for _ in 0..2 * DRAINS_A_SECRET - 1 {
            tokens.drain();
            assert!(tokens.is_valid(&token, host));
        }
        tokens.drain();
        assert!(!tokens.is_valid(&token, host));
    }
}
