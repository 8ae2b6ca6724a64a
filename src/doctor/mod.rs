//! Finds out what would keep transfers from working, and says it in words that a user can act on.
//!
//! # Layout
//! - `finding`: what one check found
//! - `settings`, `state`, `identity`, `disk`, `addresses`: this machine
//! - `way`: the way to the task service: proxy, certificate
//! - `service`: the task service: requests, events, clock
//! - `network`: the peer network: UDP, NAT, the size of packets
//! - `relay`: the way where no direct one opens
//! - `tunnel`: the way by a hub where UDP leads nowhere
//! - `peer`: the way to another machine

mod addresses;
mod disk;
mod finding;
mod identity;
mod network;
mod peer;
mod relay;
mod service;
mod settings;
mod state;
mod tunnel;
mod way;

use std::time::Duration;

use futures_util::future::OptionFuture;
use secret_stream::PublicKey;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::ats::{Client, Environment, POLL_INTERVAL, Policy, Settings};
use crate::context;
use crate::options::Options;

pub use finding::{Finding, Verdict};
pub use peer::Waiting;

/// The longest any one check may take; each has shorter waits of its own.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// How long one request to the task service may take. It is made once: a service that needs more is ill.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What all checks found, in the order in which a person should read them.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// One for each check.
    pub findings: Vec<Finding>,
    /// How files would go, the best way first, by the names that connections have for it
    /// ([`ConnectionInfo::path`](crate::connection::ConnectionInfo)).
    pub ways: Vec<&'static str>,
}

impl Diagnosis {
    /// Whether nothing stands in the way of transfers.
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Failed)
    }
}

/// Makes all checks for a node with these options; `peer` is the key of a machine that should be reached.
pub async fn examine(options: &Options, peer: Option<PublicKey>) -> Diagnosis {
    let environment = Environment::current();
    let (configured, warnings) = Settings::load(options.ats.clone(), &environment);
    let policy = Policy { timeout: REQUEST_LIMIT, attempts: 1, ..Policy::default() };
    let client = Client::with_policy(configured.clone(), policy);
    let settings = settings::check(options, &environment, &configured, &warnings, client.as_ref().err());
    let (state, disk) = (state::check(&options.home), disk::check(&options.home, &environment.cwd));
    let identity = match state.verdict {
        Verdict::Failed => {
            Finding::skipped("identity", "not looked at, since the state folder can't be used")
        }
        _ => identity::check(&context::trust(options, &configured)),
    };
    let client = client.ok();
    let of_client = |check: &'static str, advice: &'static str| {
        Finding::skipped(check, "not looked at, since the settings name no task service").advise(advice)
    };

    let http = async {
        match &client {
            Some(client) => service::requests(client).await,
            None => (of_client("service", "mend the settings first"), None),
        }
    };
    let events = async {
        match &client {
            Some(client) => bounded("events", service::events(client)).await,
            None => of_client("events", "mend the settings first"),
        }
    };
    let beyond = async {
        let (service, health) = http.await;
        let clock = match &client {
            Some(client) => service::clock(client),
            None => of_client("clock", "mend the settings first"),
        };
        // As for a transfer: with bootstrap nodes of one's own, the hub's relay is on another network.
        let hub = health.as_ref().filter(|_| options.bootstrap.is_none());
        let hub_relay = hub.and_then(|health| health.p2p.as_ref()?.relay);
        let relay = options.relay_through.among(hub_relay);
        let bootstrap = match (&options.bootstrap, &health) {
            (Some(nodes), _) => Ok(Some(nodes.clone())),
            (None, Some(health)) => Ok(health.p2p.as_ref().and_then(|p2p| p2p.bootstrap.clone())),
            // Nobody said which network: with the service down, the public one would be a guess.
            (None, None) => Err(()),
        };
        let (network, dht) = network::join(bootstrap).await;
        let nat = bounded("nat", network::nat(dht.as_ref(), relay.is_some()));
        let reach = peer.map(|peer| bounded("peer", peer::reach(dht.as_ref(), peer, relay)));
        let of_hub = client.as_ref().filter(|_| relay.is_some() && relay == hub_relay);
        let passes = bounded("relay", relay::check(dht.as_ref(), relay, of_hub));
        let tunnel = tunnel::check(&options.tunnel, client.as_ref(), health.as_ref());
        let tunnel = bounded("tunnel", tunnel);
        let mtu = bounded("mtu", network::mtu(dht.as_ref()));
        let reach = OptionFuture::from(reach);
        let (nat, mtu, passes, reach, tunnel) = tokio::join!(nat, mtu, passes, reach, tunnel);
        let network = network.only_warns(tunnel.verdict == Verdict::Ok, ": files go by the tunnel alone");
        if let Some(dht) = dht {
            let _ = timeout(network::LEAVE_LIMIT, dht.destroy()).await;
        }
        (service, clock, [network, nat, mtu, passes, tunnel], reach)
    };
    let way = async {
        match &client {
            Some(client) => way::check(client).await,
            None => ["proxy", "certificate"].map(|check| of_client(check, "mend the settings first")),
        }
    };
    let (beyond, events, [proxy, certificate]) = tokio::join!(beyond, events, way);
    let (service, clock, of_peers, reach) = beyond;
    let is_served = matches!(service.verdict, Verdict::Ok | Verdict::Warning);
    let asked = POLL_INTERVAL.as_secs();
    let asked = format!(": the service is asked every {asked} s instead, so offers are noticed late");
    let events = events.only_warns(is_served, &asked);
    let proxy = proxy.only_warns(is_served, "; it passes plain requests on");
    let ways = ways(&of_peers);
    let of_machine = [settings, state, identity, disk, addresses::check()];
    let of_service = [proxy, certificate, service, events, clock];
    let findings = of_machine.into_iter().chain(of_service).chain(of_peers).chain(reach).collect();
    Diagnosis { findings, ways }
}

/// How files would go, by what was found.
fn ways([network, nat, _, relay, tunnel]: &[Finding; 5]) -> Vec<&'static str> {
    let udp = network.facts.get("nodes").and_then(Value::as_u64).is_some_and(|nodes| nodes > 0);
    let direct = match nat.facts.get("kind").and_then(Value::as_str) {
        Some("open") => "direct",
        _ => "punched",
    };
    let all = [
        (direct, udp),
        ("relayed", udp && relay.verdict == Verdict::Ok),
        ("tunnel", tunnel.verdict == Verdict::Ok),
    ];
    all.into_iter().filter(|(_, opens)| *opens).map(|(way, _)| way).collect()
}

/// A check that takes too long has found something, too.
async fn bounded(check: &'static str, run: impl Future<Output = Finding>) -> Finding {
    let started = Instant::now();
    let finding = timeout(CHECK_LIMIT, run).await.unwrap_or_else(|_| {
        Finding::failed(check, format!("no result within {} s", CHECK_LIMIT.as_secs()))
            .advise("try again, and look at the checks before this one")
    });
    finding.after(started.elapsed())
}
