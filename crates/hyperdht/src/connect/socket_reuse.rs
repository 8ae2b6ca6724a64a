//! Sockets that have punched a hole, kept for the next connection with the same peer, which then takes one
//! round trip (spec/connect.md §11).

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use secret_stream::PublicKey;
use udx::StreamHandle;

use crate::pool::PoolSocket;
use crate::rpc::Via;
use crate::sync::lock;

/// How long a socket without a connection is kept (hyperdht/lib/socket-pool.js LINGER_TIME).
const LINGER: Duration = Duration::from_secs(3);

/// The open holes of a node. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holes(Arc<Mutex<HashMap<PublicKey, Weak<Hole>>>>);

/// A socket and the peer that it leads to. The socket stays open for as long as this is held.
#[derive(Debug)]
pub(crate) struct Hole {
    socket: PoolSocket,
    address: SocketAddrV4,
}

impl Hole {
    pub(crate) fn via(&self) -> Via {
        self.socket.via()
    }

    /// The peer, through the hole.
    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

impl Holes {
    /// The hole that leads to the peer.
    pub(crate) fn get(&self, peer: &PublicKey) -> Option<Arc<Hole>> {
        lock(&self.0).get(peer)?.upgrade()
    }

    /// Keeps the hole that a stream runs through. It is a new one if it was punched with `socket`; else it is
    /// the known one of the socket `via`, if there is one.
    pub(crate) fn keep(&self, peer: PublicKey, socket: Option<PoolSocket>, via: Via, stream: StreamHandle) {
        match (socket, stream.remote_addr()) {
            (Some(socket), Some(SocketAddr::V4(address))) => {
                let hole = Arc::new(Hole { socket, address });
                lock(&self.0).insert(peer, Arc::downgrade(&hole));
                self.hold(peer, hole, stream);
            }
            _ => {
                if let Some(hole) = self.get(&peer).filter(|hole| hole.via() == via) {
                    self.hold(peer, hole, stream);
                }
            }
        }
    }

    fn hold(&self, peer: PublicKey, hole: Arc<Hole>, stream: StreamHandle) {
        let holes = self.clone();
        tokio::spawn(async move {
            match stream.closed().await {
                Ok(()) => tokio::time::sleep(LINGER).await,
                // The hole may be closed.
                Err(_) => holes.forget(&peer, &Arc::downgrade(&hole)),
            }
            let last = Arc::downgrade(&hole);
            drop(hole);
            if last.strong_count() == 0 {
                holes.forget(&peer, &last);
            }
        });
    }

    fn forget(&self, peer: &PublicKey, hole: &Weak<Hole>) {
        let mut holes = lock(&self.0);
        if holes.get(peer).is_some_and(|known| known.ptr_eq(hole)) {
            holes.remove(peer);
        }
    }
}
