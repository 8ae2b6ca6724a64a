//! Servers as strangers meet them: clients that say what no honest one does.

use std::time::Duration;

use secret_stream::KeyPair;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::{Handshake, Mode};
use super::noise::Initiator;
use super::payload::{Firewall, NoisePayload, UdxInfo, error};
use super::{ConnectOptions, Server, ServerOptions};
use crate::command;
use crate::crypto::hash;
use crate::rpc::{Reply, Request, RequestError};
use crate::testnet::testnet;
use crate::{Config, Dht};

/// Nothing here should take longer, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network, a node in it for servers, and one for strangers: a node does not ask itself, so none of the
/// network's will do.
struct TestNetwork {
    nodes: Vec<Dht>,
    home: Dht,
    stranger: Dht,
}

async fn network() -> TestNetwork {
    let nodes = testnet(4).await.unwrap();
    let bootstrap = crate::testnet::bootstrap_of(&nodes[0]).unwrap();
    let host = std::net::Ipv4Addr::LOCALHOST.into();
    let config = Config { host, port: 0, ..Config::private(vec![bootstrap]) };
    let home = Dht::new(config.clone()).await.unwrap();
    let stranger = Dht::new(config).await.unwrap();
    TestNetwork { nodes, home, stranger }
}

fn client_payload() -> NoisePayload {
    let udx = Some(UdxInfo { reusable_socket: false, id: 7, seq: 0 });
    NoisePayload { udx, ..NoisePayload::default() }
}

fn initiator(server: &Server, payload: &NoisePayload) -> Initiator {
    Initiator::new(KeyPair::generate(), server.public_key(), payload).unwrap()
}

/// Sends a first message to the server through the `relay`-th of its relays.
async fn send(from: &Dht, server: &Server, relay: usize, noise: &[u8]) -> Result<Reply, RequestError> {
    let message = Handshake::new(Mode::FromClient, noise.to_vec());
    let target = hash(&[&server.public_key()]);
    let request = Request::user(command::PEER_HANDSHAKE, target, server.relay_addresses()[relay]);
    from.context().handle.request(request.value(message.encode())).await
}

fn noise_of(reply: &Reply) -> Vec<u8> {
    let answer = Handshake::decode(reply.value.as_ref().unwrap()).unwrap();
    assert_eq!(answer.mode, Mode::Reply);
    answer.noise
}

/// A real client connects, and is the next that the server accepts.
async fn expect_service(server: &mut Server, dht: &Dht) {
    let key_pair = KeyPair::generate();
    let public_key = key_pair.public_key();
    let options = ConnectOptions { key_pair: Some(key_pair), ..ConnectOptions::default() };
    let (connection, accepted) =
        tokio::join!(timeout(PATIENCE, dht.connect(server.public_key(), options)), server.accept());
    connection.unwrap().unwrap();
    assert_eq!(accepted.unwrap().remote_public_key(), public_key);
}

#[tokio::test]
async fn one_message_through_several_relays_and_again_has_one_answer() {
    let net = network().await;
    let mut server = net.home.listen(KeyPair::generate(), ServerOptions::default()).await.unwrap();
    let client = initiator(&server, &client_payload());
    let mut answers = Vec::new();
    for relay in [0, 1, 0] {
        let reply = send(&net.stranger, &server, relay, client.message()).await.unwrap();
        answers.push(noise_of(&reply));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    client.finish(&answers[0]).unwrap();
    expect_service(&mut server, &net.nodes[3]).await;
}

#[tokio::test]
async fn who_never_proves_its_key_is_not_accepted() {
    let net = network().await;
    let mut server = net.home.listen(KeyPair::generate(), ServerOptions::default()).await.unwrap();
    let open = NoisePayload { firewall: Firewall::Open, ..client_payload() };
    for payload in [client_payload(), open] {
        let client = initiator(&server, &payload);
        let reply = send(&net.stranger, &server, 0, client.message()).await.unwrap();
        client.finish(&noise_of(&reply)).unwrap();
    }
    expect_service(&mut server, &net.nodes[0]).await;
}

#[tokio::test]
async fn clients_that_cannot_be_served_are_told_why() {
    let net = network().await;
    let server = net.home.listen(KeyPair::generate(), ServerOptions::default()).await.unwrap();
    let no_stream = NoisePayload { udx: None, ..client_payload() };
    let other_version = NoisePayload { version: 2, ..client_payload() };
    for (payload, why) in [(no_stream, error::ABORTED), (other_version, error::VERSION_MISMATCH)] {
        let client = initiator(&server, &payload);
        let reply = send(&net.stranger, &server, 0, client.message()).await.unwrap();
        let (answer, _) = client.finish(&noise_of(&reply)).unwrap();
        assert_eq!(answer.error, why);
    }
}

#[tokio::test]
async fn a_firewall_that_panics_refuses_and_the_server_lives_on() {
    let net = network().await;
    let friend = KeyPair::generate();
    let friend_key = friend.public_key();
    let options = ServerOptions {
        firewall: Some(std::sync::Arc::new(move |request| {
            Box::pin(async move {
                assert_eq!(request.remote_public_key, friend_key, "as the test wants it");
                false
            })
        })),
        ..ServerOptions::default()
    };
    let server = net.home.listen(KeyPair::generate(), options).await.unwrap();
    let client = initiator(&server, &client_payload());
    assert_eq!(send(&net.stranger, &server, 0, client.message()).await, Err(RequestError::TimedOut));
    let as_friend = ConnectOptions { key_pair: Some(friend), ..ConnectOptions::default() };
    net.stranger.connect(server.public_key(), as_friend).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_handshakes_does_not_keep_others_out() {
    let net = network().await;
    let mut server = net.home.listen(KeyPair::generate(), ServerOptions::default()).await.unwrap();
    let payload = client_payload();
    let mut flood = JoinSet::new();
    for i in 0..1500 {
        let message = Handshake::new(Mode::FromClient, initiator(&server, &payload).message().to_vec());
        let target = hash(&[&server.public_key()]);
        let relay = server.relay_addresses()[i % 3];
        let request = Request::user(command::PEER_HANDSHAKE, target, relay).attempts(1);
        let handle = net.nodes[i % 4].context().handle;
        flood.spawn(async move { handle.request(request.value(message.encode())).await });
    }
    expect_service(&mut server, &net.nodes[0]).await;
    flood.join_all().await;
    expect_service(&mut server, &net.nodes[1]).await;
}

#[tokio::test]
async fn many_connect_at_once() {
    let net = network().await;
    let mut server = net.home.listen(KeyPair::generate(), ServerOptions::default()).await.unwrap();
    let public_key = server.public_key();
    let mut clients = JoinSet::new();
    for i in 0..40 {
        let dht = net.nodes[i % 4].clone();
        clients.spawn(async move { dht.connect(public_key, ConnectOptions::default()).await });
    }
    let accepting = async {
        let mut accepted = Vec::new();
        while accepted.len() < 40 {
            accepted.push(server.accept().await.unwrap());
        }
        accepted
    };
    let (connected, accepted) = tokio::join!(clients.join_all(), timeout(PATIENCE, accepting));
    assert_eq!(accepted.unwrap().len(), 40);
    for connection in connected {
        connection.unwrap();
    }
}
