//! Why a connection did not come about.

use super::holepunch::Failure;

/// Why [`Dht::connect`](crate::Dht::connect) failed. The codes are those of npm hyperdht
/// (hyperdht/lib/errors.js).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No node knows a server of this key.
    #[error("no node knows a peer of this key")]
    PeerNotFound,
    /// Nodes know it, and none of them leads to it; or it did not prove its key.
    #[error("nodes know the peer, but it could not be reached through them")]
    PeerConnectionFailed,
    /// It speaks another version of the handshake.
    #[error("the peer speaks another version of the handshake")]
    ServerIncompatible,
    /// It refused.
    #[error("the peer answered with an error")]
    ServerError,
    /// No hole could be punched to it.
    #[error("no hole to the peer could be punched")]
    HolepunchAborted,
    /// Both NATs show everybody another port; only a relay helps.
    #[error("the NATs on both sides show everybody another port: only a relay leads to the peer")]
    DoubleRandomizedNats,
    /// Ports are guessed for one connection at a time, and not too often.
    #[error("this node or the peer punched through another such NAT a moment ago: try later")]
    TryLater,
    /// It is behind a NAT and named no node to punch through.
    #[error("the peer is behind a NAT and names no way through it")]
    CannotHolepunch,
    /// The relay was not reached, or did not pair us in time.
    #[error("no direct path leads to the peer, and the relay does not connect it either")]
    RelayAborted,
    /// This node is suspended.
    #[error("the node is suspended")]
    Suspended,
    /// This node has ended.
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
    /// This node has a server of this key.
    #[error("a server of this key listens on this node already")]
    KeyPairAlreadyUsed,
    /// This node has ended.
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
