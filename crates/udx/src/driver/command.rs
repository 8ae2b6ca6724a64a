//! What handles ask of the owner task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::options::StreamOptions;
use super::relay_meter::RelayMeter;
use super::shared::Shared;
use crate::error::Error;
use crate::proto::{Remote, SocketId};
use crate::time::Micros;

pub(super) enum Command {
    Bind {
        address: SocketAddr,
        reply: oneshot::Sender<io::Result<(SocketId, SocketAddr)>>,
    },
    CloseSocket {
        socket: SocketId,
        reply: oneshot::Sender<()>,
    },
    Send {
        socket: SocketId,
        to: SocketAddr,
        ttl: Option<u8>,
        /// Whether the network may cut it to pieces.
        may_fragment: bool,
        data: Bytes,
    },
    Open {
        options: StreamOptions,
        reply: oneshot::Sender<Result<Arc<Shared>, Error>>,
    },
    /// Something new is in a stream's shared state.
    Dirty(Arc<Shared>),
    Stream(Arc<Shared>, StreamCommand),
    /// No handle is left.
    Abandon,
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(super) enum StreamCommand {
    Connect(Remote),
    ChangeRemote(Remote),
    Redirect(Remote),
    Keepalive(Option<Micros>),
    ReceiveLimit(u32),
    Message(Bytes),
    Destroy,
    RelayTo(Arc<Shared>, Option<RelayMeter>),
    /// The user's handle is gone.
    Drop,
}
