//! The task that keeps a topic announced and looks for its peers (hyperswarm/lib/peer-discovery.js).

use std::{
    collections::HashSet,
    net::SocketAddrV4,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyperdht::{AnnounceOptions, Dht, Lookup, Peer};
use rand::{Rng, RngExt};
use secret_stream::KeyPair;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{Topic, listener::Listener};

/// A record lives 13 to 27 minutes, so it is renewed after 10…
const REFRESH_INTERVAL: Duration = Duration::from_secs(600);

/// …and up to this much later, so that those who started together do not stay together.
const REFRESH_JITTER: Duration = Duration::from_secs(120);

/// Wait after a refresh that failed; doubles each time, up to [`REFRESH_INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// Longest that leaving waits for nodes to take an announce back. They forget it by themselves.
const UNANNOUNCE_LIMIT: Duration = Duration::from_secs(5);

/// What the sessions of a topic want together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Announce.
    pub server: bool,
    /// Hand up those who are found.
    pub client: bool,
    /// The most to hand up for each refresh.
    pub limit: Option<usize>,
}

/// A peer that a node lists for a topic.
#[derive(Debug)]
pub(crate) struct Found {
    pub topic: Topic,
    pub peer: Peer,
}

#[derive(Debug)]
pub(crate) enum TopicCommand {
    /// Take these roles, and refresh.
    Refresh(Roles),
    /// Look for peers now.
    LookUp,
    /// Tell once no refresh runs, and whether the last one went well.
    Flushed(oneshot::Sender<bool>),
    /// Withdraw the announce, and rest.
    Suspend(oneshot::Sender<()>),
    /// Take up the roles again.
    Resume,
    /// Withdraw the announce, and end.
    Destroy,
}

/// What a topic's task works with.
pub(crate) struct TopicContext {
    pub topic: Topic,
    pub dht: Dht,
    pub keys: KeyPair,
    pub found: mpsc::Sender<Found>,
    pub listener: Listener,
    /// The task that had this topic before: it must have withdrawn its announce first.
    pub after: Option<CancellationToken>,
    pub suspended: bool,
}

/// Starts the task; `done` is cancelled when it has ended.
pub(crate) fn spawn(context: TopicContext, done: CancellationToken) -> mpsc::UnboundedSender<TopicCommand> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let task = TopicTask {
        suspended: context.suspended,
        context: Arc::new(context),
        roles: Roles::default(),
        running: None,
        again: false,
        next: None,
        nodes: Vec::new(),
        cleared: false,
        announced: false,
        failures: 0,
        waiting: Vec::new(),
    };
    let done = done.drop_guard();
    tokio::spawn(async move {
        task.run(receiver).await;
        drop(done);
    });
    commands
}

struct TopicTask {
    context: Arc<TopicContext>,
    roles: Roles,
    suspended: bool,
    running: Option<RunningRefresh>,
    /// The roles changed while it was too late to stop a refresh.
    again: bool,
    next: Option<Instant>,
    /// Closest to the topic when it was last refreshed.
    nodes: Vec<SocketAddrV4>,
    /// Records that an earlier process left under this key were withdrawn.
    cleared: bool,
    /// Some node may list us.
    announced: bool,
    /// Refreshes that failed in a row.
    failures: u32,
    waiting: Vec<oneshot::Sender<bool>>,
}

#[derive(Clone, Copy, PartialEq)]
enum RefreshKind {
    Announce,
    /// Look up, and withdraw what is listed of us.
    Withdraw,
    /// Look up, out of turn.
    LookUp,
    /// Look up, in turn.
    Seek,
}

struct RunningRefresh {
    kind: RefreshKind,
    future: Pin<Box<dyn Future<Output = Option<Vec<SocketAddrV4>>> + Send>>,
    /// It is writing to nodes. If it were stopped now, nobody would know which of them list us.
    committing: Arc<AtomicBool>,
}

