//! Connections between our nodes and those of npm hyperdht, each way, on networks of either.

mod js;
mod relay;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyperdht::connect::{
    ConnectError, ConnectOptions, Connection, ConnectionPath, FirewallHook, Server, ServerOptions,
};
use hyperdht::testnet::{bootstrap_of, testnet};
use hyperdht::{Config, Dht};
use js::{Js, Testnet, key, parse};
use secret_stream::KeyPair;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const TEN_MEGABYTES: usize = 10_000_000;

/// A node as an application makes it: on all interfaces. Where all nodes are on one host, it
/// finds out soon that it is reached by all.
async fn node(bootstrap: &[String]) -> Dht {
    Dht::new(Config { port: 0, ..Config::private(parse(bootstrap)) }).await.unwrap()
}

/// A node on all interfaces that never takes itself to be reached by all.
async fn firewalled_node(bootstrap: &[String]) -> Dht {
    let config = Config { port: 0, stays_firewalled: true, ..Config::private(parse(bootstrap)) };
    Dht::new(config).await.unwrap()
}

/// The same on loopback alone.
async fn loopback_node(bootstrap: &[String]) -> Dht {
    let host = Ipv4Addr::LOCALHOST.into();
    let private = Config::private(parse(bootstrap));
    Dht::new(Config { port: 0, host, stays_firewalled: true, ..private }).await.unwrap()
}

/// A node that knows it is reached by all.
async fn open_node(bootstrap: &[String]) -> Dht {
    let (host, known_host) = (Ipv4Addr::LOCALHOST.into(), Some(Ipv4Addr::LOCALHOST));
    let config = Config { port: 0, host, known_host, firewalled: false, ..Config::private(parse(bootstrap)) };
    let dht = Dht::new(config).await.unwrap();
    dht.ready().await.unwrap();
    assert!(dht.remote_address().is_some());
    dht
}

async fn listen(dht: &Dht) -> Server {
    dht.listen(KeyPair::generate(), ServerOptions::default()).await.unwrap()
}

async fn connect(dht: &Dht, public_key: [u8; 32]) -> Result<Connection, ConnectError> {
    timeout(PATIENCE, dht.connect(public_key, ConnectOptions::default())).await.expect("an end")
}

/// Echoes all that comes on all connections, and tells their paths.
fn echo(mut server: Server) -> (JoinHandle<()>, tokio::sync::mpsc::UnboundedReceiver<ConnectionPath>) {
    let (sender, paths) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(mut connection) = server.accept().await {
            let _ = sender.send(connection.path());
            tokio::spawn(async move {
                while let Ok(Some(message)) = connection.stream.recv().await {
                    if connection.stream.send(&message).await.is_err() {
                        return;
                    }
                }
                let _ = connection.stream.shutdown().await;
            });
        }
    });
    (task, paths)
}

/// Sends `bytes` that no other connection sends, and expects them back.
async fn expect_echo(connection: Connection, bytes: usize) {
    let pattern = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u8;
    let (mut receiver, mut sender) = connection.stream.split();
    let sending = tokio::spawn(async move {
        let data: Vec<u8> = (0..bytes).map(pattern).collect();
        for chunk in data.chunks(65_536) {
            sender.send(chunk).await.unwrap();
        }
        sender.flush().await.unwrap();
        sender
    });
    let mut received = 0;
    let echoed = async {
        while received < bytes {
            let message = receiver.recv().await.unwrap().expect("all comes back");
            for byte in message.iter() {
                assert_eq!(*byte, pattern(received), "byte {received}");
                received += 1;
            }
        }
    };
    timeout(PATIENCE, echoed).await.expect("the echo comes in time");
    sending.await.unwrap().shutdown().await.unwrap();
}

fn options(bootstrap: &[String], more: Value) -> Value {
    let mut node = more;
    node["bootstrap"] = json!(bootstrap);
    json!({ "node": node })
}

/// Kinds of JavaScript nodes: those below, and one at another address of the same network.
fn kinds() -> [Value; 5] {
    [
        json!({}),
        json!({ "staysFirewalled": true }),
        json!({ "staysFirewalled": true, "host": "127.0.0.1" }),
        json!({ "firewalled": false, "ephemeral": false, "host": "127.0.0.1" }),
        json!({ "staysFirewalled": true, "host": "127.0.0.2" }),
    ]
}

