//! What is joined, what passes, and how it ends.

use std::sync::Arc;

use hub::{TlsFiles, TunnelAccess};
use protocol::tunnel::close;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use secret_stream::{KeyPair, PublicKey};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::{End, host_of, hub_for, name_in, pair, task_of};
use crate::certificate::Certified;
use crate::support::TestHub;

/// Bytes that look like no others.
fn bytes(count: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[tokio::test]
async fn what_one_sends_is_what_the_other_receives_both_ways() {
    let hub = TestHub::start().await;
    let ((_, mut one), (_, mut other)) = pair(&hub).await;
    let (there, back) = (bytes(2_600_000, 1), bytes(2_000_000, 2));
    let sending = async {
        let mut rest = there.as_slice();
        // Lengths about each bound of a header's, of what is read at once, and of a message.
        for count in [0, 1, 2, 125, 126, 127, 4095, 4096, 65_535, 65_536, 131_072, 262_144, 1_048_576] {
            let (now, later) = rest.split_at(count);
            one.send(now.to_vec()).await;
            rest = later;
        }
        one.send(rest.to_vec()).await;
        one.receive(back.len()).await
    };
    let receiving = async {
        for piece in back.chunks(1000) {
            other.send(piece.to_vec()).await;
        }
        other.receive(there.len()).await
    };
    let (received, arrived) = tokio::join!(sending, receiving);
    assert!(received == back && arrived == there);
}

#[tokio::test]
async fn what_is_sent_before_the_other_end_is_there_waits_for_it() {
    let hub = TestHub::start().await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&a, &b]).await;
    let address = hub.hub.local_addr();
    let mut one = End::enter(address, &a, b.public_key()).await;
    let sent = bytes(500_000, 3);
    let sending = async {
        for piece in sent.chunks(70_000) {
            one.send(piece.to_vec()).await;
        }
        one.joined().await
    };
    let receiving = async {
        let mut other = End::enter(address, &b, a.public_key()).await.joined().await;
        (other.receive(sent.len()).await, other)
    };
    let (_one, (received, _other)) = tokio::join!(sending, receiving);
    assert!(received == sent);
}

#[tokio::test]
async fn an_end_that_comes_before_its_task_is_joined_once_that_names_it() {
    let hub = TestHub::start().await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let caller = hub.caller("a");
    let task = task_of(&caller, &[&a]).await;
    let address = hub.hub.local_addr();
    let one = End::enter(address, &a, b.public_key()).await;
    let other = End::enter(address, &b, a.public_key()).await;
    name_in(&caller, task, &b).await;
    tokio::join!(one.joined(), other.joined());
}

#[tokio::test]
async fn a_pair_stays_when_its_task_ends() {
    let hub = TestHub::start().await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let caller = hub.caller("a");
    let task = task_of(&caller, &[&a, &b]).await;
    let address = hub.hub.local_addr();
    let one = End::enter(address, &a, b.public_key()).await;
    let other = End::enter(address, &b, a.public_key()).await;
    let (mut one, mut other) = tokio::join!(one.joined(), other.joined());
    caller.post(&format!("/tasks/{task}/cancel"), json!({})).await;
    one.send(vec![7; 1000]).await;
    assert_eq!(other.receive(1000).await, [7; 1000]);
    // Who comes anew is asked anew: the other end has to dial, and both are one task short.
    let again = End::enter(address, &a, b.public_key()).await;
    assert_eq!(one.closed().await, close::REPLACED);
    assert_eq!(other.closed().await, close::PEER_GONE);
    assert_eq!(again.closed().await, close::NOT_ALLOWED);
}

#[tokio::test]
async fn an_end_that_comes_again_takes_its_own_place_and_the_other_hears_of_it() {
    let hub = TestHub::start().await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&a, &b]).await;
    let address = hub.hub.local_addr();
    let waits = End::enter(address, &a, b.public_key()).await;
    let again = End::enter(address, &a, b.public_key()).await;
    assert_eq!(waits.closed().await, close::REPLACED);
    let other = End::enter(address, &b, a.public_key()).await;
    let (again, other) = tokio::join!(again.joined(), other.joined());
    // Once joined, both begin anew: what was said over the old connection is of no use over the new one.
    let once_more = End::enter(address, &b, a.public_key()).await;
    assert_eq!(other.closed().await, close::REPLACED);
    assert_eq!(again.closed().await, close::PEER_GONE);
    let dialled = End::enter(address, &a, b.public_key()).await;
    tokio::join!(dialled.joined(), once_more.joined());
}

