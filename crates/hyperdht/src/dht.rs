//! The public face of a node.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;

use crate::command;
use crate::config::Config;
use crate::connect::client;
use crate::connect::context::{Context, Shared};
use crate::connect::{
    ConnectError, ConnectOptions, Connection, ListenError, PeerAddress, Server, ServerOptions,
};
use crate::crypto::hash;
use crate::encoding::Writer;
use crate::error::Error;
use crate::handle::{Handle, Query};
use crate::id::Id;
use crate::lookup::{AnnounceOptions, Announcement, Lookup};
use crate::network::Network;
use crate::node;
use crate::rpc::{QuerySpec, Reply, Request, Traffic, Via};
use crate::store::MAX_VALUE_SIZE;
use crate::store::message::MutableRecord;
use crate::write::write;

/// A node of the DHT. Clones are the same node; it ends with [`Dht::destroy`], or with the last clone.
#[derive(Clone, Debug)]
pub struct Dht {
    handle: Handle,
    key_pair: KeyPair,
    /// What its servers and connections share.
    peers: Arc<Shared>,
}

/// Sizes of packets that are tried, the largest first: Ethernet's, those of usual tunnels, what IPv6 and
/// libudx count on, and what is left of these in a tunnel; the last is what every path of IPv4 carries.
const PACKET_SIZES: [u16; 8] = [1500, 1420, 1380, 1280, 1200, 1000, 800, 576];
/// What there is of a padded ping besides its padding: the headers of IPv4 and UDP, the message's own, the
/// length of the padding.
const PING_OVERHEAD: u16 = 20 + 8 + 11 + 3;
/// How often each is sent: one may be lost by chance.
const PACKET_SIZE_ATTEMPTS: u32 = 2;

