//! The hubs that share a database: each says in it where the nodes of its DHT are, and its tunnel, again and
//! again for as long as it runs. So their DHTs are one, in which the agents of any hub find those of all, and
//! each hub names the nodes of the others beside its own; and two peers can say at which tunnel they meet.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::net::lookup_host;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::parse_public_url;
use crate::dht::Nodes;
use crate::sql::{Pool, Row, postgres_now, query};
use crate::sync::lock;

/// How often a hub says that it runs.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How long after that it counts as gone: three beats may get lost.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// How many hubs are looked at, and how many of the nodes of all of them are named.
const MAX_HUBS: i64 = 64;
const MAX_NAMED: usize = 12;
/// How many nodes one of them may say that it has, and how long the name of one may be: a database may be
/// written by others than hubs.
const MAX_NODES: usize = 8;
const MAX_NAME: usize = 261;
/// How long looking up a name may take, and making the acquaintance of nodes with all of that: a beat is no
/// later for it than others wait.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const MEET_TIMEOUT: Duration = Duration::from_secs(10);
/// After how many beats all nodes are met once more: some may not have been reached.
const MEET_AGAIN: u32 = 12;

/// What a hub knows of the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct OtherHubs(Arc<Mutex<Known>>);

#[derive(Debug, Clone, Default)]
struct Known {
    /// How many there are.
    count: usize,
    nodes: Vec<String>,
    tunnels: BTreeSet<String>,
}

/// What a hub says of itself.
#[derive(Debug)]
pub(crate) struct OwnHub<'a> {
    /// Those of its DHT, if it has one.
    pub(crate) nodes: &'a Nodes,
    /// The name that it goes by elsewhere, if it has one.
    pub(crate) public: Option<&'a str>,
    /// Where its tunnel is, if it has one.
    pub(crate) tunnel: Option<String>,
}

/// Keeps a hub's own place among them.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    others: OtherHubs,
    pool: Pool,
    nodes: Nodes,
    /// By which it is one among them, another one at each start.
    id: String,
    /// Where its nodes are, as JSON, and its tunnel, or nothing.
    own: String,
    tunnel: String,
    /// Nodes of others, and those among them that its own have met.
    found: BTreeSet<String>,
    met: BTreeSet<String>,
}

impl OtherHubs {
    /// Nodes of their DHTs as `host:port`, a few of each.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.known().nodes.clone()
    }

    /// Whether there are any, and where the tunnels of those are that have one.
    pub(crate) fn tunnels(&self) -> (bool, BTreeSet<String>) {
        let known = self.known();
        (known.count > 0, known.tunnels.clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.0)
    }
}

/// Joins the others. There are none where a hub has a database for itself.
pub(crate) async fn join(pool: &Pool, hub: OwnHub<'_>) -> sqlx::Result<(OtherHubs, Option<Heartbeat>)> {
    let OwnHub { nodes, public, tunnel } = hub;
    let others = OtherHubs::default();
    if !pool.is_shared() {
        return Ok((others, None));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| sqlx::Error::Io(std::io::Error::other(error.to_string())))?;
    let own = json!(nodes.bootstrap(public, None, Ipv4Addr::UNSPECIFIED.into())).to_string();
    let (pool, nodes, id) = (pool.clone(), nodes.clone(), hex::encode(id));
    let (found, met) = (BTreeSet::new(), BTreeSet::new());
    let tunnel = tunnel.unwrap_or_default();
    let mut heartbeat = Heartbeat { others: others.clone(), pool, nodes, id, own, tunnel, found, met };
    heartbeat.beat().await?;
    Ok((others, Some(heartbeat)))
}

impl Heartbeat {
    /// Says that this hub runs, and finds out which others do.
    async fn beat(&mut self) -> sqlx::Result<()> {
        let mut connection = self.pool.acquire().await?;
        query(concat!(
            "INSERT INTO hubs (id, nodes, tunnel, seen_at) VALUES ($1, $2, $3, ",
            postgres_now!(),
            ") ON CONFLICT (id) DO UPDATE SET nodes = excluded.nodes, seen_at = excluded.seen_at"
        ))
        .bind(&self.id)
        .bind(&self.own)
        .bind(&self.tunnel)
        .execute(&mut connection)
        .await?;
        let gone_after = i64::try_from(GONE_AFTER.as_millis()).unwrap_or(i64::MAX);
        query(concat!("DELETE FROM hubs WHERE seen_at < ", postgres_now!(), " - $1"))
            .bind(gone_after)
            .execute(&mut connection)
            .await?;
        let rows = query("SELECT nodes, tunnel FROM hubs WHERE id <> $1 ORDER BY seen_at DESC, id LIMIT $2")
            .bind(&self.id)
            .bind(MAX_HUBS)
            .fetch_all(&mut connection)
            .await?;
        drop(connection);
        let hubs: Vec<Vec<String>> =
            rows.iter().map(|row| self.nodes_in(row)).collect::<sqlx::Result<_>>()?;
        let tunnels: Vec<String> =
            rows.iter().map(|row| row.try_get("tunnel")).collect::<sqlx::Result<_>>()?;
        let is_address = |text: &String| text.len() <= MAX_NAME && parse_public_url(text).is_some();
        let tunnels = tunnels.into_iter().filter(is_address).collect();
        *self.others.known() = Known { count: rows.len(), nodes: some_of_each(&hubs), tunnels };
        self.found = hubs.into_iter().flatten().collect();
        Ok(())
    }

