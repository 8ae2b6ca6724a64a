//! Numbers of the commands and errors (spec/dht.md §3, §10).

/// Commands of the plain DHT, sent with the `internal` flag.
pub(crate) mod internal {
    pub(crate) const PING: u64 = 0;
    pub(crate) const PING_NAT: u64 = 1;
    pub(crate) const FIND_NODE: u64 = 2;
    pub(crate) const DOWN_HINT: u64 = 3;
    pub(crate) const DELAYED_PING: u64 = 4;
}

pub(crate) const PEER_HANDSHAKE: u64 = 0;
pub(crate) const PEER_HOLEPUNCH: u64 = 1;
pub(crate) const FIND_PEER: u64 = 2;
pub(crate) const LOOKUP: u64 = 3;
pub(crate) const ANNOUNCE: u64 = 4;
pub(crate) const UNANNOUNCE: u64 = 5;
pub(crate) const MUTABLE_PUT: u64 = 6;
pub(crate) const MUTABLE_GET: u64 = 7;
pub(crate) const IMMUTABLE_PUT: u64 = 8;
pub(crate) const IMMUTABLE_GET: u64 = 9;
pub(crate) const PLUGIN: u64 = 10;

/// The command is not one this node answers.
pub(crate) const UNKNOWN_COMMAND: u64 = 1;
/// The token was not given to this address, or is too old.
pub(crate) const INVALID_TOKEN: u64 = 2;
/// Another value is stored under the same sequence number.
pub(crate) const SEQ_REUSED: u64 = 16;
/// A newer value is stored.
pub(crate) const SEQ_TOO_LOW: u64 = 17;