impl Dht {
    /// Binds a node and lets it find its way into the network: [`Dht::ready`] waits for that.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn new(config: Config) -> Result<Self, Error> {
        let handle = node::start(&config).await?;
        let key_pair = config.key_pair.unwrap_or_else(KeyPair::generate);
        Ok(Self { handle, key_pair, peers: Arc::default() })
    }

    /// The first node of a private network, which others reach at `host`. It is persistent and needs no other
    /// node to learn its address from. Port 0 means any free one.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bootstrapper(port: u16, host: Ipv4Addr) -> Result<Self, Error> {
        Self::new(Config {
            port,
            exact_port: true,
            host: host.into(),
            ephemeral: Some(false),
            firewalled: false,
            known_host: Some(host),
            ..Config::private(Vec::new())
        })
        .await
    }

    /// Waits until the node has looked around in its neighbourhood for the first time.
    ///
    /// # Errors
    /// [`Error::Destroyed`] if it ends before.
    pub async fn ready(&self) -> Result<(), Error> {
        let ready = self.handle.wait_for(|network| network.bootstrapped).await;
        if ready { Ok(()) } else { Err(Error::Destroyed) }
    }

    /// Where the server socket is bound; `None` while suspended and at the end.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.handle.socket(Via::Server).map(|socket| socket.local_addr())
    }

    /// Where this node is reached from outside, if it is known to be.
    pub fn remote_address(&self) -> Option<SocketAddrV4> {
        self.handle.network().remote_address
    }

    /// Who this node is when it connects and is told nothing else.
    pub fn key_pair(&self) -> &KeyPair {
        &self.key_pair
    }

    /// What the node knows of itself and its network, to be woken by its changes.
    pub fn network(&self) -> watch::Receiver<Network> {
        self.handle.watch()
    }

    /// The nodes it knows, the one heard last first: those to give to [`Dht::add_nodes`] after a restart.
    pub async fn nodes(&self) -> Vec<SocketAddrV4> {
        self.handle.nodes().await
    }

    /// The requests that the node has sent so far, its own and those of callers.
    pub async fn traffic(&self) -> Traffic {
        self.handle.traffic().await
    }

    /// Takes in nodes known from an earlier run.
    pub fn add_nodes(&self, nodes: Vec<SocketAddrV4>) {
        self.handle.add_nodes(nodes);
    }

    /// The largest IP packet, of the sizes that links usually have, that gets to a node; in bytes. `None` if
    /// the node answers none.
    pub async fn packet_size_to(&self, node: SocketAddrV4) -> Option<u16> {
        let pings = PACKET_SIZES.map(|size| async move {
            let padding = vec![0; usize::from(size - PING_OVERHEAD)];
            let ping = Request::ping(node).value(padding).attempts(PACKET_SIZE_ATTEMPTS).whole();
            self.handle.request(ping).await.is_ok()
        });
        let passed = join_all(pings).await;
        PACKET_SIZES.into_iter().zip(passed).find(|(_, passed)| *passed).map(|(size, _)| size)
    }

    /// Looks for the nodes closest to `target`.
    pub fn find_node(&self, target: Id) -> Query {
        self.handle.query(QuerySpec::find_node(target))
    }

    /// Looks for the nodes that know the server with this public key; a reply's value is its peer record.
    /// `nodes`: where to begin, if that is known.
    pub fn find_peer(&self, public_key: &PublicKey, nodes: Vec<SocketAddrV4>) -> Query {
        let spec = QuerySpec::user(command::FIND_PEER, hash(&[public_key]));
        self.handle.query(spec.nodes(nodes))
    }

    /// Looks for those who announced themselves for `topic`. `nodes`: where to begin.
    pub fn lookup(&self, topic: Id, nodes: Vec<SocketAddrV4>) -> Lookup {
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(nodes);
        Lookup::new(&self.handle, spec, None, None)
    }

    /// Looks `topic` up and, at the end, announces `key_pair` to the nodes closest to it: [`Lookup::finish`].
    /// `relay_addresses`: nodes that pass handshakes on to it, at most three.
    pub fn announce(
        &self,
        topic: Id,
        key_pair: &KeyPair,
        relay_addresses: &[SocketAddrV4],
        options: AnnounceOptions,
    ) -> Lookup {
        let clear = options.clear.then(|| key_pair.clone());
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(options.nodes);
        let announce = Announcement {
            key_pair: key_pair.clone(),
            relay_addresses: relay_addresses.to_vec(),
            bump: options.bump,
        };
        Lookup::new(&self.handle, spec, clear, Some(announce))
    }

    /// Looks `topic` up and withdraws `key_pair` wherever it is listed.
    pub fn unannounce(&self, topic: Id, key_pair: &KeyPair, nodes: Vec<SocketAddrV4>) -> Lookup {
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(nodes);
        Lookup::new(&self.handle, spec, Some(key_pair.clone()), None)
    }

    /// Withdraws `key_pair` from `nodes` alone and asks each once: a quick goodbye.
    pub fn unannounce_at(&self, topic: Id, key_pair: &KeyPair, nodes: Vec<SocketAddrV4>) -> Lookup {
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(nodes);
        let spec = QuerySpec { only_nodes: true, attempts: 1, ..spec };
        Lookup::new(&self.handle, spec, Some(key_pair.clone()), None)
    }

    /// Stores a value under its hash, which is returned.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::TooFewNodes`] if nobody took it.
    pub async fn immutable_put(&self, value: impl Into<Bytes>) -> Result<Id, Error> {
        let value = fits(value.into())?;
        let target = hash(&[&value]);
        let closest = self.query_value(command::IMMUTABLE_GET, target, None).finish().await?;
        self.put(command::IMMUTABLE_PUT, target, &value, closest).await?;
        Ok(target)
    }

    /// The value with this hash, if somebody still has it.
    ///
    /// # Errors
    /// [`Error::Suspended`], [`Error::Destroyed`].
    pub async fn immutable_get(&self, target: Id) -> Result<Option<Bytes>, Error> {
        let mut query = self.query_value(command::IMMUTABLE_GET, target, None);
        while let Some(reply) = query.next().await {
            if let Some(value) = reply.value.filter(|value| hash(&[value]) == target) {
                return Ok(Some(value));
            }
        }
        query.finish().await?;
        Ok(None)
    }

    /// Stores a value under the public key, in place of any with a lower `seq`.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::TooFewNodes`] if nobody took it, as where a value with a higher
    /// `seq` is stored.
    pub async fn mutable_put(
        &self,
        key_pair: &KeyPair,
        seq: u64,
        value: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let public_key = key_pair.public_key();
        let record = MutableRecord::sign(seq, fits(value.into())?, key_pair);
        let target = hash(&[&public_key]);
        let closest = self.query_value(command::MUTABLE_GET, target, Some(0)).finish().await?;
        let put = record.encode_put(&public_key).into();
        self.put(command::MUTABLE_PUT, target, &put, closest).await
    }

    /// The newest value stored under a public key, with at least this `seq`.
    ///
    /// # Errors
    /// [`Error::Suspended`], [`Error::Destroyed`].
    pub async fn mutable_get(
        &self,
        public_key: &PublicKey,
        seq: u64,
    ) -> Result<Option<MutableRecord>, Error> {
        let mut query = self.query_value(command::MUTABLE_GET, hash(&[public_key]), Some(seq));
        let mut newest: Option<MutableRecord> = None;
        while let Some(reply) = query.next().await {
            let record = reply.value.and_then(|value| MutableRecord::decode(&value).ok());
            let newer = |record: &MutableRecord| {
                record.seq >= seq && newest.as_ref().is_none_or(|newest| record.seq > newest.seq)
            };
            if let Some(record) = record.filter(newer).filter(|record| record.verify(public_key)) {
                newest = Some(record);
            }
        }
        query.finish().await?;
        Ok(newest)
    }

    /// Starts a server that peers reach by the public key of `keys`. Returns after the first announce,
    /// whether it succeeded or not; the server goes on announcing for as long as it lives.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen(&self, keys: KeyPair, options: ServerOptions) -> Result<Server, ListenError> {
        let mut server = self.listen_at_once(keys, options).await?;
        server.announced().await;
        Ok(server)
    }

    /// Starts a server as [`Self::listen`] does, and returns before anybody can find it: see
    /// [`Server::announced`].
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen_at_once(&self, keys: KeyPair, options: ServerOptions) -> Result<Server, ListenError> {
        Server::listen(self.context(), keys, options).await
    }

    /// Connects to the server of a public key. Dropping the future gives up.
    ///
    /// # Errors
    /// [`ConnectError`], after ten to twenty seconds at the latest in most cases.
    pub async fn connect(
        &self,
        peer: impl Into<PeerAddress>,
        options: ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        // Boxed: it is large, and callers hold it inside futures of their own.
        Box::pin(client::connect(&self.context(), self.key_pair(), peer.into(), options)).await
    }

    /// What servers and connections of this node work with.
    pub(crate) fn context(&self) -> Context {
        Context { handle: self.handle.clone(), shared: self.peers.clone() }
    }

    /// Withdraws the servers' announces and closes the sockets until [`Dht::resume`].
    pub async fn suspend(&self) {
        self.peers.suspend().await;
        self.handle.suspend().await;
    }

    /// Binds the sockets again, to the ports they had if those are free.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn resume(&self) -> Result<(), Error> {
        self.handle.resume().await?;
        self.peers.resume().await;
        Ok(())
    }

    /// Closes the servers, ends all connections and the node.
    pub async fn destroy(&self) {
        self.peers.close().await;
        self.handle.destroy().await;
    }

    fn query_value(&self, command: u64, target: Id, seq: Option<u64>) -> Query {
        let mut spec = QuerySpec::user(command, target);
        if let Some(seq) = seq {
            let mut value = Writer::new();
            value.uint(seq);
            spec = spec.value(value.finish());
        }
        self.handle.query(spec)
    }

    async fn put(&self, command: u64, target: Id, value: &Bytes, closest: Vec<Reply>) -> Result<(), Error> {
        write(&self.handle, closest, |reply, token| {
            Some(Request::user(command, target, reply.from).token(token).value(value.clone()))
        })
        .await
    }
}

fn fits(value: Bytes) -> Result<Bytes, Error> {
    if value.len() <= MAX_VALUE_SIZE { Ok(value) } else { Err(Error::ValueTooLarge(value.len())) }
}
