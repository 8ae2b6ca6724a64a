//! Why a connection did not come about.

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
    #[error("neither a direct nor a local path leads to the peer")]
    HolepunchAborted,
    #[error("the peer is behind a NAT and names no way through it")]
    CannotHolepunch,
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
            Self::HolepunchAborted => "HOLEPUNCH_ABORTED",
            Self::CannotHolepunch => "CANNOT_HOLEPUNCH",
            Self::Suspended => "SUSPENDED",
            Self::Destroyed => "NODE_DESTROYED",
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
