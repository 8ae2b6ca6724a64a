//! The parts from which a peer can be built that does as it likes.

use std::time::Duration;

use ats_p2p::ats::{Client, NewTask, Part, Status, Task, TaskId};
use ats_p2p::event::Event;
use ats_p2p::wire::{DONE, Decoder, FrameType, MAX_DATA, Meta, Piece, encode};
use hyperdht::Dht;
use hyperdht::connect::{ConnectOptions, Server, ServerOptions};
use hyperswarm::{Discovery, JoinOptions, Swarm, SwarmConfig};
use protocol::identity::IdentityKey;
use protocol::offer::Offer;
use protocol::p2p::P2p;
use protocol::scope::Scope;
use protocol::statement::{Role, Statement};
use secret_stream::{KeyPair, SecretStream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::lab::{Agent, Lab, PATIENCE};

const CHANNEL: &str = "p2p-transfer";

/// How long raw claims last.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// An offer as an original makes it, of a file with this content.
pub(crate) fn offer_payload(
    transfer_id: &str,
    name: &str,
    content: &[u8],
    from: &str,
    to: Option<&str>,
) -> Value {
    let mut payload = json!({
        "transfer_id": transfer_id,
        "filename": name,
        "size": content.len(),
        "hash": hex::encode(Sha256::digest(content)),
        "sender_id": from,
    });
    if let Some(to) = to {
        payload["recipient_id"] = json!(to);
    }
    payload
}

/// Posts an offer.
pub(crate) async fn post(client: &Client, payload: Value) -> Task {
    let transfer_id = payload["transfer_id"].as_str().unwrap_or_default().to_owned();
    let task = NewTask {
        title: "A file".into(),
        kind: "file_offer".into(),
        channel: CHANNEL.into(),
        description: Some(transfer_id.clone()),
        payload: Some(payload),
        ..Default::default()
    };
    client.create(&task, &transfer_id).await.unwrap()
}

/// The `p2p` object of a peer that dials, or is dialled, with this key.
pub(crate) fn p2p(key_pair: &KeyPair, seq: u64) -> Value {
    json!({
        "version": 2,
        "key": hex::encode(key_pair.public_key()),
        "nodes": [],
        "instance": hex::encode([7; 16]),
        "seq": seq,
        "features": [],
    })
}

/// The same, of a peer with this identity that is about to claim, or has completed, a task.
pub(crate) fn signed(lab: &Lab, p2p: Value, role: Role, task: &Task, key: &IdentityKey) -> Value {
    let (p2p, offer) = (P2p::from_value(&p2p).unwrap(), Offer::from_payload(&task.payload).unwrap());
    let (scope, task_id) = (scope(lab), task.id.to_string());
    Statement { scope: &scope, role, task_id: &task_id, offer: &offer }.sign(p2p, key).to_value()
}

/// An offer with a `p2p` object, signed by its sender.
pub(crate) fn signed_offer(lab: &Lab, mut payload: Value, key: &IdentityKey) -> Value {
    let (scope, offer) = (scope(lab), Offer::from_payload(&payload).unwrap());
    let statement = Statement { scope: &scope, role: Role::Sender, task_id: "", offer: &offer };
    payload["p2p"] = statement.sign(offer.p2p.clone().unwrap(), key).to_value();
    payload
}

fn scope(lab: &Lab) -> Scope {
    Scope::new(&lab.url(), "default", "main")
}

/// Says on a task with which key its peer dials.
pub(crate) async fn say(client: &Client, task: &Task, p2p: Value) {
    let message = json!({ "transfer_id": task.payload["transfer_id"], "p2p": p2p });
    client.add_message(&task.id, vec![Part::data(&message)]).await.unwrap();
}

/// The key that an offer of ours names.
pub(crate) fn key_of(task: &Task) -> [u8; 32] {
    let mut key = [0; 32];
    hex::decode_to_slice(task.payload["p2p"]["key"].as_str().unwrap(), &mut key).unwrap();
    key
}

/// The key that an actor says on a task it dials with, the last time.
pub(crate) fn key_said(task: &Task, actor_id: &str) -> Option<String> {
    said(task, actor_id).iter().filter_map(|p2p| Some(p2p["key"].as_str()?.to_owned())).next_back()
}

/// The task of an offer that an agent has sent.
pub(crate) async fn offered(agent: &Agent, client: &Client) -> Task {
    let task_id = agent
        .event(|event| match event {
            Event::OfferSent { transfer, .. } => transfer.task_id,
            _ => None,
        })
        .await;
    client.get(&task_id).await.unwrap()
}

/// A swarm on the topic of a transfer that only looks for others: peers of this kind do not meet each other.
pub(crate) fn look_for(dht: &Dht, task: &Task) -> Swarm {
    meet(dht, task, JoinOptions { server: false, client: true, limit: None }).0
}

/// A swarm on the topic of a transfer that waits to be found, and can be.
pub(crate) async fn wait_on(dht: &Dht, task: &Task) -> Swarm {
    let (swarm, discovery) = meet(dht, task, JoinOptions { server: true, client: false, limit: None });
    assert!(discovery.flushed().await);
    swarm
}

fn meet(dht: &Dht, task: &Task, role: JoinOptions) -> (Swarm, Discovery) {
    let transfer_id = task.payload["transfer_id"].as_str().unwrap();
    let swarm = Swarm::new(SwarmConfig::new(dht.clone(), KeyPair::generate()));
    let discovery = swarm.join(Sha256::digest(transfer_id.as_bytes()).into(), role);
    (swarm, discovery)
}

/// The next connection on a topic.
pub(crate) async fn met(swarm: &Swarm) -> Peer {
    let connection = timeout(PATIENCE, swarm.accept()).await.expect("somebody comes").expect("a swarm");
    Peer::new(connection.0.stream)
}

/// Dials the key that an offer of ours names.
pub(crate) async fn dial(dht: &Dht, task: &Task, key_pair: &KeyPair) -> Peer {
    try_dial(dht, task, key_pair).await.expect("a connection")
}

/// Dials the key that an offer of ours names; `None` if nobody answers.
pub(crate) async fn try_dial(dht: &Dht, task: &Task, key_pair: &KeyPair) -> Option<Peer> {
    let options = ConnectOptions { key_pair: Some(key_pair.clone()), ..Default::default() };
    let connection = dht.connect(key_of(task), options).await.ok()?;
    Some(Peer::new(connection.stream))
}

/// A recipient of ours' kind, in parts, whose actor is `b`.
pub(crate) struct Recipient {
    pub client: Client,
    pub dht: Dht,
    pub keys: KeyPair,
}

impl Recipient {
    pub(crate) async fn new(lab: &Lab) -> Self {
        Self { client: lab.client("b"), dht: lab.dht().await, keys: KeyPair::generate() }
    }

    /// Says how it dials, and claims.
    pub(crate) async fn take(&self, task: &Task, p2p: Value) {
        say(&self.client, task, p2p).await;
        self.client.claim(&task.id, LEASE).await.unwrap();
    }
}

/// A sender of ours' kind, in parts, whose actor is `a`.
pub(crate) struct Sender {
    pub client: Client,
    pub keys: KeyPair,
    pub server: Server,
    dht: Dht,
}

impl Sender {
    pub(crate) async fn new(lab: &Lab) -> Self {
        let (dht, keys) = (lab.dht().await, KeyPair::generate());
        Self { client: lab.client("a"), server: listen(&dht, &keys).await, keys, dht }
    }

    /// Listens again that was closed.
    pub(crate) async fn come_back(&mut self) {
        self.server = listen(&self.dht, &self.keys).await;
    }

    /// Offers `content` to `b`.
    pub(crate) async fn offer(&self, content: &[u8], p2p: Value) -> Task {
        let mut payload = offer_payload(&uuid::Uuid::new_v4().to_string(), "f", content, "a", Some("b"));
        payload["p2p"] = p2p;
        post(&self.client, payload).await
    }
}

/// Listens on a key, for whoever dials it.
pub(crate) async fn listen(dht: &Dht, key_pair: &KeyPair) -> Server {
    dht.listen(key_pair.clone(), ServerOptions::default()).await.unwrap()
}

/// The next peer that dials.
pub(crate) async fn dialled(server: &mut Server) -> Peer {
    Peer::new(timeout(PATIENCE, server.accept()).await.expect("somebody dials").expect("a server").stream)
}

/// What an actor has said on a task of how it is reached.
pub(crate) fn said(task: &Task, actor_id: &str) -> Vec<Value> {
    let of_actor = task
        .messages
        .iter()
        .filter(|message| message.actor.as_ref().is_some_and(|actor| actor.id == actor_id));
    let said = of_actor.flat_map(|message| &message.parts).filter_map(Part::json);
    said.map(|said| said["p2p"].clone()).collect()
}

/// Waits until a task is in this state.
pub(crate) async fn until(client: &Client, id: &TaskId, status: Status) -> Task {
    let task = until_so(client, id, |task| task.status == status).await;
    task.unwrap_or_else(|| panic!("task {id} never was {status}"))
}

/// Waits until an actor has said so often on a task how it is reached, each time anew.
pub(crate) async fn until_said(client: &Client, id: &TaskId, actor_id: &str, count: usize) -> Vec<Value> {
    let task = until_so(client, id, |task| said(task, actor_id).len() >= count).await;
    let task = task.unwrap_or_else(|| panic!("{actor_id} does not say on task {id} that it is there"));
    let said = said(&task, actor_id);
    assert!(said.is_sorted_by(|one, next| one["seq"].as_u64() < next["seq"].as_u64()), "{said:?}");
    said
}

/// A task once this holds of it; `None` where it does not in time.
async fn until_so(client: &Client, id: &TaskId, holds: impl Fn(&Task) -> bool) -> Option<Task> {
    let read = async {
        loop {
            let task = client.get(id).await.unwrap();
            if holds(&task) {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, read).await.ok()
}

/// One end of a connection.
pub(crate) struct Peer {
    stream: SecretStream,
    decoder: Decoder,
}

impl Peer {
    fn new(stream: SecretStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// Says a frame; an agent that has left already does not hear it.
    pub(crate) async fn say(&mut self, kind: FrameType, payload: &[u8]) {
        let _ = self.stream.send(&encode(kind, payload)).await;
        let _ = self.stream.flush().await;
    }

    /// Says bytes that need not be frames.
    pub(crate) async fn babble(&mut self, bytes: &[u8]) {
        self.stream.send(bytes).await.unwrap();
    }

    /// Says the metadata of an offer.
    pub(crate) async fn announce(&mut self, payload: &Value) {
        self.say_meta(payload, false).await;
    }

    /// Says the metadata of an offer, and returns from which byte on the receiver wants the file.
    pub(crate) async fn ask(&mut self, payload: &Value) -> usize {
        self.say_meta(payload, true).await;
        let resume = self.take_until(FrameType::Resume).await.1;
        let resume: Value = serde_json::from_slice(&resume).unwrap();
        usize::try_from(resume["offset"].as_u64().unwrap()).unwrap()
    }

    async fn say_meta(&mut self, payload: &Value, resume: bool) {
        let meta = Meta {
            name: payload["filename"].as_str().unwrap().to_owned(),
            size: payload["size"].as_u64().unwrap(),
            hash: payload["hash"].as_str().unwrap().to_owned(),
            transfer_id: None,
            resume,
        };
        self.stream.send(&meta.encode().unwrap()).await.unwrap();
    }

    /// Hands over the bytes of a file.
    pub(crate) async fn hand_over(&mut self, content: &[u8]) {
        for chunk in content.chunks(MAX_DATA) {
            self.stream.send(&encode(FrameType::Data, chunk)).await.unwrap();
        }
    }

    /// Says that there are no more bytes.
    pub(crate) async fn finish(&mut self) {
        self.stream.send(&DONE).await.unwrap();
    }

    /// Takes what comes up to the first frame of this type: the bytes of the file, and the frame's own.
    pub(crate) async fn take_until(&mut self, last: FrameType) -> (Vec<u8>, Vec<u8>) {
        let mut file = Vec::new();
        loop {
            match self.piece().await.unwrap_or_else(|| panic!("the stream ended before {last:?}")) {
                Piece::Data(bytes) => file.extend_from_slice(&bytes),
                Piece::Frame(kind, payload) if kind == last => return (file, payload.to_vec()),
                Piece::Frame(..) => {}
            }
        }
    }

    /// The next piece; `None` once the stream has ended, however.
    pub(crate) async fn piece(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.decoder.poll().unwrap() {
                return Some(piece);
            }
            let message = timeout(PATIENCE, self.stream.recv()).await.expect("the peer goes on");
            self.decoder.handle(message.ok().flatten()?.freeze());
        }
    }

    /// Waits until the other end has all that was said.
    pub(crate) async fn flush(&mut self) {
        self.stream.flush().await.unwrap();
    }

    /// Waits for the stream's end.
    pub(crate) async fn end(&mut self) {
        while self.piece().await.is_some() {}
    }
}
