//! A way to a database that can lose everything without a word, as a network does whose cable was pulled.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A way to a server on this machine. Its connections end with this.
pub(crate) struct Valve {
    pub(crate) address: SocketAddr,
    is_shut: watch::Sender<bool>,
    _passing: JoinSet<()>,
}

impl Valve {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let is_shut = watch::Sender::new(false);
        let state = is_shut.clone();
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(pass(near, to, state.subscribe()));
            }
        });
        Self { address, is_shut, _passing: passing }
    }

    /// Loses what is sent from now on. Connections stay open at both ends, and never carry anything again.
    pub(crate) fn shut(&self) {
        self.is_shut.send_replace(true);
    }

    /// Lets new connections through.
    pub(crate) fn open(&self) {
        self.is_shut.send_replace(false);
    }
}

async fn pass(mut near: TcpStream, to: SocketAddr, mut is_shut: watch::Receiver<bool>) {
    let is_lost = *is_shut.borrow_and_update();
    if is_lost {
        return lose((near, None)).await;
    }
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let is_lost = tokio::select! {
        biased;
        _ = is_shut.wait_for(|is_shut| *is_shut) => true,
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
    };
    if is_lost {
        lose((near, Some(far))).await;
    }
}

/// Holds a connection of which neither end hears anything more.
async fn lose(_held: (TcpStream, Option<TcpStream>)) {
    std::future::pending().await
}
