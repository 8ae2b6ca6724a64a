//! The node's one place on the Hyperswarm network, joined when the first transfer needs it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyperdht::Dht;
use hyperswarm::RelayThrough;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;
use tokio::time::timeout;
use url::{Host, Url};

use super::meetings::Meetings;
use super::presence::NetworkState;
use super::udp::{ANSWER_WITHIN, Udp, watch_udp};
use crate::ats::{Client, P2pHealth};
use crate::error::{Code, Error, Result};
use crate::sync::lock;
use crate::tunnel::{TunnelChoice, Tunnels};

/// How long the nodes around may take to be told that this one leaves: what it announced runs out by itself.
const LAST_LEAVE: Duration = Duration::from_millis(300);

/// A DHT node started at its first use.
#[derive(Debug)]
pub struct Network {
    /// What the caller named; otherwise the task service is asked, and else the public nodes are used.
    bootstrap: Option<Vec<String>>,
    relay: RelayChoice,
    tunnel: TunnelChoice,
    /// What a hub said of the network beside it, once it was asked; `None` for any other service.
    hub: Mutex<Option<P2pHealth>>,
    /// Whether UDP leads anywhere, since the DHT node is up.
    udp: watch::Sender<Udp>,
    dht: Mutex<Option<Dht>>,
    presence: watch::Sender<NetworkState>,
    meetings: Arc<Meetings>,
    /// How often it was left and come back to.
    comebacks: watch::Sender<u64>,
    /// Held by whoever starts the DHT node: the service is asked meanwhile, which can take its time.
    starting: tokio::sync::Mutex<()>,
    /// Held where the node or the presence changes. Never while the service is waited for.
    changing: tokio::sync::Mutex<()>,
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

impl Network {
    /// A network that joins through `bootstrap` (`host:port` each), if given.
    pub fn new(bootstrap: Option<Vec<String>>, relay: RelayChoice, tunnel: TunnelChoice) -> Self {
        let presence = watch::Sender::new(NetworkState::Active);
        Self {
            meetings: Arc::new(Meetings::new(presence.subscribe())),
            bootstrap,
            relay,
            tunnel,
            hub: Mutex::default(),
            udp: watch::Sender::new(Udp::Unknown),
            dht: Mutex::default(),
            presence,
            comebacks: watch::Sender::new(0),
            starting: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The relay to go through where no direct way opens; known once the DHT node is up.
    pub fn relay(&self) -> Option<PublicKey> {
        // Where others named the nodes, the hub's relay is on another network.
        let hub = lock(&self.hub).as_ref().filter(|_| self.bootstrap.is_none()).and_then(|hub| hub.relay);
        self.relay.among(hub)
    }

    /// The tunnels that may be used; known once the DHT node is up.
    pub(crate) fn tunnels(&self, client: &Client) -> Tunnels {
        Tunnels::new(&self.tunnel, client.settings(), client.web(), lock(&self.hub).as_ref())
    }

    /// The way to peers by tunnels.
    pub(crate) fn meetings(&self) -> Arc<Meetings> {
        self.meetings.clone()
    }

    /// Whether UDP leads anywhere.
    pub(crate) fn udp(&self) -> watch::Receiver<Udp> {
        self.udp.subscribe()
    }

    /// What is in the way to peers that know no tunnel, originals above all, where no UDP leads out.
    pub(crate) fn original_is_cut_off(&self) -> Option<&'static str> {
        (*self.udp.borrow() == Udp::Blocked).then_some(
            "no UDP gets out of here, and this peer runs a package that is met over UDP alone: let UDP out, \
             or have it run ats-p2p too, which is met at the hub's tunnel",
        )
    }

    /// [`Self::relay`] for a swarm. `keys` are those that stand in the task: a hub's relay serves them.
    pub fn relay_of_swarm(&self, keys: KeyPair) -> Option<RelayThrough> {
        self.relay().map(|relay| RelayThrough { keys: Some(keys), ..RelayThrough::always(relay) })
    }

    /// The DHT node, started now if it is not up. Waits while suspended.
    ///
    /// # Errors
    /// `DESTROYED` once closed; `NETWORK` if no node can be started; those of the service where it has to say
    /// which nodes to join.
    pub async fn dht(&self, client: &Client) -> Result<Dht> {
        let mut presence = self.presence.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = presence.wait_for(|presence| *presence != NetworkState::Suspended).await;
            let started = tokio::select! {
                started = self.start(client) => started?,
                _ = presence.wait_for(|presence| *presence != NetworkState::Active) => None,
            };
            if let Some(dht) = started {
                return Ok(dht);
            }
            if *presence.borrow() == NetworkState::Closed {
                return Err(Error::new(Code::Destroyed, "the node was destroyed"));
            }
        }
    }

