//! A laboratory for whole transfers: a hub with its own DHT on loopback, and nodes of ours as agents.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ats_p2p::ats::{self, Client, Settings};
use ats_p2p::error::{Code, Error};
use ats_p2p::event::{Event, Phase, Transfer};
use ats_p2p::files::Target;
use ats_p2p::node::{Node, Options, WatchOptions};
use ats_p2p::options::AllowedPeer;
use ats_p2p::receive::{Acceptance, Received};
use ats_p2p::send::{SendRequest, SendSource, Sent};
use hub::{Hub, HubConfig};
use hyperdht::Dht;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far above what anything here takes, far below what a runner waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A hub and a folder.
pub(crate) struct Lab {
    hub: Option<Hub>,
    config: HubConfig,
    dir: TempDir,
}

/// A node of ours.
#[derive(Clone)]
pub(crate) struct Agent {
    pub node: Node,
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>>,
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With a hub that is set up otherwise.
    pub(crate) async fn with(change: impl FnOnce(&mut HubConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = HubConfig::new(dir.path().join("hub"));
        (config.listen, config.dht_port) = ("127.0.0.1:0".parse().unwrap(), 0);
        change(&mut config);
        let hub = Hub::start(config.clone()).await.unwrap();
        config.listen = hub.local_addr();
        Self { hub: Some(hub), config, dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.config.listen)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.config.listen
    }

    /// Nodes of the hub's network.
    pub(crate) fn bootstrap(&self) -> Vec<String> {
        self.hub.as_ref().expect("the hub is up").bootstrap()
    }

    /// Takes the hub away; its address and data stay for [`Self::start_hub`].
    pub(crate) async fn stop_hub(&mut self) {
        self.hub.take().expect("the hub is up").shutdown().await;
    }

    pub(crate) async fn start_hub(&mut self) {
        self.hub = Some(Hub::start(self.config.clone()).await.unwrap());
    }

    /// The task service as somebody who is no agent of ours uses it.
    pub(crate) fn client(&self, actor_id: &str) -> Client {
        let overrides = ats::Overrides {
            url: Some(self.url()),
            actor_id: Some(actor_id.to_owned()),
            ..Default::default()
        };
        Client::new(Settings::load(overrides, &ats::Environment::current()).0).unwrap()
    }

    /// A place on the hub's network.
    pub(crate) async fn dht(&self) -> Dht {
        let bootstrap = self
            .hub
            .as_ref()
            .expect("the hub is up")
            .bootstrap()
            .iter()
            .map(|node| node.parse().unwrap())
            .collect();
        Dht::new(hyperdht::Config::private(bootstrap)).await.unwrap()
    }

    pub(crate) fn agent(&self, actor_id: &str, change: impl FnOnce(&mut Options)) -> Agent {
        self.agent_that_tells(actor_id, change, |_| {})
    }

    /// An agent of whose events `tell` is told first, where they happen.
    pub(crate) fn agent_that_tells(
        &self,
        actor_id: &str,
        change: impl FnOnce(&mut Options),
        tell: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Agent {
        let mut options = Options::new(self.dir.path().join(format!("home-{actor_id}")));
        options.ats.url = Some(self.url());
        options.ats.actor_id = Some(actor_id.to_owned());
        change(&mut options);
        let (sender, events) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = seen.clone();
        let node = Node::new(options, move |event| {
            tell(&event);
            all.lock().unwrap().push(event.clone());
            let _ = sender.send(event);
        });
        Agent { node: node.unwrap(), events: Arc::new(events.into()), seen }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, len: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content(len)).unwrap();
        path
    }

    /// What is in a folder of the laboratory; nothing where there is none.
    pub(crate) fn listing(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Waits until nothing is in a folder of the laboratory.
    pub(crate) async fn until_empty(&self, name: &str) {
        let empty = async {
            while !self.listing(name).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let left = || format!("{name} holds {:?}", self.listing(name));
        timeout(PATIENCE, empty).await.unwrap_or_else(|_| panic!("{}", left()));
    }

    /// Ends everything.
    pub(crate) async fn close(self, agents: impl IntoIterator<Item = Agent>) {
        for agent in agents {
            timeout(PATIENCE, agent.node.destroy()).await.expect("a node ends");
        }
        if let Some(hub) = self.hub {
            timeout(PATIENCE, hub.shutdown()).await.expect("a hub ends");
        }
    }
}

impl Agent {
    pub(crate) async fn send(&self, file: &Path, to: &str) -> Result<Sent, Error> {
        self.send_until(file, to, CancellationToken::new()).await
    }

    /// Sends files and folders as one.
    pub(crate) async fn send_several(&self, paths: &[PathBuf], to: &str) -> Result<Sent, Error> {
        let source =
            SendSource::Paths { paths: paths.to_vec(), name: None, exclude: Vec::new(), gitignore: false };
        self.send_source(source, to, None, CancellationToken::new()).await
    }

    /// Sends under an idempotency key.
    pub(crate) async fn send_under(&self, key: &str, file: &Path, to: &str) -> Result<Sent, Error> {
        self.send_source(file.to_owned().into(), to, Some(key), CancellationToken::new()).await
    }

    pub(crate) async fn send_until(
        &self,
        file: &Path,
        to: &str,
        cancel: CancellationToken,
    ) -> Result<Sent, Error> {
        self.send_source(file.to_owned().into(), to, None, cancel).await
    }

    async fn send_source(
        &self,
        source: SendSource,
        to: &str,
        key: Option<&str>,
        cancel: CancellationToken,
    ) -> Result<Sent, Error> {
        let request = SendRequest {
            source,
            recipient_id: to.to_owned(),
            channel: None,
            timeout: None,
            idempotency_key: key.map(str::to_owned),
            metadata: None,
            max_rate: None,
            progress: None,
            cancel,
        };
        timeout(PATIENCE, self.node.send(request)).await.expect("a send ends")
    }

    /// Sends on a task of its own.
    pub(crate) fn sending(&self, file: PathBuf, to: &'static str) -> JoinHandle<Result<Sent, Error>> {
        let agent = self.clone();
        tokio::spawn(async move { agent.send(&file, to).await })
    }

    pub(crate) async fn accept(&self, offer: u64, path: PathBuf) -> Result<Received, Error> {
        let target = Target::Exact { path, overwrite: true };
        let acceptance =
            Acceptance { destination: target.into(), max_rate: None, cancel: CancellationToken::new() };
        timeout(PATIENCE, self.node.accept(offer, acceptance)).await.expect("an accept ends")
    }

    pub(crate) fn watch(&self, save_dir: Option<PathBuf>) {
        self.node.watch(WatchOptions { save_dir, ..WatchOptions::default() }).unwrap();
    }

    /// The next event that `wanted` makes something of.
    pub(crate) async fn event<T>(&self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let next = async {
            let mut events = self.events.lock().await;
            loop {
                if let Some(found) = wanted(events.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, next).await.expect("the event comes")
    }

    /// The next event of this name.
    pub(crate) async fn event_named(&self, name: &str) -> Event {
        self.event(|event| (event.name() == name).then_some(event)).await
    }

    /// Waits until bytes of a file move.
    pub(crate) async fn moving(&self) {
        self.event(|event| match event {
            Event::TransferProgress { progress, .. } if progress.moved > 0 => Some(()),
            _ => None,
        })
        .await
    }

    /// The phases that were told of so far, each where it began.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        let told = |event: &Event| match event {
            Event::TransferProgress { progress, .. } => Some(progress.phase),
            _ => None,
        };
        let mut phases: Vec<_> = self.seen.lock().unwrap().iter().filter_map(told).collect();
        phases.dedup();
        phases
    }

    /// The code of the next transfer that fails.
    pub(crate) async fn failure(&self) -> Code {
        self.event(|event| match event {
            Event::TransferFailed { error, .. } => Some(error.code),
            _ => None,
        })
        .await
    }

    /// The next offer: its handle and what is told of it.
    pub(crate) async fn offer(&self) -> (u64, Transfer) {
        self.event(|event| match event {
            Event::File { offer, transfer, .. } => Some((offer, transfer)),
            _ => None,
        })
        .await
    }

    /// The bytes that were told of as moved so far, report by report.
    pub(crate) fn progress(&self) -> Vec<u64> {
        let told = |event: &Event| match event {
            Event::TransferProgress { progress, .. } => {
                matches!(progress.phase, Phase::Transferring | Phase::Verifying).then_some(progress.bytes)
            }
            _ => None,
        };
        self.seen.lock().unwrap().iter().filter_map(told).collect()
    }

    /// The paths of all connections that were told of.
    pub(crate) fn paths(&self) -> Vec<&'static str> {
        let told = |event: &Event| match event {
            Event::PeerConnected { connection, .. } => Some(connection.path),
            _ => None,
        };
        self.seen.lock().unwrap().iter().filter_map(told).collect()
    }

    /// All events so far.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.seen.lock().unwrap().clone()
    }

    /// The events of transfers so far, without the progress between.
    pub(crate) fn seen(&self) -> Vec<&'static str> {
        let told = |name: &&'static str| name.starts_with("transfer_") && *name != "transfer_progress";
        self.seen.lock().unwrap().iter().map(Event::name).filter(told).collect()
    }
}

/// These actors, each an id or `id=identity`, as the only ones to take files from.
pub(crate) fn allowed(peers: &[&str]) -> Option<Vec<AllowedPeer>> {
    Some(peers.iter().map(|peer| peer.parse().unwrap()).collect())
}

/// What files of the laboratory hold.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub(crate) fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(std::fs::read(path).unwrap()))
}
