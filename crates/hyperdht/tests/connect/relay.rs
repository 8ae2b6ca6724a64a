//! Connections through blind relays, each of the three parts ours or npm hyperdht's, and what a
//! relay of ours refuses. No direct way is open to any of the peers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hyperdht::connect::{ConnectError, ConnectOptions, Connection, ConnectionPath, Server, ServerOptions};
use hyperdht::relay::{Relay, RelayLimits, RelayOptions};
use hyperdht::testnet::{bootstrap_of, testnet};
use hyperdht::{Config, Dht};
use secret_stream::{KeyPair, PublicKey};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::js::{Js, key, parse};
use super::{PATIENCE, echo};

/// A network of our nodes, the first of which may run a relay.
struct Network {
    nodes: Vec<Dht>,
    bootstrap: Vec<String>,
}

impl Network {
    async fn start() -> Self {
        let nodes = testnet(4).await.unwrap();
        let first = bootstrap_of(&nodes[0]).unwrap();
        Self { nodes, bootstrap: vec![format!("{}:{}", first.host, first.port)] }
    }

    /// A node that nobody reaches by itself.
    async fn node(&self) -> Dht {
        let private = Config::private(parse(&self.bootstrap));
        let host = Ipv4Addr::LOCALHOST.into();
        Dht::new(Config { port: 0, host, stays_firewalled: true, ..private }).await.unwrap()
    }

    /// What a JavaScript node of that kind is told, and `more`.
    fn options(&self, more: Value) -> Value {
        let mut options = more;
        let node = json!({ "bootstrap": self.bootstrap, "staysFirewalled": true, "host": "127.0.0.1" });
        options["node"] = node;
        options
    }

    async fn relay(&self, options: RelayOptions) -> Relay {
        self.nodes[0].relay(KeyPair::generate(), options).await.unwrap()
    }

    async fn js_relay(&self) -> (Js, PublicKey) {
        let node = json!({
            "bootstrap": self.bootstrap, "firewalled": false, "ephemeral": false, "host": "127.0.0.1"
        });
        let mut js = Js::start("relay", &json!({ "node": node }));
        let public_key = key(&js.event("ready").await["publicKey"]);
        (js, public_key)
    }

    async fn server(&self, relay: Option<PublicKey>) -> (Dht, Server) {
        let dht = self.node().await;
        let relay_through = relay.map(|relay| Arc::new(move || Some(relay)) as _);
        let options = ServerOptions { relay_through, direct: false, ..ServerOptions::default() };
        let server = dht.listen(KeyPair::generate(), options).await.unwrap();
        (dht, server)
    }
}

fn only(relay: Option<PublicKey>) -> ConnectOptions {
    ConnectOptions { relay_through: relay, direct: false, ..ConnectOptions::default() }
}

async fn connect(dht: &Dht, peer: PublicKey, options: ConnectOptions) -> Result<Connection, ConnectError> {
    timeout(PATIENCE, dht.connect(peer, options)).await.expect("an end")
}

async fn expect_echo(connection: &mut Connection, size: usize) {
    let message: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
    let mut back = Vec::new();
    for chunk in message.chunks(65_536) {
        connection.stream.send(chunk).await.unwrap();
        let echoed = timeout(PATIENCE, connection.stream.recv()).await.expect("an echo in time");
        back.extend_from_slice(&echoed.unwrap().expect("an echo"));
    }
    assert!(back == message);
}

/// A JavaScript server that never punches.
fn never_punching(relay: Option<PublicKey>) -> Value {
    json!({ "relayThrough": relay.map(hex::encode), "server": { "holepunch": false } })
}

/// Who names the relay.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Named {
    ByClient,
    ByServer,
}

/// Our client, and our or a JavaScript server.
async fn from_us(net: &Network, relay: PublicKey, named: Named, to_js: bool) {
    let by_client = (named == Named::ByClient).then_some(relay);
    let by_server = (named == Named::ByServer).then_some(relay);
    let client = net.node().await;
    if to_js {
        let mut js = Js::start("serve", &net.options(never_punching(by_server)));
        let public_key = key(&js.event("ready").await["publicKey"]);
        let mut connection = connect(&client, public_key, only(by_client)).await.unwrap();
        assert_eq!(connection.path(), ConnectionPath::Relayed);
        expect_echo(&mut connection, 200_000).await;
    } else {
        let (_dht, server) = net.server(by_server).await;
        let public_key = server.public_key();
        let (_task, mut paths) = echo(server);
        let mut connection = connect(&client, public_key, only(by_client)).await.unwrap();
        assert_eq!(connection.path(), ConnectionPath::Relayed);
        expect_echo(&mut connection, 200_000).await;
        assert_eq!(paths.recv().await, Some(ConnectionPath::Relayed));
    }
}

/// A JavaScript client, and our or a JavaScript server.
async fn from_js(net: &Network, relay: PublicKey, named: Named, to_js: bool) {
    let by_client = (named == Named::ByClient).then(|| hex::encode(relay));
    let by_server = (named == Named::ByServer).then_some(relay);
    let dial = |public_key: String| {
        let more = json!({
            "publicKey": public_key, "relayThrough": by_client, "relayOnly": true, "bytes": 200_000
        });
        Js::start("dial", &net.options(more))
    };
    if to_js {
        let mut js = Js::start("serve", &net.options(never_punching(by_server)));
        let public_key = js.event("ready").await["publicKey"].as_str().unwrap().to_owned();
        assert_eq!(dial(public_key).event("echoed").await["same"], true);
    } else {
        let (_dht, server) = net.server(by_server).await;
        let public_key = hex::encode(server.public_key());
        let (_task, mut paths) = echo(server);
        assert_eq!(dial(public_key).event("echoed").await["same"], true);
        assert_eq!(paths.recv().await, Some(ConnectionPath::Relayed));
    }
}

