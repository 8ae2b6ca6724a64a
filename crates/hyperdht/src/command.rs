//! Numbers of the commands and errors (spec/dht.md §3, §10).

/// Commands of the plain DHT, sent with the `internal` flag.
pub mod internal {
    pub const PING: u64 = 0;
    pub const PING_NAT: u64 = 1;
    pub const FIND_NODE: u64 = 2;
    pub const DOWN_HINT: u64 = 3;
    pub const DELAYED_PING: u64 = 4;
}

pub const PEER_HANDSHAKE: u64 = 0;
pub const PEER_HOLEPUNCH: u64 = 1;
pub const FIND_PEER: u64 = 2;
pub const LOOKUP: u64 = 3;
pub const ANNOUNCE: u64 = 4;
pub const UNANNOUNCE: u64 = 5;
pub const MUTABLE_PUT: u64 = 6;
pub const MUTABLE_GET: u64 = 7;
pub const IMMUTABLE_PUT: u64 = 8;
pub const IMMUTABLE_GET: u64 = 9;
pub const PLUGIN: u64 = 10;

/// The command is not one this node answers.
pub const UNKNOWN_COMMAND: u64 = 1;
/// The token was not given to this address, or is too old.
pub const INVALID_TOKEN: u64 = 2;
/// Another value is stored under the same sequence number.
pub const SEQ_REUSED: u64 = 16;
/// A newer value is stored.
pub const SEQ_TOO_LOW: u64 = 17;
