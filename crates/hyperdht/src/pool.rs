//! Further sockets of a node, each opened for one connection: a NAT gives each its own mapping, and some NATs
//! take many of them to get through.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use udx::{Socket, SocketId};

use crate::rpc::Via;
use crate::sync::lock;

/// Probes that wait to be taken; more would tell nothing new.
const MAX_PROBES: usize = 16;

/// Numbers are never used twice in a process.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// The further sockets of a node that are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<OpenSockets>>);

#[derive(Debug, Default)]
struct OpenSockets {
    by_number: HashMap<u32, PoolEntry>,
    numbers: HashMap<SocketId, u32>,
}

#[derive(Debug)]
struct PoolEntry {
    socket: Socket,
    probes: mpsc::Sender<SocketAddrV4>,
}

/// A further socket of a node. Like the two main ones it carries messages of the DHT, with
/// [`PoolSocket::via`] as their `via`. Dropping it closes the socket, once the last stream on it has ended.
#[derive(Debug)]
pub(crate) struct PoolSocket {
    number: u32,
    socket: Socket,
    probes: mpsc::Receiver<SocketAddrV4>,
    pool: Pool,
}

impl PoolSocket {
    /// The name of this socket in requests and replies.
    pub(crate) fn via(&self) -> Via {
        Via::Pool(self.number)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Where the next probe of hole punching came from, which is a datagram of one byte. `None` once the node
    /// has closed the socket, because it was suspended or destroyed.
    pub(crate) fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<Option<SocketAddrV4>> {
        self.probes.poll_recv(cx)
    }
}

impl Drop for PoolSocket {
    fn drop(&mut self) {
        self.pool.remove(self.number);
    }
}

impl Pool {
    pub(crate) fn insert(&self, socket: Socket) -> PoolSocket {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let (sender, probes) = mpsc::channel(MAX_PROBES);
        let mut sockets = self.lock();
        sockets.numbers.insert(socket.id(), number);
        sockets.by_number.insert(number, PoolEntry { socket: socket.clone(), probes: sender });
        drop(sockets);
        PoolSocket { number, socket, probes, pool: self.clone() }
    }

    pub(crate) fn get(&self, number: u32) -> Option<Socket> {
        self.lock().by_number.get(&number).map(|entry| entry.socket.clone())
    }

    /// Which of them a datagram came on.
    pub(crate) fn via(&self, socket: SocketId) -> Option<Via> {
        self.lock().numbers.get(&socket).copied().map(Via::Pool)
    }

    /// Hands a probe to whoever holds the socket.
    pub(crate) fn probed(&self, via: Via, from: SocketAddrV4) {
        if let Via::Pool(number) = via
            && let Some(entry) = self.lock().by_number.get(&number)
        {
            let _ = entry.probes.try_send(from);
        }
    }

    /// Closes all of them.
    pub(crate) fn clear(&self) {
        let sockets = std::mem::take(&mut *self.lock());
        sockets.by_number.into_values().for_each(|entry| close(&entry.socket));
    }

    fn remove(&self, number: u32) {
        let mut sockets = self.lock();
        if let Some(entry) = sockets.by_number.remove(&number) {
            sockets.numbers.remove(&entry.socket.id());
            close(&entry.socket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpenSockets> {
        lock(&self.0)
    }
}

/// The first poll is enough to close the socket; nobody has to wait for the end.
fn close(socket: &Socket) {
    let _ = socket.close().now_or_never();
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::SocketAddr;

    use bytes::Bytes;

    use crate::config::Config;
    use crate::node;
    use crate::rpc::{Request, Via};

    fn at(addr: SocketAddr) -> std::net::SocketAddrV4 {
        match addr {
            SocketAddr::V4(addr) => addr,
            SocketAddr::V6(addr) => panic!("bound to {addr}"),
        }
    }

    #[tokio::test]
    async fn a_further_socket_asks_answers_and_is_probed_until_it_is_dropped() {
        let host = [127, 0, 0, 1].into();
        let config = Config { host, port: 0, ..Config::private(Vec::new()) };
        let (one, other) = (node::start(&config).await.unwrap(), node::start(&config).await.unwrap());
        let mut pool = one.open_socket().await.unwrap();
        let server = at(other.socket(Via::Server).unwrap().local_addr());

        let reply = one.request(Request::ping(server).via(pool.via())).await.unwrap();
        assert_eq!((reply.via, reply.to), (pool.via(), at(pool.socket().local_addr())));
        let reply = other.ping(at(pool.socket().local_addr())).await.unwrap();
        assert_eq!(reply.from, at(pool.socket().local_addr()));

        other.socket(Via::Server).unwrap().send(Bytes::from_static(&[0]), pool.socket().local_addr());
        assert_eq!(poll_fn(|cx| pool.poll_probe(cx)).await, Some(server));

        let via = pool.via();
        assert!(one.socket(via).is_some());
        drop(pool);
        assert!(one.socket(via).is_none());

        let mut pool = one.open_socket().await.unwrap();
        one.suspend().await;
        assert_eq!(poll_fn(|cx| pool.poll_probe(cx)).await, None);
        assert!(one.open_socket().await.is_err());
        one.destroy().await;
        other.destroy().await;
    }
}