    /// The DHT node that is up or can be started; `None` if the network was left meanwhile.
    async fn start(&self, client: &Client) -> Result<Option<Dht>> {
        let _starting = self.starting.lock().await;
        if let Some(dht) = &*lock(&self.dht) {
            return Ok(Some(dht.clone()));
        }
        let config = self.config(client).await?;
        // A hub that has no DHT, as at an IPv6 address, names no node: nobody will answer.
        let patience = if config.bootstrap.is_empty() { Duration::ZERO } else { ANSWER_WITHIN };
        let dht = Dht::new(config).await.map_err(|error| {
            Error::new(
                Code::Network,
                format!("no place on the peer network: {error}; is UDP allowed on this machine?"),
            )
        })?;
        let _changing = self.changing.lock().await;
        if *self.presence.borrow() != NetworkState::Active {
            dht.destroy().await;
            return Ok(None);
        }
        tokio::spawn(watch_udp(dht.network(), self.udp.clone(), patience));
        *lock(&self.dht) = Some(dht.clone());
        Ok(Some(dht))
    }

    /// Ends all connections and closes the sockets until [`Network::resume`].
    pub async fn suspend(&self) {
        let _changing = self.changing.lock().await;
        self.change_presence(NetworkState::Suspended);
        self.meetings.leave();
        if let Some(dht) = self.running() {
            dht.suspend().await;
        }
    }

    /// Opens the sockets again.
    ///
    /// # Errors
    /// `NETWORK` if that is not possible; it stays suspended then.
    pub async fn resume(&self) -> Result<()> {
        let _changing = self.changing.lock().await;
        if let Some(dht) = self.running() {
            dht.resume().await.map_err(Error::network)?;
        }
        if self.change_presence(NetworkState::Active) {
            self.comebacks.send_modify(|comebacks| *comebacks += 1);
        }
        Ok(())
    }

    /// Notices each time that the network was left and come back to, from now on.
    pub(crate) fn comebacks(&self) -> watch::Receiver<u64> {
        self.comebacks.subscribe()
    }

    /// Waits until it is not suspended. Says whether it was: whoever failed to connect meanwhile has not
    /// failed.
    pub async fn resumed(&self) -> bool {
        let was_suspended = *self.presence.borrow() == NetworkState::Suspended;
        // The sender lives as long as this.
        let _ = self.presence.subscribe().wait_for(|presence| *presence != NetworkState::Suspended).await;
        was_suspended
    }

    /// Leaves the network for good; all connections end.
    pub async fn close(&self) {
        let _changing = self.changing.lock().await;
        self.change_presence(NetworkState::Closed);
        self.meetings.leave();
        let dht = lock(&self.dht).take();
        if let Some(dht) = dht {
            // Where that takes longer it ends here all the same, with the last that holds it.
            let _ = timeout(LAST_LEAVE, dht.destroy()).await;
        }
    }

    fn running(&self) -> Option<Dht> {
        lock(&self.dht).clone()
    }

    /// Whether that is a change; what is closed stays closed.
    fn change_presence(&self, to: NetworkState) -> bool {
        self.presence.send_if_modified(|presence| {
            let changes = *presence != NetworkState::Closed && *presence != to;
            if changes {
                *presence = to;
            }
            changes
        })
    }

