//! The swarm's server: started when first needed, findable by the swarm's key.

use std::{net::SocketAddrV4, sync::Arc};

use hyperdht::{
    Dht,
    connect::{Connection, ListenError, Server, ServerOptions},
};
use secret_stream::KeyPair;
use tokio::sync::{mpsc, oneshot, watch};

/// Handle of the task that owns the server. Clones are the same one; the server ends with the last.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    calls: mpsc::UnboundedSender<ListenerCall>,
    /// How many calls of [`Self::close`] wait. While there are any, no server is started.
    closings: Arc<watch::Sender<usize>>,
}

#[derive(Debug)]
enum ListenerCall {
    /// Start the server if it is not there. The answer: the nodes that relay to it.
    Listen(oneshot::Sender<Result<Vec<SocketAddrV4>, ListenError>>),
    Close(oneshot::Sender<()>),
}

impl Listener {
    /// Starts nothing yet. Whoever connects later is sent to `connections`.
    pub(crate) fn new(
        dht: Dht,
        keys: KeyPair,
        options: ServerOptions,
        connections: mpsc::Sender<Connection>,
    ) -> Self {
        let (calls, receiver) = mpsc::unbounded_channel();
        let (closings, wanted) = watch::channel(0);
        let task = ListenerTask { dht, keys, options, connections, closings: wanted, server: None };
        tokio::spawn(task.run(receiver));
        Self { calls, closings: Arc::new(closings) }
    }

    /// Starts the server if it is not there, and returns the nodes that relay handshakes to it.
    pub(crate) async fn listen(&self) -> Result<Vec<SocketAddrV4>, ListenError> {
        let (done, listening) = oneshot::channel();
        // The task outlives this handle.
        let _ = self.calls.send(ListenerCall::Listen(done));
        listening.await.map_err(|_| ListenError::Destroyed)?
    }

    /// Takes the server's announces back, and returns when that is done. It can be started again.
    pub(crate) async fn close(&self) {
        self.closings.send_modify(|closings| *closings += 1);
        let (done, closed) = oneshot::channel();
        // The task outlives this handle.
        let _ = self.calls.send(ListenerCall::Close(done));
        let _ = closed.await;
        self.closings.send_modify(|closings| *closings -= 1);
    }
}

struct ListenerTask {
    dht: Dht,
    keys: KeyPair,
    options: ServerOptions,
    connections: mpsc::Sender<Connection>,
    closings: watch::Receiver<usize>,
    server: Option<Server>,
}

impl ListenerTask {
    async fn run(mut self, mut calls: mpsc::UnboundedReceiver<ListenerCall>) {
        loop {
            tokio::select! {
                call = calls.recv() => match call {
                    Some(ListenerCall::Listen(done)) => {
                        let mut closings = self.closings.clone();
                        let listening = tokio::select! {
                            biased;
                            _ = closings.wait_for(|closings| *closings > 0) => Err(ListenError::Destroyed),
                            listening = self.listen() => listening,
                        };
                        // Nobody waits any more if the receiver is gone.
                        let _ = done.send(listening);
                    }
                    Some(ListenerCall::Close(done)) => {
                        if let Some(server) = self.server.take() {
                            server.close().await;
                        }
                        let _ = done.send(());
                    }
                    None => return,
                },
                connection = accept(&mut self.server) => match connection {
                    Some(connection) => self.hand_over(connection).await,
                    None => self.server = None,
                },
            }
        }
    }

    async fn listen(&mut self) -> Result<Vec<SocketAddrV4>, ListenError> {
        if self.server.is_none() {
            self.server = Some(self.dht.listen(self.keys.clone(), self.options.clone()).await?);
        }
        Ok(self.server.as_ref().map(Server::relay_addresses).unwrap_or_default())
    }

    /// Gives the connection to the swarm. A swarm that is closing this server takes none any more.
    async fn hand_over(&mut self, connection: Connection) {
        let mut closings = self.closings.clone();
        tokio::select! {
            _ = self.connections.send(connection) => {}
            _ = closings.wait_for(|closings| *closings > 0) => {}
        }
    }
}

async fn accept(server: &mut Option<Server>) -> Option<Connection> {
    match server {
        Some(server) => server.accept().await,
        None => std::future::pending().await,
    }
}