#[tokio::test]
async fn the_other_end_hears_whether_one_closed_or_went() {
    let hub = TestHub::start().await;
    let ((_, mut one), (_, mut other)) = pair(&hub).await;
    one.send(vec![1; 100_000]).await;
    let goodbye = CloseFrame { code: 1000.into(), reason: "".into() };
    one.socket.close(Some(goodbye)).await.expect("closed");
    assert_eq!(other.receive(100_000).await.len(), 100_000);
    assert_eq!(other.closed().await, 1000);

    let ((_, mut one), (_, mut other)) = pair(&hub).await;
    one.send(vec![1; 100_000]).await;
    drop(one);
    assert_eq!(other.receive(100_000).await.len(), 100_000);
    assert_eq!(other.closed().await, close::PEER_GONE);
}

#[tokio::test]
async fn the_hub_closes_all_ends_when_it_stops() {
    let hub = TestHub::start().await;
    let ((_, one), (_, other)) = pair(&hub).await;
    let (c, d) = (KeyPair::generate(), KeyPair::generate());
    task_of(&hub.caller("a"), &[&c]).await;
    let waits = End::enter(hub.hub.local_addr(), &c, d.public_key()).await;
    let unproven = End::open(hub.hub.local_addr(), &d, c.public_key()).await;
    let ((), codes) = tokio::join!(hub.hub.shutdown(), async {
        tokio::join!(one.closed(), other.closed(), waits.closed(), unproven.closed())
    });
    assert_eq!(codes, (1001, 1001, 1001, 1001));
}

#[tokio::test]
async fn a_hub_that_speaks_tls_joins_over_that() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let Certified { authority, certificate, key } = Certified::make();
    let files = TlsFiles { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.certificate, certificate).expect("written");
    std::fs::write(&files.key, key).expect("written");
    let hub = TestHub::start_with(|config| {
        config.tls = Some(files);
        config.tunnel = TunnelAccess::Open;
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let (connector, address) = (TlsConnector::from(Arc::new(config)), hub.hub.local_addr());
    let enter = async |keys: &KeyPair, peer: PublicKey| {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::from(address.ip());
        let stream = connector.connect(name, stream).await.expect("TLS");
        let mut end = End::open_over(stream, address, keys, peer, &[]).await.expect("a WebSocket");
        end.prove(keys, keys.public_key(), peer, &host_of(address)).await;
        end
    };
    let one = enter(&a, b.public_key()).await;
    let other = enter(&b, a.public_key()).await;
    let (mut one, mut other) = tokio::join!(one.joined(), other.joined());
    let sent = bytes(1_000_000, 4);
    let (received, ()) = tokio::join!(other.receive(sent.len()), one.send(sent.clone()));
    assert!(received == sent);
}

#[tokio::test]
async fn whoever_proves_a_key_is_joined_where_the_tunnel_is_open() {
    let hub = hub_for(TunnelAccess::Open).await;
    let (a, b) = (KeyPair::generate(), KeyPair::generate());
    let address = hub.hub.local_addr();
    let one = End::enter(address, &a, b.public_key()).await;
    let mut other = End::enter(address, &b, a.public_key()).await.joined().await;
    let mut one = one.joined().await;
    one.socket.send_all_of(b"hello").await;
    assert_eq!(other.receive(5).await, b"hello");
}

/// A client may send a message in as many frames as it likes.
trait InFrames {
    async fn send_all_of(&mut self, bytes: &[u8]);
}

impl InFrames for tokio_tungstenite::WebSocketStream<TcpStream> {
    async fn send_all_of(&mut self, bytes: &[u8]) {
        use futures_util::SinkExt as _;
        use tokio_tungstenite::tungstenite::protocol::frame::Frame;
        use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
        for (at, byte) in bytes.iter().enumerate() {
            let kind = if at == 0 { Data::Binary } else { Data::Continue };
            let frame = Frame::message(vec![*byte], OpCode::Data(kind), at + 1 == bytes.len());
            self.send(Message::Frame(frame)).await.expect("sent");
            // Between the frames of a message control frames may stand.
            self.send(Message::Ping(vec![1, 2, 3].into())).await.expect("sent");
        }
    }
}