/// Our peers and a JavaScript one with ours, each of the two naming the relay once, connect through it.
async fn expect_meetings(net: &Network, relay: PublicKey) {
    tokio::join!(
        from_us(net, relay, Named::ByClient, false),
        from_us(net, relay, Named::ByServer, false),
        from_us(net, relay, Named::ByClient, true),
        from_us(net, relay, Named::ByServer, true),
        from_js(net, relay, Named::ByClient, false),
        from_js(net, relay, Named::ByServer, false),
    );
}

#[tokio::test]
async fn peers_of_both_kinds_meet_at_our_relay() {
    let net = Network::start().await;
    let relay = net.relay(RelayOptions::default()).await;
    let public_key = relay.public_key();
    tokio::join!(expect_meetings(&net, public_key), from_js(&net, public_key, Named::ByServer, true));
    let load = relay.load();
    assert_eq!(load.paired, 7, "{load:?}");
}

#[tokio::test]
async fn peers_of_both_kinds_meet_at_a_javascript_relay() {
    let net = Network::start().await;
    let (_js, public_key) = net.js_relay().await;
    expect_meetings(&net, public_key).await;
}

/// Waits until the relay's load is as wished.
async fn expect_load(relay: &Relay, what: &str, wished: impl Fn(hyperdht::relay::RelayLoad) -> bool) {
    let reached = async {
        while !wished(relay.load()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{what}: {:?}", relay.load()));
}

/// A relay, and an echo server that names it.
struct RelayedEcho {
    _net: Network,
    relay: Relay,
    _server: Dht,
    public_key: PublicKey,
    client: Dht,
}

impl RelayedEcho {
    async fn start(options: RelayOptions) -> Self {
        let net = Network::start().await;
        let relay = net.relay(options).await;
        let (dht, server) = net.server(Some(relay.public_key())).await;
        let (public_key, client) = (server.public_key(), net.node().await);
        echo(server);
        Self { _net: net, relay, _server: dht, public_key, client }
    }

    /// The same, and a connection of the client's node to the server that carries bytes.
    async fn connected(options: RelayOptions) -> (Self, Connection) {
        let relayed = Self::start(options).await;
        let mut connection = relayed.connect(None).await.unwrap();
        expect_echo(&mut connection, 1000).await;
        (relayed, connection)
    }

    /// Connects as the owner of these keys, or as the client's node.
    async fn connect(&self, key_pair: Option<KeyPair>) -> Result<Connection, ConnectError> {
        connect(&self.client, self.public_key, ConnectOptions { key_pair, ..only(None) }).await
    }
}

/// Sends and takes what comes back until the connection ends.
async fn use_up(connection: &mut Connection) {
    while connection.stream.send(&[7; 65_536]).await.is_ok()
        && connection.stream.recv().await.is_ok_and(|echoed| echoed.is_some())
    {}
}

#[tokio::test]
async fn a_relay_forgets_a_connection_that_ended() {
    let (relayed, mut connection) = RelayedEcho::connected(RelayOptions::default()).await;
    let relay = &relayed.relay;
    expect_echo(&mut connection, 1_000_000).await;
    assert_eq!((relay.load().sessions, relay.load().pairs), (2, 1));
    connection.stream.shutdown().await.unwrap();
    assert!(connection.stream.recv().await.unwrap().is_none());
    drop(connection);
    expect_load(relay, "all is forgotten", |load| load.sessions == 0 && load.pairs == 0).await;
    assert!(relay.load().bytes > 2_000_000);
}

#[tokio::test]
async fn a_relay_pairs_those_of_whom_it_knows_one() {
    let friend = KeyPair::generate();
    let known = friend.public_key();
    let admit = Arc::new(move |key| Box::pin(std::future::ready(key == known)) as _);
    let relayed = RelayedEcho::start(RelayOptions { admit: Some(admit), ..RelayOptions::default() }).await;
    let stranger = relayed.connect(None).await;
    assert_eq!(stranger.err(), Some(ConnectError::RelayAborted));
    assert_eq!(relayed.relay.load().paired, 0);
    expect_echo(&mut relayed.connect(Some(friend)).await.unwrap(), 1000).await;
}

#[tokio::test]
async fn a_relay_ends_a_pair_that_sent_too_much() {
    let limits = RelayLimits { bytes_per_pair: 500_000, ..RelayLimits::default() };
    let options = RelayOptions { limits, ..RelayOptions::default() };
    let (relayed, mut connection) = RelayedEcho::connected(options).await;
    let relay = &relayed.relay;
    // Its end is told by ours: the relay is there, and relays no more.
    timeout(PATIENCE, use_up(&mut connection)).await.expect("the connection ends");
    expect_load(relay, "the pair is ended", |load| load.pairs == 0).await;
    assert!(relay.load().bytes >= limits.bytes_per_pair, "{:?}", relay.load());
}

#[tokio::test]
async fn a_connection_ends_with_its_relay() {
    let (relayed, mut connection) = RelayedEcho::connected(RelayOptions::default()).await;
    relayed.relay.close().await;
    let ended = use_up(&mut connection);
    timeout(Duration::from_secs(10), ended).await.expect("at once, not after the silence of a path");
}
