//! The node's one place on the Hyperswarm network, joined when the first transfer needs it.

use hyperdht::Dht;
use tokio::sync::Mutex;

use crate::ats::Client;
use crate::error::{Code, Error, Result};

/// A DHT node started at its first use.
#[derive(Debug)]
pub struct Network {
    /// What the caller named; otherwise the task service is asked, and else the public nodes are used.
    bootstrap: Option<Vec<String>>,
    dht: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Idle,
    Up(Box<Dht>),
    Closed,
}

impl Network {
    /// A network that joins through `bootstrap` (`host:port` each), if given.
    pub fn new(bootstrap: Option<Vec<String>>) -> Network {
        Network { bootstrap, dht: Mutex::new(State::Idle) }
    }

    /// The DHT node, started now if it is not up.
    pub async fn dht(&self, client: &Client) -> Result<Dht> {
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

    /// Leaves the network; all connections end.
    pub async fn close(&self) {
        let before = std::mem::replace(&mut *self.dht.lock().await, State::Closed);
        if let State::Up(dht) = before {
            dht.destroy().await;
        }
    }

    async fn config(&self, client: &Client) -> Result<hyperdht::Config> {
        let named = match &self.bootstrap {
            Some(nodes) => Some(nodes.clone()),
            None => client.health().await?.p2p.map(|p2p| p2p.bootstrap),
        };
        Ok(match named {
            Some(nodes) => {
                let bootstrap = nodes
                    .iter()
                    .map(|node| {
                        node.parse().map_err(|_| {
                            Error::new(
                                Code::InvalidArgument,
                                format!("{node:?} is no bootstrap node: host:port is"),
                            )
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                hyperdht::Config::private(bootstrap)
            }
            None => hyperdht::Config::default(),
        })
    }
}
