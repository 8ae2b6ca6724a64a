//! The hub, a task service to run oneself: the HTTP and WebSocket API of ATS from a SQLite file or from
//! PostgreSQL, for one machine or a team.
//!
//! # Layout
//! - `task`: tasks and their states, and who sees and changes them; pure.
//! - `access`: keys, and who is let in without; `tls`: the certificate.
//! - `writer`: the one task that changes anything, and ends claims in time.
//! - `store`, `migrations`, `sql`, `rows`, `list`, `orgs`, `announced`, `backup`: the database.
//! - `transfer`, `transfers`: offers and what became of them, as the page shows them.
//! - `bus`: subscribers.
//! - `config`: how it is set up.
//! - `http`: connections, requests, answers, and the page for browsers; `input`: what is read from them.
//! - `metrics`: what it counts about itself; `sync`: locking.
//! - `dht`: the private DHT beside it; `other_hubs`: those of hubs on the same database.
//! - `tunnel`: joins two peers that no UDP leads to.
//! - `relay`: the relay on the DHT; `relay_allowlist`: whom that serves besides the peers of tasks.
//!
//! On its own machine it asks nobody for a key: the headers that say who sends a request are claims there, as
//! on the service that it replaces. Others need one, which is bound to its actor.

mod access;
mod announced;
mod backup;
mod bus;
mod config;
mod dht;
mod error;
mod http;
mod input;
mod list;
mod metrics;
mod migrations;
mod orgs;
mod other_hubs;
mod relay;
mod relay_allowlist;
mod rows;
mod sql;
mod store;
mod sync;
mod task;
mod time;
mod tls;
mod totals;
mod transfer;
mod transfers;
mod tunnel;
mod writer;

/// What fuzzing runs. Not in the library that is shipped.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    pub use crate::tunnel::fuzzing::frames as tunnel_frames;
}

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use secret_stream::PublicKey;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use access::AccessConfig;
pub use access::admin::{HubKeys, Invitation, KeyInfo, NewKey};
pub use backup::backup;
pub use config::{HubConfig, find_listen, parse_network, parse_public_url};
pub use error::Error;
pub use hyperdht::relay::RelayLimits;
pub use relay::RelayAccess;
pub use store::PostgresUrl;
pub use tls::TlsFiles;
pub use tunnel::TunnelAccess;

/// How long connections may take to end when the hub does.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// A running hub. Dropping it ends it at once, without waiting for answers under way.
#[derive(Debug)]
pub struct Hub {
    local_addr: SocketAddr,
    urls: Vec<String>,
    app: Arc<http::App>,
    connections: TaskTracker,
    /// Its end; taken when it is waited for.
    writing: Option<JoinHandle<()>>,
    stop_writing: CancellationToken,
    /// What tells the changes of other hubs; taken when its end is waited for.
    following: Option<JoinHandle<()>>,
    /// What keeps an eye on the keys in use; taken when its end is waited for.
    guarding: Option<JoinHandle<()>>,
    /// What tells other hubs of this one; taken when its end is waited for.
    beating: Option<JoinHandle<()>>,
}

impl Hub {
    /// Starts a hub; must be called within a tokio runtime. It answers from the moment this returns, and
    /// claims and offers whose time ran out while no hub was running have been ended by the first answer.
    ///
    /// # Errors
    /// [`Error`] says what could not be had: the folder, the database, the address, the DHT or the relay on
    /// it.
    pub async fn start(config: HubConfig) -> Result<Self, Error> {
        let folder = store::Folder::take(&config.data)?;
        let rates = http::Rates::new(rate(&config));
        let relay_seed = folder.file("relay.seed");
        let name = store::name(&config.data, config.database.as_ref());
        let unusable =
            |error: sqlx::Error| Error::Database { database: name.clone(), reason: error.to_string() };
        let (database, mut connection) =
            store::Database::open(&config.data, config.database.as_ref()).await?;
        let readers = database.readers().await.map_err(unusable)?;
        let tls = config.tls.clone().map(tls::Tls::new).transpose()?;
        let (listener, local_addr) = listen(config.listen).await?;

        let nodes = match config.dht {
            true => dht::Nodes::start(local_addr.ip(), config.dht_port, &folder.file("dht.json")).await?,
            false => dht::Nodes::default(),
        };
        let allowlist = Arc::new(relay_allowlist::RelayAllowlist::default());
        let relay = match nodes.first() {
            Some(node) => {
                let (readers, allowlist, access) = (readers.clone(), allowlist.clone(), config.relay);
                let admission = relay::Admission { readers, allowlist, access };
                relay::start(node, &relay_seed, admission, config.relay_limits).await?
            }
            None => None,
        };

        // What a newcomer asks for need not be the first task.
        rows::make_default_project(&mut connection).await.map_err(|failure| unusable(failure.into()))?;
        let metrics = metrics::Metrics::default();
        let bus = bus::Bus::new(metrics.of_events());
        let follower = writer::Follower::start(&database, bus.clone()).await.map_err(unusable)?;
        let setup = writer::Setup { keep: config.keep, bus: bus.clone(), batches: metrics.of_batches() };
        let (writer, task) = writer::writer(database, connection, folder, setup).await.map_err(unusable)?;
        let hosts = hosts(&config);
        let urls = config::urls(local_addr, tls.is_some(), config.public_url.as_ref());
        let own = own_hub(&config, &nodes, &hosts, &urls);
        let (others, heartbeat) = other_hubs::join(&readers, own).await.map_err(&unusable)?;
        let shares = http::Shares::of(config.max_connections);
        let (shutdown, abort) = (CancellationToken::new(), CancellationToken::new());
        let ends = (shutdown.clone(), abort.clone());
        let tunnel = tunnel(&config, &readers, (bus.changes(), metrics.of_tunnel()), ends);
        if let Some(url) = urls.first() {
            access::admin::keep_url(&config.data, url);
        }
        let app = Arc::new(http::App {
            writer,
            readers,
            bus,
            nodes,
            others,
            relay,
            allowlist,
            whence: http::Whence::new(config.trusted_proxies, &hosts),
            hosts,
            places: http::Places::new(shares),
            // A request now and then needs a place besides those of subscribers.
            socket_places: http::Places::new(http::Shares::of(shares.large)),
            metrics,
            access: config.access,
            guard: access::guard::KeyGuard::default(),
            known_keys: http::KnownKeys::default(),
            sessions: access::sessions::Sessions::default(),
            rates,
            tunnel,
            shutdown,
            abort,
            sockets: TaskTracker::new(),
        });
        let connections = TaskTracker::new();
        let stop_writing = CancellationToken::new();
        let writing = Some(tokio::spawn(task.run(stop_writing.clone())));
        let guard = app.guard.clone().run(app.readers.clone(), app.writer.clone(), app.shutdown.clone());
        let following = follower.map(|follower| tokio::spawn(follower.run(stop_writing.clone())));
        let guarding = Some(tokio::spawn(guard));
        let beating = heartbeat.map(|heartbeat| tokio::spawn(heartbeat.run(app.shutdown.clone())));
        if let Some(tls) = &tls {
            tokio::spawn(tls.clone().watch(app.shutdown.clone()));
        }
        connections.spawn(http::server::serve(listener, tls, app.clone(), connections.clone()));
        Ok(Self { local_addr, urls, app, connections, writing, stop_writing, following, guarding, beating })
    }

