//! A connection with a peer of ours, by whichever way: over UDP, or through the tunnel.

use bytes::Bytes;
use hyperdht::connect::{Connection, Link};
use secret_stream::{Io, PublicKey};

use super::ConnectionInfo;
use crate::files::Source;
use crate::pump::{self, Control, PumpError};
use crate::tunnel::{Met, TunnelLink, WebSocketBytes};
use crate::wire::Meta;

/// Bytes of the packets that originals begin with; they never send smaller ones.
pub(crate) const ORIGINALS_PACKET: u16 = 1200;

/// A connection with a peer, between two files or before the first.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    pub(crate) stream: PeerStream,
    pub(crate) link: PeerLink,
    /// The key of the peer at the other end.
    pub(crate) peer_key: PublicKey,
}

/// What carries files to or from a peer.
#[derive(Debug)]
pub(crate) enum PeerStream {
    Udp(pump::Stream<udx::Stream>),
    Tunnel(pump::Stream<Io<WebSocketBytes>>),
}

/// What can be told and asked about a connection while its stream is in use.
#[derive(Clone, Debug)]
pub(crate) enum PeerLink {
    Udp(Link),
    Tunnel(TunnelLink),
}

impl PeerConnection {
    /// One that was met at the tunnel.
    pub(crate) fn met(met: Met, peer_key: PublicKey) -> Self {
        let Met { stream, link } = met;
        Self { stream: PeerStream::Tunnel(stream.into()), link: PeerLink::Tunnel(link), peer_key }
    }
}

impl From<Connection> for PeerConnection {
    fn from(connection: Connection) -> Self {
        let (link, peer_key) = (connection.link(), connection.remote_public_key());
        Self { stream: PeerStream::Udp(connection.stream.into()), link: PeerLink::Udp(link), peer_key }
    }
}

impl From<pump::Stream<udx::Stream>> for PeerStream {
    fn from(stream: pump::Stream<udx::Stream>) -> Self {
        Self::Udp(stream)
    }
}

impl From<pump::Stream<Io<WebSocketBytes>>> for PeerStream {
    fn from(stream: pump::Stream<Io<WebSocketBytes>>) -> Self {
        Self::Tunnel(stream)
    }
}

impl PeerStream {
    /// See [`pump::send`].
    pub(crate) async fn send(
        self,
        source: &Source,
        meta: &Meta,
        control: &Control,
    ) -> Result<Self, PumpError> {
        match self {
            Self::Udp(stream) => pump::send(stream, source, meta, control).await.map(Self::from),
            Self::Tunnel(stream) => pump::send(stream, source, meta, control).await.map(Self::from),
        }
    }

    /// See [`pump::Stream::spent`].
    pub(crate) async fn spent(&mut self) {
        match self {
            Self::Udp(stream) => stream.spent().await,
            Self::Tunnel(stream) => stream.spent().await,
        }
    }

    /// See [`pump::Stream::take_acknowledgement`].
    pub(crate) fn take_acknowledgement(&mut self) -> Bytes {
        match self {
            Self::Udp(stream) => stream.take_acknowledgement(),
            Self::Tunnel(stream) => stream.take_acknowledgement(),
        }
    }

    /// See [`pump::Stream::flush`].
    pub(crate) async fn flush(&mut self) -> Result<(), secret_stream::Error> {
        match self {
            Self::Udp(stream) => stream.flush().await,
            Self::Tunnel(stream) => stream.flush().await,
        }
    }

    /// See [`pump::Stream::end_with`].
    pub(crate) async fn end_with(self, error: PumpError) {
        match self {
            Self::Udp(stream) => stream.end_with(error).await,
            Self::Tunnel(stream) => stream.end_with(error).await,
        }
    }

    /// See [`pump::Stream::end`].
    pub(crate) async fn end(self) {
        match self {
            Self::Udp(stream) => stream.end().await,
            Self::Tunnel(stream) => stream.end().await,
        }
    }
}

impl PeerLink {
    /// What there is to say of the connection right now.
    pub(crate) fn info(&self) -> ConnectionInfo {
        match self {
            Self::Udp(link) => ConnectionInfo::of(link),
            Self::Tunnel(link) => ConnectionInfo {
                path: "tunnel",
                rtt: Some(link.rtt),
                connect_time: link.took,
                remote_address: link.remote_address,
            },
        }
    }

    /// Most bytes of a packet that passes between both ends, if an original's are known to be larger.
    pub(crate) fn too_small_for_originals(&self) -> Option<u16> {
        let Self::Udp(link) = self else { return None };
        Some(link.first_hop_mtu()).filter(|bytes| (1..ORIGINALS_PACKET).contains(bytes))
    }

    /// Waits for a sign of life; false if none comes within three seconds. For when the network has changed
    /// or the machine slept.
    pub(crate) async fn is_alive(&self) -> bool {
        match self {
            Self::Udp(link) => link.is_alive().await,
            Self::Tunnel(link) => link.is_alive().await,
        }
    }

    /// Ends the connection at once.
    pub(crate) fn destroy(&self) {
        match self {
            Self::Udp(link) => link.destroy(),
            Self::Tunnel(link) => link.destroy(),
        }
    }
}

impl From<Link> for PeerLink {
    fn from(link: Link) -> Self {
        Self::Udp(link)
    }
}
