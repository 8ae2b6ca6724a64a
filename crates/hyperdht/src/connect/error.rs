//! Why a connection did not come about.

use super::holepunch::Failure;

/// Why [`Dht::connect`](crate::Dht::connect) failed. The codes are those of npm hyperdht
/// (hyperdht/lib/errors.js).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error("no node knows a peer of this key")]
    PeerNotFound,
    #[error("nodes know the peer, but it could not be reached through them")]
    PeerConnectionFailed,
    #[error("the peer speaks another version of the handshake")]
    ServerIncompatible,
    #[error("the peer answered with an error")]
    ServerError,
    #[error("no hole to the peer could be punched")]
    HolepunchAborted,
    #[error("the NATs on both sides show everybody another port: only a relay leads to the peer")]
    DoubleRandomizedNats,
    #[error("this node or the peer punched through another such NAT a moment ago: try later")]
    TryLater,
    #[error("the peer is behind a NAT and names no way through it")]
    CannotHolepunch,
    #[error("no direct path leads to the peer, and the relay does not connect it either")]
    RelayAborted,
    #[error("the node is suspended")]
    Suspended,
    #[error("the node is destroyed")]
    Destroyed,
}

impl ConnectError {
    /// The name that npm hyperdht gives this error.
    pub fn code(self) -> &'static str {
        match self {
            Self::PeerNotFound => "PEER_NOT_FOUND",
            Self::PeerConnectionFailed => "PEER_CONNECTION_FAILED",
            Self::ServerIncompatible => "SERVER_INCOMPATIBLE",
            Self::ServerError => "SERVER_ERROR",
            Self::HolepunchAborted | Self::TryLater => "HOLEPUNCH_ABORTED",
            Self::DoubleRandomizedNats => "HOLEPUNCH_DOUBLE_RANDOMIZED_NATS",
            Self::CannotHolepunch => "CANNOT_HOLEPUNCH",
            Self::RelayAborted => "RELAY_ABORTED",
            Self::Suspended => "SUSPENDED",
            Self::Destroyed => "NODE_DESTROYED",
        }
    }
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DoubleRandom => Self::DoubleRandomizedNats,
            Failure::TryLater => Self::TryLater,
            _ => Self::HolepunchAborted,
        }
    }
}

/// Why [`Dht::listen`](crate::Dht::listen) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    #[error("a server of this key listens on this node already")]
    KeyPairAlreadyUsed,
    #[error("the node is destroyed")]
    Destroyed,
}

impl ListenError {
    /// The name that npm hyperdht gives this error.
    pub fn code(self) -> &'static str {
        match self {
            Self::KeyPairAlreadyUsed => "KEYPAIR_ALREADY_USED",
            Self::Destroyed => "NODE_DESTROYED",
        }
    }
}
