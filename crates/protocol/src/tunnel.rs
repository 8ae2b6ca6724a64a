//! How two peers meet at a hub's tunnel: a WebSocket of each, which the hub joins.
//!
//! 1. A peer opens `PATH?key=KEY&peer=KEY`, its own key and the one that it waits for, each 64 lower-case hex
//!    digits.
//! 2. The hub sends [`CHALLENGE_LEN`] random bytes in one binary message.
//! 3. The peer answers with its signature over [`statement`] in one binary message.
//! 4. Once the other end has done the same, and both keys stand in one open task (or the hub asks for less),
//!    the hub sends the text [`JOINED`] to both. What is sent in binary messages from the answer on is passed
//!    to the other end, in order; where one message ends means nothing.
//!
//! An end that has sent all closes with 1000: the hub closes the other end so, behind all that was sent. A
//! hub that ends the WebSocket otherwise says why by one of the [`close`] codes, or by one of the WebSocket's
//! own: 1001 where the hub itself ends, 1013 where it cannot ask its database. It sends a ping at least every
//! 20 s, so that an end can tell a dead connection from a slow peer.

use url::Url;

use crate::scope::canonical_url;
use crate::statement::append;

/// The path of the tunnel below a hub's address.
pub const PATH: &str = "/p2p/tunnel";

/// The random bytes that a hub has signed.
pub const CHALLENGE_LEN: usize = 32;

/// The text message that tells an end that the other one is there.
pub const JOINED: &str = "joined";

/// The most bytes of one message, whoever sends it.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// What these statements are, so that no signature over something else is taken for one.
const DOMAIN: &str = "ats-p2p/tunnel/1";

/// Why a hub ends a WebSocket of the tunnel.
pub mod close {
    /// A message that is out of turn, too long, or of the wrong kind.
    pub const MALFORMED: u16 = 4400;
    /// The signature is not by the key that was named.
    pub const NOT_PROVEN: u16 = 4401;
    /// No open task names both keys, and the hub joins no others.
    pub const NOT_ALLOWED: u16 = 4403;
    /// The other end did not come in time, or the two have been silent for long.
    pub const TIMED_OUT: u16 = 4408;
    /// The same end has come again, by another connection.
    pub const REPLACED: u16 = 4409;
    /// The other end's connection broke.
    pub const PEER_GONE: u16 = 4410;
    /// One of the hub's limits.
    pub const LIMITED: u16 = 4429;
}

/// The bytes that a peer signs by `key` to prove that it may be met by it: each value behind its length, a
/// big-endian u32. The keys are as the address has them, `host` is what [`canonical_host`] makes of the
/// address that was dialled: a hub can use the answer for no other hub.
pub fn statement(challenge: &[u8; CHALLENGE_LEN], key: &[u8; 32], peer: &[u8; 32], host: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let (key, peer) = (hex::encode(key), hex::encode(peer));
    for value in [DOMAIN.as_bytes(), challenge, key.as_bytes(), peer.as_bytes(), host.as_bytes()] {
        append(&mut bytes, value);
    }
    bytes
}

/// The host of an address, and its port where it is not the scheme's own: in lower case, `localhost` for
/// every name of the loopback interface. `None` of what is no address with a host. A WebSocket's schemes are
/// read as those of HTTP.
pub fn canonical_host(url: &str) -> Option<String> {
    let url = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => format!("http://{rest}"),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => format!("https://{rest}"),
        _ => url.to_owned(),
    };
    let url = Url::parse(&canonical_url(&url)).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_each_value_behind_its_length() {
        let bytes = statement(&[5; 32], &[0xab; 32], &[0xcd; 32], "hub.example:8787");
        let (key, peer) = ("ab".repeat(32), "cd".repeat(32));
        let mut literal = vec![0, 0, 0, 16];
        literal.extend(b"ats-p2p/tunnel/1\0\0\0\x20");
        literal.extend([5; 32]);
        literal.extend(b"\0\0\0\x40");
        literal.extend(key.bytes());
        literal.extend(b"\0\0\0\x40");
        literal.extend(peer.bytes());
        literal.extend(b"\0\0\0\x10hub.example:8787");
        assert_eq!(bytes, literal);
    }

    #[test]
    fn one_host_has_one_text() {
        for (url, host) in [
            ("wss://Hub.Example/p2p/tunnel?key=1", Some("hub.example")),
            ("https://hub.example:443", Some("hub.example")),
            ("WS://hub.example:80/", Some("hub.example")),
            ("http://hub.example:443", Some("hub.example:443")),
            ("ws://127.0.0.1:8787", Some("localhost:8787")),
            ("http://[::1]:8787/x", Some("localhost:8787")),
            ("http://[2001:DB8::1]:8787", Some("[2001:db8::1]:8787")),
            ("hub.example", None),
            ("mailto:somebody", None),
        ] {
            assert_eq!(canonical_host(url).as_deref(), host, "{url}");
        }
    }
}