    /// Beats until `stop` is cancelled, then says that this hub is gone.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut next = interval(BEAT_EVERY);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        next.reset();
        let mut is_well = true;
        let beating = async {
            for beats in 1_u32.. {
                self.meet().await;
                next.tick().await;
                if beats.is_multiple_of(MEET_AGAIN) {
                    self.met.clear();
                }
                match self.beat().await {
                    Ok(()) => is_well = true,
                    // The writer says more where the database is gone.
                    Err(error) if std::mem::take(&mut is_well) => {
                        tracing::warn!("which other hubs run cannot be read: {error}");
                    }
                    Err(_) => {}
                }
            }
        };
        stop.run_until_cancelled(beating).await;
        if let Err(error) = self.leave().await {
            tracing::debug!("the hub's end could not be told to others: {error}");
        }
    }

    async fn leave(&self) -> sqlx::Result<()> {
        let mut connection = self.pool.acquire().await?;
        query("DELETE FROM hubs WHERE id = $1").bind(&self.id).execute(&mut connection).await?;
        Ok(())
    }

    /// The nodes of another hub that those of this one can reach: nodes at the loopback address are reached
    /// from there, and reach nothing else.
    fn nodes_in(&self, row: &Row) -> sqlx::Result<Vec<String>> {
        let text: String = row.try_get("nodes")?;
        let nodes: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
        let is_loopback = |node: &String| node.starts_with("127.");
        let fit = |node: &String| {
            let is_fit = node.len() <= MAX_NAME && node.bytes().all(|byte| byte.is_ascii_graphic());
            is_fit && is_loopback(node) == self.nodes.are_at_loopback()
        };
        Ok(nodes.into_iter().filter(fit).take(MAX_NODES).collect())
    }

    /// Has the nodes of this hub and new ones of others know each other.
    async fn meet(&mut self) {
        let new: Vec<String> = self.found.difference(&self.met).cloned().collect();
        // What is gone is met anew when it comes back.
        self.met.clone_from(&self.found);
        if new.is_empty() {
            return;
        }
        let meeting = async {
            let mut addresses: Vec<SocketAddrV4> = Vec::new();
            for node in new {
                if let Ok(Ok(found)) = timeout(LOOKUP_TIMEOUT, lookup_host(&node)).await {
                    addresses.extend(found.filter_map(|address| match address {
                        SocketAddr::V4(address) => Some(address),
                        SocketAddr::V6(_) => None,
                    }));
                }
            }
            self.nodes.meet(addresses).await;
        };
        if timeout(MEET_TIMEOUT, meeting).await.is_err() {
            tracing::debug!("the nodes of other hubs answer slowly, or not at all");
        }
    }
}

/// The first node of each hub, then the second of each, and so on.
fn some_of_each(hubs: &[Vec<String>]) -> Vec<String> {
    let longest = hubs.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..longest).flat_map(|at| hubs.iter().filter_map(move |nodes| nodes.get(at)));
    in_turn.take(MAX_NAMED).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hub_is_named_before_any_is_named_twice() {
        let hub = |name: &str, nodes: usize| (0..nodes).map(|n| format!("{name}:{n}")).collect::<Vec<_>>();
        assert_eq!(
            some_of_each(&[hub("a", 2), hub("b", 1), hub("c", 3)]),
            ["a:0", "b:0", "c:0", "a:1", "c:1", "c:2"]
        );
        assert_eq!(some_of_each(&[]), Vec::<String>::new());
        let many: Vec<Vec<String>> = (0..20).map(|n| hub(&n.to_string(), 4)).collect();
        assert_eq!(some_of_each(&many).len(), MAX_NAMED);
    }
}
