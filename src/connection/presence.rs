//! Whether a node is on the peer network.

/// Whether the network may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkState {
    /// It may.
    Active,
    /// It was left for a while.
    Suspended,
    /// It was left for good.
    Closed,
}