enum TopicEvent {
    Command(Option<TopicCommand>),
    /// The closest nodes, unless it failed.
    Finished(Option<Vec<SocketAddrV4>>),
    Due,
}

impl TopicTask {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<TopicCommand>) {
        loop {
            let event = tokio::select! {
                biased;
                command = commands.recv() => TopicEvent::Command(command),
                result = finished(&mut self.running) => TopicEvent::Finished(result),
                () = due(self.next), if self.running.is_none() => TopicEvent::Due,
            };
            match event {
                TopicEvent::Command(Some(TopicCommand::Refresh(roles))) => self.refresh(roles),
                TopicEvent::Command(Some(TopicCommand::LookUp)) => {
                    if self.running.is_none() && self.roles.client && !self.suspended {
                        self.start(RefreshKind::LookUp);
                    }
                }
                TopicEvent::Command(Some(TopicCommand::Flushed(done))) => {
                    self.waiting.push(done);
                    self.answer(self.failures == 0);
                }
                TopicEvent::Command(Some(TopicCommand::Suspend(done))) => {
                    self.suspended = true;
                    self.withdraw().await;
                    // Nobody waits any more if the receiver is gone.
                    let _ = done.send(());
                }
                TopicEvent::Command(Some(TopicCommand::Resume)) => {
                    if std::mem::replace(&mut self.suspended, false) {
                        self.start_in_turn();
                    }
                }
                TopicEvent::Command(Some(TopicCommand::Destroy) | None) => {
                    self.withdraw().await;
                    return;
                }
                TopicEvent::Finished(result) => self.finish(result),
                TopicEvent::Due => self.start_in_turn(),
            }
        }
    }

    fn refresh(&mut self, roles: Roles) {
        let changed = std::mem::replace(&mut self.roles, roles) != roles;
        match &self.running {
            Some(running) if running.kind != RefreshKind::LookUp && !changed => {}
            Some(running) if running.committing.load(Ordering::Relaxed) => self.again = true,
            _ => self.start_in_turn(),
        }
    }

    fn start_in_turn(&mut self) {
        self.again = false;
        if self.suspended {
            return;
        }
        self.start(match (self.roles.server, self.announced) {
            (true, _) => RefreshKind::Announce,
            (false, true) => RefreshKind::Withdraw,
            (false, false) => RefreshKind::Seek,
        });
    }

    /// Starts a refresh, in place of one that runs.
    fn start(&mut self, kind: RefreshKind) {
        self.announced |= kind == RefreshKind::Announce;
        let committing = Arc::new(AtomicBool::new(false));
        let options = AnnounceOptions { nodes: self.nodes.clone(), clear: !self.cleared, bump: 0 };
        let run = run(self.context.clone(), kind, options, self.roles, committing.clone());
        self.running = Some(RunningRefresh { kind, future: Box::pin(run), committing });
    }

    fn finish(&mut self, result: Option<Vec<SocketAddrV4>>) {
        let Some(RunningRefresh { kind, .. }) = self.running.take() else { return };
        match (&result, kind) {
            (Some(_), RefreshKind::Announce) => self.cleared = true,
            (Some(_), RefreshKind::Withdraw) => self.announced = false,
            _ => {}
        }
        if kind != RefreshKind::LookUp {
            self.failures = if result.is_some() { 0 } else { self.failures.saturating_add(1) };
            self.next = Some(Instant::now() + wait(self.failures, &mut rand::rng()));
        }
        let succeeded = result.is_some();
        if let Some(nodes) = result {
            self.nodes = nodes;
        }
        if self.again {
            self.start_in_turn();
        }
        self.answer(succeeded);
    }

    fn answer(&mut self, succeeded: bool) {
        if self.running.is_none() {
            for waiting in self.waiting.drain(..) {
                // Nobody waits any more if the receiver is gone.
                let _ = waiting.send(succeeded);
            }
        }
    }

    /// Stops refreshing, and asks those who list us to forget it.
    async fn withdraw(&mut self) {
        self.next = None;
        self.again = false;
        if let Some(running) = self.running.take_if(|running| running.committing.load(Ordering::Relaxed))
            && let Ok(Some(nodes)) = timeout(UNANNOUNCE_LIMIT, running.future).await
        {
            self.nodes = nodes;
        }
        self.running = None;
        self.answer(false);
        if std::mem::replace(&mut self.announced, false) && !self.nodes.is_empty() {
            let TopicContext { topic, dht, keys, .. } = &*self.context;
            let goodbye = dht.unannounce_at(*topic, keys, self.nodes.clone());
            let result = timeout(UNANNOUNCE_LIMIT, goodbye.finish()).await;
            debug!(withdrawn = result.is_ok_and(|result| result.is_ok()), "left a topic");
        }
        self.cleared = false;
    }
}