    async fn config(&self, client: &Client) -> Result<hyperdht::Config> {
        let hub = match &self.bootstrap {
            None => client.health().await?.p2p,
            // Then the service is asked for its tunnel alone, and files go without one.
            Some(_) if self.tunnel == TunnelChoice::Service => {
                client.health().await.ok().and_then(|health| health.p2p)
            }
            Some(_) => None,
        };
        let of_hub = || hub.as_ref().and_then(|hub| nodes_of(hub, &client.settings().url));
        let named = self.bootstrap.clone().or_else(of_hub);
        *lock(&self.hub) = hub;
        bootstrap_config(named.as_deref())
    }
}

/// The nodes that a hub called by `url` names. Hubs before this version named none, and did not say so, where
/// they were at an IPv6 address: their peers are not on the public network either.
fn nodes_of(hub: &P2pHealth, url: &str) -> Option<Vec<String>> {
    let is_at_ipv6 = || matches!(Url::parse(url).ok()?.host()?, Host::Ipv6(_)).then(Vec::new);
    hub.bootstrap.clone().or_else(is_at_ipv6)
}

/// How a node joins the network of these bootstrap nodes, or else the public one.
pub(crate) fn bootstrap_config(bootstrap: Option<&[String]>) -> Result<hyperdht::Config> {
    let Some(nodes) = bootstrap else { return Ok(hyperdht::Config::default()) };
    let parse = |node: &String| {
        let wrong =
            |_| Error::new(Code::InvalidArgument, format!("{node:?} is no bootstrap node: host:port is"));
        node.parse().map_err(wrong)
    };
    Ok(hyperdht::Config::private(nodes.iter().map(parse).collect::<Result<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::ats::{Environment, Overrides, Settings};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A service that takes connections and answers nothing, and its client.
    async fn silent_service() -> (TcpListener, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Some(format!("http://{}", listener.local_addr().unwrap()));
        let environment = Environment::current();
        let (settings, _) = Settings::load(Overrides { url, ..Overrides::default() }, &environment);
        (listener, Client::new(settings).unwrap())
    }

    #[test]
    fn a_hub_at_an_ipv6_address_that_names_no_node_has_none() {
        let (silent, one) = (P2pHealth::default(), vec!["192.0.2.1:1".to_owned()]);
        assert_eq!(nodes_of(&silent, "http://[2001:db8::1]:8787"), Some(Vec::new()));
        for url in ["https://hub.example", "http://192.0.2.1:8787", "nonsense"] {
            assert_eq!(nodes_of(&silent, url), None, "{url}: it may name none to this caller alone");
        }
        let naming = P2pHealth { bootstrap: Some(one.clone()), ..P2pHealth::default() };
        assert_eq!(nodes_of(&naming, "http://[2001:db8::1]:8787"), Some(one));
    }

    #[tokio::test]
    async fn leaving_waits_for_no_service_that_is_being_asked_for_the_way_in() {
        let (service, client) = silent_service().await;
        let network = Arc::new(Network::new(None, RelayChoice::Nobody, TunnelChoice::Nowhere));
        let joining = tokio::spawn({
            let (network, client) = (network.clone(), client.clone());
            async move { network.dht(&client).await }
        });
        // The request is under way, and stays so.
        let _held = service.accept().await.unwrap();
        timeout(PATIENCE, network.suspend()).await.expect("it is suspended without the service");
        assert!(!joining.is_finished());
        network.resume().await.unwrap();
        // It asks again, since what was under way was given up.
        let _held_too = service.accept().await.unwrap();
        timeout(PATIENCE, network.close()).await.expect("it is left without the service");
        let error = joining.await.unwrap().unwrap_err();
        assert_eq!(error.code, Code::Destroyed);
        assert!(network.running().is_none());
    }

    #[tokio::test]
    async fn a_node_is_started_once_and_not_while_suspended() {
        let (_service, client) = silent_service().await;
        let network = Arc::new(Network::new(Some(Vec::new()), RelayChoice::Nobody, TunnelChoice::Nowhere));
        network.suspend().await;
        let joining = tokio::spawn({
            let (network, client) = (network.clone(), client.clone());
            async move { network.dht(&client).await }
        });
        tokio::task::yield_now().await;
        assert!(network.running().is_none());
        network.resume().await.unwrap();
        let dht = joining.await.unwrap().unwrap();
        let again = network.dht(&client).await.unwrap();
        assert_eq!(dht.local_addr(), again.local_addr());
        network.close().await;
        assert_eq!(network.dht(&client).await.unwrap_err().code, Code::Destroyed);
    }
}
