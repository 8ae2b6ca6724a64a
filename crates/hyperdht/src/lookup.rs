//! Lookups of a topic, and the announces they may end with (spec/dht.md §10).

use std::net::SocketAddrV4;

use secret_stream::KeyPair;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::handle::{Handle, Query};
use crate::id::Id;
use crate::rpc::{QuerySpec, Reply, Request, RequestError, may_use};
use crate::store::MAX_PEERS;
use crate::store::message::{AnnounceKind, LookupReply, MAX_RELAYS, Peer, sign_announce};
use crate::write::write;

/// How to announce.
#[derive(Clone, Debug, Default)]
pub struct AnnounceOptions {
    /// Where to begin, if that is known.
    pub nodes: Vec<SocketAddrV4>,
    /// First withdraw what nodes list of this key pair.
    pub clear: bool,
    /// When the topic last had news, milliseconds since 1970; 0 for nothing.
    pub bump: u64,
}

/// The peers that a node lists for a topic. Nobody has proven that they are there: a handshake will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupAnswer {
    /// The node that says so.
    pub from: SocketAddrV4,
    /// At most 20.
    pub peers: Vec<Peer>,
    /// When the topic last had news, in milliseconds since 1970; 0 if nobody said.
    pub bump: u64,
}

/// What a lookup is to announce at its end.
#[derive(Clone, Debug)]
pub(crate) struct Announcement {
    pub key_pair: KeyPair,
    pub relay_addresses: Vec<SocketAddrV4>,
    pub bump: u64,
}

/// A running lookup, which may end with an announce.
#[derive(Debug)]
pub struct Lookup {
    handle: Handle,
    topic: Id,
    query: Query,
    clear: Option<KeyPair>,
    announce: Option<Announcement>,
    unannounces: JoinSet<Result<Reply, RequestError>>,
}

impl Lookup {
    pub(crate) fn new(
        handle: &Handle,
        spec: QuerySpec,
        clear: Option<KeyPair>,
        announce: Option<Announcement>,
    ) -> Self {
        let topic = spec.target;
        if let Some(key_pair) = &clear {
            handle.forget(topic, key_pair.public_key());
        }
        let query = handle.query(spec);
        Self { handle: handle.clone(), topic, query, clear, announce, unannounces: JoinSet::new() }
    }

    /// What the next node knows; `None` when all were asked.
    pub async fn next(&mut self) -> Option<LookupAnswer> {
        while let Some(reply) = self.query.next().await {
            let value = reply.value.as_ref();
            let Some(found) = value.and_then(|value| LookupReply::decode(value).ok()) else { continue };
            self.withdraw(&reply, &found);
            let LookupReply { mut peers, bump } = found;
            peers.truncate(MAX_PEERS);
            for peer in &mut peers {
                peer.relay_addresses.retain(|addr| may_use(*addr, *reply.from.ip()));
                peer.relay_addresses.truncate(MAX_RELAYS);
            }
            return Some(LookupAnswer { from: reply.from, peers, bump });
        }
        None
    }

    /// Waits for the end, then withdraws and announces as asked. Returns the nodes closest to the topic; the
    /// next lookup may begin with them.
    ///
    /// # Errors
    /// [`Error::TooFewNodes`] if nobody took the announce.
    pub async fn finish(mut self) -> Result<Vec<SocketAddrV4>, Error> {
        while self.next().await.is_some() {}
        let closest = self.query.finish().await?;
        let nodes = closest.iter().map(|reply| reply.from).collect();
        // An unannounce must not arrive after the announce that it makes room for.
        while self.unannounces.join_next().await.is_some() {}
        if let Some(Announcement { key_pair, relay_addresses, bump }) = &self.announce {
            let kind = AnnounceKind::Announce;
            let (topic, relays) = (self.topic, relay_addresses);
            write(&self.handle, closest, |reply, token| {
                let value = sign_announce(kind, &topic, &token, &reply.id?, key_pair, relays, *bump);
                Some(Request::user(kind.command(), topic, reply.from).token(token).value(value))
            })
            .await?;
        }
        Ok(nodes)
    }

    /// Withdraws from a node that lists the key pair, or lists so many peers that it may have left ours out.
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
            let handle = self.handle.clone();
            self.unannounces.spawn(async move { handle.request(request).await });
        }
    }
}
