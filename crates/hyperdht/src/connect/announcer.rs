//! Keeps a server findable: a few nodes near its key hold its record and relay to it (spec/dht.md §12).

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use futures_util::future::join_all;
use secret_stream::KeyPair;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::payload::RelayInfo;
use crate::command;
use crate::handle::Handle;
use crate::id::Id;
use crate::network::Network;
use crate::rpc::{QuerySpec, Reply, Request};
use crate::store::message::{AnnounceKind, sign_announce};

/// Nodes a server is announced to, and addresses it tells others to ask first.
const RELAYS: usize = 3;
/// Time between pings of the relays, which keep a NAT open to them.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// Rounds of pings until the server is announced anew, about five minutes.
const PING_ROUNDS: u32 = 100;
/// Wait before the next attempt when no node took the announce: at first, and at most.
const FIRST_RETRY: Duration = Duration::from_secs(3);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How often a request that withdraws an announce is sent, and how long all of them may take: a server that
/// closes does not wait long for nodes that may be gone.
const UNANNOUNCE_ATTEMPTS: u32 = 2;
const UNANNOUNCE_PATIENCE: Duration = Duration::from_secs(3);

/// The nodes that relay to a server now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relays {
    pub relays: Vec<RelayInfo>,
    /// What clients are told to ask first: our own public address if we have one, then the relays, at most
    /// three in all.
    pub addresses: Vec<SocketAddrV4>,
}

/// What an announcer is to do. The channel in an order is answered once the records are withdrawn.
#[derive(Debug)]
pub(crate) enum Order {
    Refresh,
    Suspend(oneshot::Sender<()>),
    Resume,
    Close(oneshot::Sender<()>),
}

/// Announces one server for as long as it lives.
pub(crate) struct Announcer {
    handle: Handle,
    keys: KeyPair,
    target: Id,
    relays: watch::Sender<Relays>,
    /// Nodes that may hold our record.
    holders: HashSet<SocketAddrV4>,
    /// The nodes nearest to the target at the last announce, where the next query begins.
    closest: Vec<SocketAddrV4>,
}

impl Announcer {
    pub(crate) fn new(handle: Handle, keys: KeyPair, target: Id, relays: watch::Sender<Relays>) -> Self {
        Self { handle, keys, target, relays, holders: HashSet::new(), closest: Vec::new() }
    }