/// Nodes of ours: as applications make them; not reached by all; the same on loopback alone; and
/// reached by all.
async fn our_kinds(bootstrap: &[String]) -> [(&'static str, Dht); 4] {
    [
        ("default", node(bootstrap).await),
        ("firewalled", firewalled_node(bootstrap).await),
        ("loopback", loopback_node(bootstrap).await),
        ("open", open_node(bootstrap).await),
    ]
}

/// A network of our nodes alone, and what to tell those who join.
async fn our_testnet() -> (Vec<Dht>, Vec<String>) {
    let nodes = testnet(4).await.unwrap();
    let first = bootstrap_of(&nodes[0]).unwrap();
    (nodes, vec![format!("{}:{}", first.host, first.port)])
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_the_time_it_has() {
    let (_nodes, bootstrap) = our_testnet().await;
    let (a, b) = (node(&bootstrap).await, node(&bootstrap).await);
    let silent: FirewallHook = Arc::new(|_| Box::pin(std::future::pending()));
    let options = ServerOptions { firewall: Some(silent), ..Default::default() };
    let server = b.listen(KeyPair::generate(), options).await.unwrap();
    let dial = |answer_limit| {
        a.connect(server.public_key(), ConnectOptions { answer_limit, ..ConnectOptions::default() })
    };
    let (limited, patient) = (dial(Some(Duration::from_millis(200))), dial(None));
    tokio::select! {
        result = limited => assert_eq!(result.unwrap_err(), ConnectError::PeerConnectionFailed),
        result = patient => panic!("{result:?}"),
        () = tokio::time::sleep(PATIENCE) => panic!("no end"),
    }
}

#[tokio::test]
async fn we_reach_javascript_servers_of_every_kind() {
    let net = Testnet::start().await;
    join_all(kinds().map(async |kind| {
        let mut js = Js::start("serve", &options(&net.bootstrap, kind.clone()));
        let public_key = key(&js.event("ready").await["publicKey"]);
        for (name, dht) in our_kinds(&net.bootstrap).await {
            let connection = connect(&dht, public_key).await;
            let connection = connection.unwrap_or_else(|e| panic!("{name} to {kind}: {e}"));
            let seen = js.event("connection").await;
            assert_eq!(seen["handshakeHash"], hex::encode(connection.handshake_hash()), "{name} to {kind}");
            expect_echo(connection, 1000).await;
            dht.destroy().await;
        }
    }))
    .await;
}

#[tokio::test]
async fn javascript_clients_of_every_kind_reach_us() {
    let net = Testnet::start().await;
    // All before the first client is gone again, whose absence would take the others a while to notice.
    let mut servers = Vec::new();
    for (name, dht) in our_kinds(&net.bootstrap).await {
        let server = listen(&dht).await;
        let public_key = hex::encode(server.public_key());
        servers.push((name, dht, public_key, echo(server)));
    }
    for (name, _dht, public_key, (_task, paths)) in &mut servers {
        join_all(kinds().map(async |kind| {
            let mut dial = options(&net.bootstrap, kind.clone());
            dial["publicKey"] = json!(public_key);
            let mut js = Js::start("dial", &dial);
            assert_eq!(js.event("echoed").await["same"], true, "{kind} to {name}");
        }))
        .await;
        for _ in kinds() {
            assert!(paths.recv().await.is_some());
        }
    }
}

#[tokio::test]
async fn our_nodes_reach_each_other_on_networks_of_either() {
    let js_net = Testnet::start().await;
    let (_nodes, ours) = our_testnet().await;
    for bootstrap in [&js_net.bootstrap, &ours] {
        for (server_name, server_dht) in our_kinds(bootstrap).await {
            let server = listen(&server_dht).await;
            let public_key = server.public_key();
            let (_task, _paths) = echo(server);
            for (name, dht) in our_kinds(bootstrap).await {
                let connection = connect(&dht, public_key).await;
                let connection = connection.unwrap_or_else(|e| panic!("{name} to {server_name}: {e}"));
                assert!(connection.is_initiator());
                assert_eq!(connection.remote_public_key(), public_key);
                expect_echo(connection, 1000).await;
            }
        }
    }
}

#[tokio::test]
async fn javascript_peers_reach_each_other_through_our_nodes_alone() {
    let (_nodes, bootstrap) = our_testnet().await;
    // All before the first client is gone again.
    let servers = join_all(kinds().map(async |kind| {
        let mut server = Js::start("serve", &options(&bootstrap, kind.clone()));
        let public_key = server.event("ready").await["publicKey"].clone();
        (kind, server, public_key)
    }))
    .await;
    for (kind, _server, public_key) in &servers {
        join_all(kinds().map(async |client_kind| {
            let mut dial = options(&bootstrap, client_kind.clone());
            dial["publicKey"] = public_key.clone();
            let mut client = Js::start("dial", &dial);
            assert_eq!(client.event("echoed").await["same"], true, "{client_kind} to {kind}");
        }))
        .await;
    }
}

#[tokio::test]
async fn plain_swarms_and_our_nodes_reach_each_other() {
    let js_net = Testnet::start().await;
    let (_nodes, ours) = our_testnet().await;
    for bootstrap in [&js_net.bootstrap, &ours] {
        let dht = node(bootstrap).await;
        let mut server = listen(&dht).await;
        let public_key = hex::encode(server.public_key());
        let mut js = Js::start("swarm", &json!({ "bootstrap": bootstrap, "publicKey": public_key }));
        let js_key = key(&js.event("ready").await["publicKey"]);

        let incoming = timeout(PATIENCE, server.accept()).await.expect("a connection").unwrap();
        assert_eq!(incoming.remote_public_key(), js_key);
        assert!(!incoming.is_initiator());
        expect_echo(incoming, 1000).await;
        expect_echo(connect(&dht, js_key).await.unwrap(), 1000).await;
    }
}

#[tokio::test]
async fn ten_megabytes_come_back_each_way() {
    let net = Testnet::start().await;
    let dht = node(&net.bootstrap).await;
    let server = listen(&dht).await;
    let public_key = server.public_key();
    let (_task, _paths) = echo(server);

    let mut dial = options(&net.bootstrap, json!({}));
    dial["publicKey"] = json!(hex::encode(public_key));
    dial["bytes"] = json!(TEN_MEGABYTES);
    let mut client = Js::start("dial", &dial);
    assert_eq!(client.event("echoed").await["same"], true);

    let mut js = Js::start("serve", &options(&net.bootstrap, json!({})));
    let js_key = key(&js.event("ready").await["publicKey"]);
    expect_echo(connect(&dht, js_key).await.unwrap(), TEN_MEGABYTES).await;

    let other = node(&net.bootstrap).await;
    expect_echo(connect(&other, public_key).await.unwrap(), TEN_MEGABYTES).await;
}

#[tokio::test]
async fn several_servers_with_keys_of_their_own_live_on_one_node() {
    let (_nodes, bootstrap) = our_testnet().await;
    let dht = node(&bootstrap).await;
    let mut keys = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let server = listen(&dht).await;
        assert!(!server.relay_addresses().is_empty());
        keys.push(server.public_key());
        tasks.push(echo(server));
    }
    let other = node(&bootstrap).await;
    for key in &keys {
        let connection = connect(&other, *key).await.unwrap();
        assert_eq!(connection.remote_public_key(), *key);
        expect_echo(connection, 1000).await;
        // From the servers' own node too.
        expect_echo(connect(&dht, *key).await.unwrap(), 1000).await;
    }
}

#[tokio::test]
async fn one_key_listens_once_and_again_after_it_was_closed() {
    let (_nodes, bootstrap) = our_testnet().await;
    let dht = node(&bootstrap).await;
    let keys = KeyPair::generate();
    let server = dht.listen(keys.clone(), ServerOptions::default()).await.unwrap();
    let again = dht.listen(keys.clone(), ServerOptions::default()).await;
    assert_eq!(again.unwrap_err().code(), "KEYPAIR_ALREADY_USED");
    server.close().await;
    let other = node(&bootstrap).await;
    assert_eq!(connect(&other, keys.public_key()).await.unwrap_err(), ConnectError::PeerNotFound);
    let server = dht.listen(keys.clone(), ServerOptions::default()).await.unwrap();
    let (_task, _paths) = echo(server);
    expect_echo(connect(&other, keys.public_key()).await.unwrap(), 1000).await;
}

#[tokio::test]
async fn a_key_nobody_listens_on_is_not_found() {
    let net = Testnet::start().await;
    let dht = node(&net.bootstrap).await;
    let nobody = KeyPair::generate().public_key();
    assert_eq!(connect(&dht, nobody).await.unwrap_err(), ConnectError::PeerNotFound);
    let no_point = [0xff; 32];
    assert_eq!(connect(&dht, no_point).await.unwrap_err(), ConnectError::PeerNotFound);
    dht.destroy().await;
    assert_eq!(connect(&dht, nobody).await.unwrap_err(), ConnectError::Destroyed);
}

#[tokio::test]
async fn whom_the_firewall_refuses_hears_nothing() {
    let net = Testnet::start().await;
    let dht = node(&net.bootstrap).await;
    let friend = KeyPair::generate();
    let friend_key = friend.public_key();
    let options_with_firewall = ServerOptions {
        firewall: Some(Arc::new(move |request| {
            Box::pin(async move {
                // Time to think, more than a client waits before it asks again.
                tokio::time::sleep(Duration::from_millis(1500)).await;
                request.remote_public_key != friend_key
            })
        })),
        ..ServerOptions::default()
    };
    let server = dht.listen(KeyPair::generate(), options_with_firewall).await.unwrap();
    let public_key = server.public_key();
    let (_task, mut paths) = echo(server);

    let stranger = node(&net.bootstrap).await;
    let mut dial = options(&net.bootstrap, json!({}));
    dial["publicKey"] = json!(hex::encode(public_key));
    let mut js_stranger = Js::start("dial", &dial);
    let mut js = Js::start("serve", &json!({ "node": { "bootstrap": net.bootstrap }, "refuse": true }));
    let js_key = key(&js.event("ready").await["publicKey"]);
    let (refused, js_refused, refused_by_js) =
        tokio::join!(connect(&stranger, public_key), js_stranger.event("error"), connect(&stranger, js_key));
    assert_eq!(refused.unwrap_err(), ConnectError::PeerConnectionFailed);
    assert_eq!(refused_by_js.unwrap_err(), ConnectError::PeerConnectionFailed);
    assert_eq!(js_refused["code"], "PEER_CONNECTION_FAILED");
    assert!(paths.try_recv().is_err());

    let as_friend = ConnectOptions { key_pair: Some(friend), ..ConnectOptions::default() };
    expect_echo(stranger.connect(public_key, as_friend).await.unwrap(), 1000).await;
    assert!(paths.try_recv().is_ok());
}

#[tokio::test]
async fn an_open_client_is_dialled_by_a_server_that_is_not() {
    let net = Testnet::start().await;
    let open = open_node(&net.bootstrap).await;
    let mut js = Js::start("serve", &options(&net.bootstrap, json!({ "staysFirewalled": true })));
    let js_key = key(&js.event("ready").await["publicKey"]);
    expect_echo(connect(&open, js_key).await.unwrap(), 1000).await;

    let closed = firewalled_node(&net.bootstrap).await;
    let mut server = listen(&closed).await;
    let (connection, accepted) = tokio::join!(connect(&open, server.public_key()), server.accept());
    assert!(connection.is_ok());
    let accepted = accepted.unwrap();
    assert_eq!(accepted.path(), ConnectionPath::Open);
    assert_eq!(Some(accepted.remote_addr()), open.remote_address().map(Into::into));
}

#[tokio::test]
async fn peers_that_go_no_local_way_punch() {
    let net = Testnet::start().await;
    let dht = firewalled_node(&net.bootstrap).await;
    let server = listen(&dht).await;
    let public_key = server.public_key();
    let (_task, _paths) = echo(server);
    let mut dial = options(&net.bootstrap, json!({ "staysFirewalled": true }));
    dial["publicKey"] = json!(hex::encode(public_key));
    dial["connect"] = json!({ "localConnection": false });
    let mut js = Js::start("dial", &dial);
    assert_eq!(js.event("echoed").await["same"], true);

    let mut js = Js::start("serve", &options(&net.bootstrap, json!({ "staysFirewalled": true })));
    let js_key = key(&js.event("ready").await["publicKey"]);
    let other = firewalled_node(&net.bootstrap).await;
    let only_far = ConnectOptions { local_connection: false, ..ConnectOptions::default() };
    for public_key in [js_key, public_key] {
        let connection = other.connect(public_key, only_far.clone()).await.unwrap();
        // Not by a socket that others know.
        assert_ne!(connection.remote_addr().port(), dht.local_addr().unwrap().port());
        expect_echo(connection, 1000).await;
    }
}

/// A JavaScript node that has just started learns that everybody reaches it while its first connection is
/// being made. It then says so to the peer it punches to, and names no address: JavaScript peers end such a
/// connection.
#[tokio::test]
async fn a_javascript_peer_that_turns_out_to_be_open_while_it_punches_is_met() {
    let (_nodes, bootstrap) = our_testnet().await;
    let opening = json!({ "opensWhilePunching": true, "host": "127.0.0.1" });

    let dht = loopback_node(&bootstrap).await;
    let server = listen(&dht).await;
    let public_key = hex::encode(server.public_key());
    let (_echo, mut paths) = echo(server);
    let mut dial = options(&bootstrap, opening.clone());
    dial["publicKey"] = json!(public_key);
    let mut client = Js::start("dial", &dial);
    assert_eq!(client.event("echoed").await["same"], true);
    assert!(paths.recv().await.is_some());

    let mut server = Js::start("serve", &options(&bootstrap, opening));
    let public_key = key(&server.event("ready").await["publicKey"]);
    let dht = loopback_node(&bootstrap).await;
    expect_echo(connect(&dht, public_key).await.unwrap(), 1000).await;
}

#[tokio::test]
async fn a_hole_is_used_again_by_those_who_both_want_to() {
    let net = Testnet::start().await;
    let dht = firewalled_node(&net.bootstrap).await;
    let reusing = ServerOptions { reusable_socket: true, ..ServerOptions::default() };
    let server = dht.listen(KeyPair::generate(), reusing).await.unwrap();
    let our_key = server.public_key();
    let (_task, _paths) = echo(server);
    let mut serve = options(&net.bootstrap, json!({ "staysFirewalled": true }));
    serve["server"] = json!({ "reusableSocket": true });
    let mut js = Js::start("serve", &serve);
    let js_key = key(&js.event("ready").await["publicKey"]);

    let client = firewalled_node(&net.bootstrap).await;
    let far = ConnectOptions { local_connection: false, ..ConnectOptions::default() };
    let reusing = ConnectOptions { reusable_socket: true, ..far.clone() };
    for public_key in [our_key, js_key] {
        let first = client.connect(public_key, reusing.clone()).await.unwrap();
        let hole = first.remote_addr();
        let fresh = client.connect(public_key, far.clone()).await.unwrap();
        assert_ne!(fresh.remote_addr(), hole);
        let second = client.connect(public_key, reusing.clone()).await.unwrap();
        assert_eq!(second.remote_addr(), hole);
        expect_echo(first, 1000).await;
        expect_echo(second, 1000).await;
        // A moment without any connection is nothing.
        let third = client.connect(public_key, reusing.clone()).await.unwrap();
        assert_eq!(third.remote_addr(), hole);
        expect_echo(third, 1000).await;
    }
}

#[tokio::test]
async fn a_peer_that_is_killed_is_noticed() {
    let net = Testnet::start().await;
    let dht = node(&net.bootstrap).await;
    let mut js = Js::start("serve", &options(&net.bootstrap, json!({})));
    let js_key = key(&js.event("ready").await["publicKey"]);
    let mut connection = connect(&dht, js_key).await.unwrap();
    connection.stream.send(b"hello").await.unwrap();
    assert_eq!(connection.stream.recv().await.unwrap().unwrap(), b"hello"[..]);
    js.kill().await;
    let killed = Instant::now();
    let end = timeout(PATIENCE, connection.stream.recv()).await.expect("an end");
    assert!(end.is_err(), "{end:?}");
    assert!(killed.elapsed() < Duration::from_secs(40), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn destroying_a_node_ends_its_connections_for_the_other_side_at_once() {
    let net = Testnet::start().await;
    let dht = node(&net.bootstrap).await;
    let mut server = listen(&dht).await;
    let other = node(&net.bootstrap).await;
    let mut connection = connect(&other, server.public_key()).await.unwrap();
    let _held = server.accept().await.unwrap();
    dht.destroy().await;
    let end = timeout(Duration::from_secs(5), connection.stream.recv()).await.expect("an end");
    assert!(end.is_err(), "{end:?}");
    assert!(server.accept().await.is_none());
}

#[tokio::test]
async fn a_suspended_node_is_not_found_and_is_found_again_when_resumed() {
    let (_nodes, bootstrap) = our_testnet().await;
    let dht = node(&bootstrap).await;
    let mut server = listen(&dht).await;
    let public_key = server.public_key();
    let other = node(&bootstrap).await;
    let mut connection = connect(&other, public_key).await.unwrap();
    let _held = server.accept().await.unwrap();

    dht.suspend().await;
    assert_eq!(connect(&dht, public_key).await.unwrap_err(), ConnectError::Suspended);
    let end = timeout(Duration::from_secs(5), connection.stream.recv()).await.expect("an end");
    assert!(end.is_err(), "{end:?}");
    assert_eq!(connect(&other, public_key).await.unwrap_err(), ConnectError::PeerNotFound);

    dht.resume().await.unwrap();
    let (_task, _paths) = echo(server);
    let found = async {
        loop {
            if let Ok(connection) = connect(&other, public_key).await {
                return connection;
            }
        }
    };
    expect_echo(timeout(PATIENCE, found).await.expect("found again"), 1000).await;
}
