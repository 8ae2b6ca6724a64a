//! The node's one place on the Hyperswarm network, joined when the first transfer needs it.

use std::sync::OnceLock;

use hyperdht::Dht;
use hyperswarm::RelayThrough;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::{Mutex, watch};

use crate::ats::Client;
use crate::error::{Code, Error, Result};

/// A DHT node started at its first use.
#[derive(Debug)]
pub(crate) struct Network {
    /// What the caller named; otherwise the task service is asked, and else the public nodes are used.
    bootstrap: Option<Vec<String>>,
    relay: RelayChoice,
    /// The relay of the hub that named the DHT nodes, once it was asked.
    hub_relay: OnceLock<PublicKey>,
    dht: Mutex<State>,
    suspended: watch::Sender<bool>,
}

/// The relay that connections go through where no direct way opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayChoice {
    /// That of the hub which names the DHT nodes, if it has one.
    #[default]
    Hub,
    /// The one of this key.
    Key(PublicKey),
    /// None, unless the other side names one.
    Nobody,
}

impl RelayChoice {
    /// The relay that is meant, where the hub has this one.
    pub(crate) fn among(self, hub: Option<PublicKey>) -> Option<PublicKey> {
        match self {
            Self::Hub => hub,
            Self::Key(key) => Some(key),
            Self::Nobody => None,
        }
    }
}

#[derive(Debug)]
enum State {
    Idle,
    Up(Box<Dht>),
    Closed,
}

impl Network {
    /// A network that joins through `bootstrap` (`host:port` each), if given.
    pub(crate) fn new(bootstrap: Option<Vec<String>>, relay: RelayChoice) -> Self {
        Self {
            bootstrap,
            relay,
            hub_relay: OnceLock::new(),
            dht: Mutex::new(State::Idle),
            suspended: watch::Sender::new(false),
        }
    }

    /// The relay to go through where no direct way opens; known once the DHT node is up.
    pub(crate) fn relay(&self) -> Option<PublicKey> {
        self.relay.among(self.hub_relay.get().copied())
    }

    /// The same for a swarm. `keys` are those that stand in the task: a hub's relay serves them.
    pub(crate) fn relay_of_swarm(&self, keys: KeyPair) -> Option<RelayThrough> {
        self.relay().map(|relay| RelayThrough { keys: Some(keys), ..RelayThrough::always(relay) })
    }

    /// The DHT node, started now if it is not up. Waits while suspended.
    pub(crate) async fn dht(&self, client: &Client) -> Result<Dht> {
        self.resumed().await;
        let mut state = self.dht.lock().await;
        match &*state {
            State::Up(dht) => return Ok(Dht::clone(dht)),
            State::Closed => return Err(Error::new(Code::Destroyed, "the node was destroyed")),
            State::Idle => {}
        }
        let dht = Dht::new(self.config(client).await?).await.map_err(|error| {
            Error::new(
                Code::Network,
                format!("no place on the peer network: {error}; is UDP allowed on this machine?"),
            )
        })?;
        *state = State::Up(Box::new(dht.clone()));
        Ok(dht)
    }

    /// Ends all connections and closes the sockets until [`Network::resume`].
    pub(crate) async fn suspend(&self) {
        let state = self.dht.lock().await;
        self.suspended.send_replace(true);
        if let State::Up(dht) = &*state {
            dht.suspend().await;
        }
    }

    /// Opens the sockets again.
    ///
    /// # Errors
    /// `NETWORK` if that is not possible; it stays suspended then.
    pub(crate) async fn resume(&self) -> Result<()> {
        let state = self.dht.lock().await;
        if let State::Up(dht) = &*state {
            dht.resume().await.map_err(Error::network)?;
        }
        self.suspended.send_replace(false);
        Ok(())
    }

    /// Whether it is suspended now: whoever fails to connect meanwhile has not failed.
    pub(crate) fn is_suspended(&self) -> bool {
        *self.suspended.borrow()
    }

    /// Waits until it is not suspended.
    pub(crate) async fn resumed(&self) {
        // The sender lives as long as this.
        let _ = self.suspended.subscribe().wait_for(|suspended| !suspended).await;
    }

    /// Leaves the network; all connections end.
    pub(crate) async fn close(&self) {
        let before = std::mem::replace(&mut *self.dht.lock().await, State::Closed);
        if let State::Up(dht) = before {
            dht.destroy().await;
        }
    }

    async fn config(&self, client: &Client) -> Result<hyperdht::Config> {
        let named = match &self.bootstrap {
            Some(nodes) => Some(nodes.clone()),
            None => client.health().await?.p2p.map(|p2p| {
                if let Some(relay) = p2p.relay {
                    // Asked again only if the node could not start.
                    let _ = self.hub_relay.set(relay);
                }
                p2p.bootstrap
            }),
        };
        dht_config(named.as_deref())
    }
}

/// How a node joins the network of these bootstrap nodes, or else the public one.
pub(crate) fn dht_config(bootstrap: Option<&[String]>) -> Result<hyperdht::Config> {
    let Some(nodes) = bootstrap else { return Ok(hyperdht::Config::default()) };
    let parse = |node: &String| {
        let wrong =
            |_| Error::new(Code::InvalidArgument, format!("{node:?} is no bootstrap node: host:port is"));
        node.parse().map_err(wrong)
    };
    Ok(hyperdht::Config::private(nodes.iter().map(parse).collect::<Result<Vec<_>>>()?))
}
