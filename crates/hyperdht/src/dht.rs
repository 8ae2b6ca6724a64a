//! The public face of a node.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::command;
use crate::config::Config;
use crate::connect;
use crate::crypto::hash;
use crate::encoding::Writer;
use crate::error::Error;
use crate::handle::{Handle, Network, Query};
use crate::id::Id;
use crate::node;
use crate::rpc::{QuerySpec, Reply, Request, RequestError, Via};
use crate::store::message::{AnnounceKind, LookupReply, MutableRecord, Peer, sign_announce};
use crate::store::{MAX_PEERS, MAX_VALUE_SIZE};

/// A node of the DHT. Clones are the same node; it ends with [`Dht::destroy`], or with the last
/// clone.
#[derive(Clone, Debug)]
pub struct Dht {
    handle: Handle,
    key_pair: KeyPair,
    /// What its servers and connections share.
    peers: Arc<connect::Shared>,
}

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

    /// The first node of a private network, which others reach at `host`. It is persistent and
    /// needs nobody to tell it its address. Port 0 is any free one.
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

    /// The nodes it knows, the one heard last first: those to give to [`Dht::add_nodes`] after a
    /// restart.
    pub async fn nodes(&self) -> Vec<SocketAddrV4> {
        self.handle.nodes().await
    }

    /// Takes in nodes known from an earlier run.
    pub fn add_nodes(&self, nodes: Vec<SocketAddrV4>) {
        self.handle.add_nodes(nodes);
    }

    /// Looks for the nodes closest to `target`.
    pub fn find_node(&self, target: Id) -> Query {
        self.handle.query(QuerySpec::find_node(target))
    }

    /// Looks for the nodes that know the server with this public key; a reply's value is its
    /// peer record. `nodes`: where to begin, if that is known.
    pub fn find_peer(&self, public_key: &PublicKey, nodes: Vec<SocketAddrV4>) -> Query {
        let spec = QuerySpec::user(command::FIND_PEER, hash(&[public_key]));
        self.handle.query(spec.nodes(nodes))
    }

    /// Looks for those who announced themselves for `topic`. `nodes`: where to begin.
    pub fn lookup(&self, topic: Id, nodes: Vec<SocketAddrV4>) -> Lookup {
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(nodes);
        Lookup::new(self, spec, None, None)
    }

    /// Looks `topic` up and, at the end, announces `key_pair` to the nodes closest to it:
    /// [`Lookup::finish`]. `relay_addresses`: nodes that pass handshakes on to it, at most three.
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
        Lookup::new(self, spec, clear, Some(announce))
    }

    /// Looks `topic` up and withdraws `key_pair` wherever it is listed.
    pub fn unannounce(&self, topic: Id, key_pair: &KeyPair, nodes: Vec<SocketAddrV4>) -> Lookup {
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(nodes);
        Lookup::new(self, spec, Some(key_pair.clone()), None)
    }

    /// Withdraws `key_pair` from `nodes` alone, each asked once: a quick goodbye.
    pub fn unannounce_at(&self, topic: Id, key_pair: &KeyPair, nodes: Vec<SocketAddrV4>) -> Lookup {
        let spec = QuerySpec::user(command::LOOKUP, topic).nodes(nodes);
        let spec = QuerySpec { only_nodes: true, attempts: 1, ..spec };
        Lookup::new(self, spec, Some(key_pair.clone()), None)
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
    /// [`Error::ValueTooLarge`], [`Error::TooFewNodes`] if nobody took it, as where a value with
    /// a higher `seq` is stored.
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

    /// What servers and connections of this node work with.
    pub(crate) fn context(&self) -> connect::Context {
        connect::Context { handle: self.handle.clone(), shared: self.peers.clone() }
    }

    /// Makes the servers unfindable and closes the sockets until [`Dht::resume`].
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
        self.write(closest, |reply, token| {
            Some(Request::user(command, target, reply.from).token(token).value(value.clone()))
        })
        .await
    }

    /// Sends each of the closest nodes its request, with the token it gave. Fails if none took it.
    async fn write(
        &self,
        closest: Vec<Reply>,
        request: impl Fn(&Reply, [u8; 32]) -> Option<Request>,
    ) -> Result<(), Error> {
        let first = closest.iter().filter_map(|reply| Some((reply, reply.token?)));
        let mut round: Vec<_> = first.collect();
        let mut taken = false;
        // A token may have run out while a long query went on; its refusal brings another.
        for _ in 0..2 {
            let mut writes = JoinSet::new();
            for (i, (reply, token)) in round.iter().enumerate() {
                let Some(request) = request(reply, *token) else { continue };
                let handle = self.handle.clone();
                writes.spawn(async move { (i, handle.request(request).await) });
            }
            let mut again = Vec::new();
            for (i, answer) in writes.join_all().await {
                match answer {
                    Ok(Reply { error: 0, .. }) => taken = true,
                    Ok(Reply { error: command::INVALID_TOKEN, token: Some(token), .. }) => {
                        again.extend(round.get(i).map(|(reply, _)| (*reply, token)));
                    }
                    _ => {}
                }
            }
            round = again;
        }
        if taken { Ok(()) } else { Err(Error::TooFewNodes) }
    }
}