    /// The TCP address it serves.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The URLs by which it can be called, the one that serves most callers first.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The nodes of its DHT as `host:port`, as a caller on this machine sees them; none without a DHT.
    pub fn bootstrap(&self) -> Vec<String> {
        let here = Ipv4Addr::LOCALHOST.to_string();
        self.app.nodes.bootstrap(None, Some(&here), self.local_addr.ip())
    }

    /// The key of its relay, if there is one.
    pub fn relay(&self) -> Option<PublicKey> {
        self.app.relay.as_ref().map(hyperdht::relay::Relay::public_key)
    }

    /// Ends it: answers what is under way, tells subscribers, and closes the database.
    pub async fn shutdown(mut self) {
        self.app.shutdown.cancel();
        self.connections.close();
        self.app.sockets.close();
        let ended = async {
            self.connections.wait().await;
            self.app.sockets.wait().await;
            self.app.tunnel.ended().await;
        };
        tokio::pin!(ended);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, ended.as_mut()).await.is_err() {
            tracing::debug!("the hub ends with connections still open");
            self.app.abort.cancel();
            ended.await;
        }
        if let Some(beating) = self.beating.take() {
            // As with the writer.
            let _ = beating.await;
        }
        self.app.nodes.stop().await;
        if let Some(guarding) = self.guarding.take() {
            // As with the writer.
            let _ = guarding.await;
        }
        self.app.readers.close().await;
        self.stop_writing.cancel();
        if let Some(writing) = self.writing.take() {
            // It ends without an error, or with a panic that was printed already.
            let _ = writing.await;
        }
        if let Some(following) = self.following.take() {
            // As with the writer.
            let _ = following.await;
        }
    }
}

/// The names that it goes by.
fn hosts(config: &HubConfig) -> http::Hosts {
    http::Hosts::new(config.public_url.as_ref(), &config.allowed_hosts)
        .with_tunnel(config.tunnel_url.as_ref())
        .with_machine(&gethostname::gethostname().to_string_lossy())
}

/// What it says of itself to others on its database.
fn own_hub<'a>(
    config: &HubConfig,
    nodes: &'a dht::Nodes,
    hosts: &'a http::Hosts,
    urls: &[String],
) -> other_hubs::OwnHub<'a> {
    let tunnel = hosts.tunnel_url().map(str::to_owned).or_else(|| urls.first().cloned());
    let tunnel = tunnel.filter(|_| config.tunnel != TunnelAccess::Off);
    other_hubs::OwnHub { nodes, public: hosts.public_host(), tunnel }
}

/// Its tunnel: by what it hears of changes, what it counts, and what ends it.
fn tunnel(
    config: &HubConfig,
    readers: &sql::Pool,
    (changes, counters): (Arc<Notify>, metrics::TunnelCounters),
    (shutdown, abort): (CancellationToken, CancellationToken),
) -> Arc<tunnel::Tunnel> {
    let (access, limits, readers) = (config.tunnel, config.relay_limits, readers.clone());
    let setup = tunnel::TunnelSetup { access, limits, readers, changes, counters, shutdown, abort };
    Arc::new(tunnel::Tunnel::new(setup))
}

/// Takes the address; gives it with its port.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local_addr = listener.local_addr().map_err(failed)?;
    Ok((listener, local_addr))
}

/// What one client may ask for.
fn rate(config: &HubConfig) -> http::Rate {
    http::Rate {
        requests: config.requests_per_second,
        bytes: config.bytes_per_second,
        stored_a_day: config.stored_bytes_per_day,
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
        self.app.abort.cancel();
        self.stop_writing.cancel();
    }
}