    /// Runs until [`Order::Close`], or until nobody can give orders any more. Sends on `announced` when the
    /// first attempt has ended.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>, announced: oneshot::Sender<()>) {
        let mut announced = Some(announced);
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = self.stay_found(&mut announced) => continue,
            };
            match order {
                Some(Order::Refresh | Order::Resume) => {}
                Some(Order::Suspend(done)) => {
                    self.unannounce_all().await;
                    let _ = done.send(());
                    match wait_for_resume(&mut orders).await {
                        Some(Order::Close(done)) => {
                            let _ = done.send(());
                            return;
                        }
                        Some(_) => {}
                        None => return,
                    }
                }
                Some(Order::Close(done)) => {
                    self.unannounce_all().await;
                    let _ = done.send(());
                    return;
                }
                None => return self.unannounce_all().await,
            }
        }
    }

    async fn stay_found(&mut self, announced: &mut Option<oneshot::Sender<()>>) {
        let mut retry = FIRST_RETRY;
        loop {
            self.announce().await;
            if let Some(announced) = announced.take() {
                let _ = announced.send(());
            }
            let mut network = self.handle.watch();
            if self.relays.borrow().relays.is_empty() {
                tokio::select! {
                    () = sleep(retry) => retry = (retry * 2).min(LAST_RETRY),
                    () = change(&mut network) => retry = FIRST_RETRY,
                }
            } else {
                retry = FIRST_RETRY;
                tokio::select! {
                    () = self.ping_relays() => {}
                    () = change(&mut network) => {}
                }
            }
            // Without a network, each further announce would fail at once.
            if network.wait_for(|network| network.online).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Pings the relays until one does not answer, or the time has come to choose them anew.
    async fn ping_relays(&self) {
        let relays: Vec<_> = self.relays.borrow().relays.iter().map(|relay| relay.relay).collect();
        for _ in 0..PING_ROUNDS {
            let pongs = join_all(relays.iter().map(|relay| self.handle.ping(*relay))).await;
            if pongs.iter().any(Result::is_err) {
                return;
            }
            sleep(PING_INTERVAL).await;
        }
    }

    /// Finds the nodes nearest to the key, leaves a record with them, and withdraws the records left with
    /// others.
    async fn announce(&mut self) {
        let spec = QuerySpec::user(command::FIND_PEER, self.target).nodes(self.closest.clone());
        let closest = match self.handle.query(spec).finish().await {
            Ok(closest) => closest,
            Err(error) => {
                debug!(%error, "no nodes to announce to");
                return;
            }
        };
        let chosen = &closest[..closest.len().min(RELAYS)];
        // Remembered before they answer: a node may store the record though its answer never arrives.
        let stale: Vec<_> =
            self.holders.iter().copied().filter(|h| chosen.iter().all(|c| c.from != *h)).collect();
        self.holders.extend(chosen.iter().map(|reply| reply.from));
        let announces = chosen.iter().map(|reply| self.announce_to(reply));
        let relays: Vec<_> = join_all(announces).await.into_iter().flatten().collect();

        let network = self.handle.network();
        let own = network.remote_address.filter(|_| !network.firewalled);
        let addresses = own.into_iter().chain(relays.iter().map(|r| r.relay)).take(RELAYS).collect();
        debug!(relays = relays.len(), "announced");
        self.relays.send_replace(Relays { relays, addresses });
        self.closest = closest.iter().map(|reply| reply.from).collect();
        self.unannounce(stale).await;
    }

    /// Leaves the record with a node, which then is a relay. `None` if it does not take it.
    async fn announce_to(&self, reply: &Reply) -> Option<RelayInfo> {
        let (token, id) = (reply.token?, reply.id?);
        let kind = AnnounceKind::Announce;
        let value = sign_announce(kind, &self.target, &token, &id, &self.keys, &[], 0);
        let request = Request::user(kind.command(), self.target, reply.from).token(token).value(value);
        let answer = self.handle.request(request).await.ok()?;
        (answer.error == 0).then_some(RelayInfo { relay: reply.from, peer: reply.to })
    }

    async fn unannounce_all(&mut self) {
        self.relays.send_replace(Relays::default());
        self.unannounce(self.holders.iter().copied().collect()).await;
        self.holders.clear();
    }

    async fn unannounce(&mut self, holders: Vec<SocketAddrV4>) {
        let all = join_all(holders.iter().map(|holder| self.unannounce_at(*holder)));
        let _ = timeout(UNANNOUNCE_PATIENCE, all).await;
        for holder in holders {
            self.holders.remove(&holder);
        }
    }

    async fn unannounce_at(&self, holder: SocketAddrV4) -> Option<()> {
        let find = Request::user(command::FIND_PEER, self.target, holder).attempts(UNANNOUNCE_ATTEMPTS);
        let reply = self.handle.request(find).await.ok()?;
        let (token, id, _record) = (reply.token?, reply.id?, reply.value?);
        let kind = AnnounceKind::Unannounce;
        let value = sign_announce(kind, &self.target, &token, &id, &self.keys, &[], 0);
        let request = Request::user(kind.command(), self.target, holder)
            .token(token)
            .value(value)
            .attempts(UNANNOUNCE_ATTEMPTS);
        self.handle.request(request).await.ok().map(drop)
    }
}

/// Waits for the order that ends a suspension.
async fn wait_for_resume(orders: &mut mpsc::Receiver<Order>) -> Option<Order> {
    loop {
        match orders.recv().await? {
            Order::Refresh => {}
            Order::Suspend(done) => {
                let _ = done.send(());
            }
            order @ (Order::Resume | Order::Close(_)) => return Some(order),
        }
    }
}

/// Waits until the network is another than it was, or another socket is in use.
async fn change(network: &mut watch::Receiver<Network>) {
    let (changes, firewalled) = {
        let before = network.borrow_and_update();
        (before.changes, before.firewalled)
    };
    let is_other = |now: &Network| now.changes != changes || now.firewalled != firewalled;
    if network.wait_for(is_other).await.is_err() {
        std::future::pending::<()>().await;
    }
}