/// How to announce.
#[derive(Clone, Debug, Default)]
pub struct AnnounceOptions {
    /// Where to begin, if that is known.
    pub nodes: Vec<SocketAddrV4>,
    /// First withdraw what is listed of this key pair.
    pub clear: bool,
    /// When the topic last had news, milliseconds since 1970; 0 for nothing.
    pub bump: u64,
}

/// Who a node says is there for a topic. Nobody has vouched for it: a handshake will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupAnswer {
    pub from: SocketAddrV4,
    pub peers: Vec<Peer>,
    /// When the topic last had news, in milliseconds since 1970; 0 if nobody said.
    pub bump: u64,
}

#[derive(Clone, Debug)]
struct Announcement {
    key_pair: KeyPair,
    relay_addresses: Vec<SocketAddrV4>,
    bump: u64,
}

/// A running lookup, which may end with an announce.
#[derive(Debug)]
pub struct Lookup {
    dht: Dht,
    topic: Id,
    query: Query,
    clear: Option<KeyPair>,
    announce: Option<Announcement>,
    unannounces: JoinSet<Result<Reply, RequestError>>,
}

impl Lookup {
    fn new(dht: &Dht, spec: QuerySpec, clear: Option<KeyPair>, announce: Option<Announcement>) -> Self {
        let topic = spec.target;
        if let Some(key_pair) = &clear {
            dht.handle.forget(topic, key_pair.public_key());
        }
        let query = dht.handle.query(spec);
        Self { dht: dht.clone(), topic, query, clear, announce, unannounces: JoinSet::new() }
    }

    /// What the next node knows; `None` when all were asked.
    pub async fn next(&mut self) -> Option<LookupAnswer> {
        while let Some(reply) = self.query.next().await {
            let value = reply.value.as_ref();
            let Some(found) = value.and_then(|value| LookupReply::decode(value).ok()) else { continue };
            self.withdraw(&reply, &found);
            return Some(LookupAnswer { from: reply.from, peers: found.peers, bump: found.bump });
        }
        None
    }

    /// Waits for the end; withdraws and announces what is to be. The nodes closest to the topic,
    /// with which the next lookup may begin.
    ///
    /// # Errors
    /// [`Error::TooFewNodes`] if nobody took the announce.
    pub async fn finish(mut self) -> Result<Vec<SocketAddrV4>, Error> {
        while self.next().await.is_some() {}
        let closest = self.query.finish().await?;
        let nodes = closest.iter().map(|reply| reply.from).collect();
        // None of them may come after the announce it makes room for.
        while self.unannounces.join_next().await.is_some() {}
        if let Some(Announcement { key_pair, relay_addresses, bump }) = &self.announce {
            let kind = AnnounceKind::Announce;
            let (topic, relays) = (self.topic, relay_addresses);
            self.dht
                .write(closest, |reply, token| {
                    let value = sign_announce(kind, &topic, &token, &reply.id?, key_pair, relays, *bump);
                    Some(Request::user(kind.command(), topic, reply.from).token(token).value(value))
                })
                .await?;
        }
        Ok(nodes)
    }

    /// Withdraws from a node that lists the key pair, or so many that it may.
    fn withdraw(&mut self, reply: &Reply, found: &LookupReply) {
        let Some(key_pair) = &self.clear else { return };
        let (Some(token), Some(id)) = (reply.token, reply.id) else { return };
        let public_key = key_pair.public_key();
        let listed = found.peers.iter().any(|peer| peer.public_key == public_key);
        if listed || found.peers.len() >= MAX_PEERS {
            let kind = AnnounceKind::Unannounce;
            let value = sign_announce(kind, &self.topic, &token, &id, key_pair, &[], 0);
            let request = Request::user(kind.command(), self.topic, reply.from);
            let request = request.token(token).value(value);
            let handle = self.dht.handle.clone();
            self.unannounces.spawn(async move { handle.request(request).await });
        }
    }
}

fn fits(value: Bytes) -> Result<Bytes, Error> {
    if value.len() <= MAX_VALUE_SIZE { Ok(value) } else { Err(Error::ValueTooLarge(value.len())) }
}