/// One refresh. The closest nodes, unless it failed.
async fn run(
    context: Arc<TopicContext>,
    kind: RefreshKind,
    options: AnnounceOptions,
    roles: Roles,
    committing: Arc<AtomicBool>,
) -> Option<Vec<SocketAddrV4>> {
    let TopicContext { topic, dht, keys, listener, after, .. } = &*context;
    if let Some(after) = after {
        after.cancelled().await;
    }
    let lookup = match kind {
        RefreshKind::Announce => {
            let relay_addresses = listener
                .listen()
                .await
                .inspect_err(|error| debug!(%error, "cannot listen for a topic"))
                .ok()?;
            dht.announce(*topic, keys, &relay_addresses, options)
        }
        RefreshKind::Withdraw => dht.unannounce(*topic, keys, options.nodes),
        RefreshKind::LookUp | RefreshKind::Seek => dht.lookup(*topic, options.nodes),
    };
    let lookup = seek(&context, lookup, roles).await;
    committing.store(true, Ordering::Relaxed);
    let result = lookup.finish().await.inspect_err(|error| debug!(%error, "a refresh failed"));
    // Nobody answered if nobody is close.
    result.ok().filter(|nodes| !nodes.is_empty())
}

/// Hands up whoever is found.
async fn seek(context: &TopicContext, mut lookup: Lookup, roles: Roles) -> Lookup {
    let mut handed_up = HashSet::new();
    while let Some(answer) = lookup.next().await {
        for peer in answer.peers.into_iter().filter(|_| roles.client) {
            let is_new = !handed_up.contains(&peer.public_key);
            if is_new && roles.limit.is_some_and(|limit| handed_up.len() >= limit) {
                continue;
            }
            if roles.limit.is_some() {
                handed_up.insert(peer.public_key);
            }
            // The swarm is gone if this fails, and this task with it.
            let _ = context.found.send(Found { topic: context.topic, peer }).await;
        }
    }
    lookup
}

/// How long after a refresh the next begins, when so many in a row have failed.
fn wait(failures: u32, random: &mut impl Rng) -> Duration {
    match failures {
        0 => REFRESH_INTERVAL + REFRESH_JITTER.mul_f64(random.random()),
        failures => {
            let wait = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(16));
            wait.min(REFRESH_INTERVAL).mul_f64(random.random_range(0.75..1.25))
        }
    }
}

async fn finished(running: &mut Option<RunningRefresh>) -> Option<Vec<SocketAddrV4>> {
    match running {
        Some(running) => running.future.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn due(next: Option<Instant>) {
    match next {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn every_ten_to_twelve_minutes_and_sooner_after_failures() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..100 {
            let in_turn = wait(0, &mut random).as_secs_f64();
            assert!((600.0..=720.0).contains(&in_turn), "{in_turn}");
            for (failures, seconds) in [(1, 5.0), (2, 10.0), (3, 20.0), (8, 600.0), (u32::MAX, 600.0)] {
                let retry = wait(failures, &mut random).as_secs_f64();
                assert!((seconds * 0.74..seconds * 1.26).contains(&retry), "{failures}: {retry}");
            }
        }
    }
}
