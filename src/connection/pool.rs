//! Connections that stay up between two files, so that the next one need not wait for another.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_stream::{KeyPair, PublicKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::peer::PeerConnection;
use super::rendezvous::Rendezvous;
use crate::ats::TaskId;
use crate::limits::LAST_WORD;
use crate::sync::{Spawner, lock};

/// How long a receiver keeps a connection that no offer names: the protocol's limit.
pub(crate) const KEPT: Duration = Duration::from_secs(10);

/// How long a sender names a connection in offers: less than the receiver keeps it, by the time that an
/// offer takes to arrive.
pub(crate) const OFFERED: Duration = Duration::from_secs(8);

/// Idle connections with one peer in one direction: as many as transfers with it usually run at once.
const MAX_WITH_ONE: usize = 8;

/// Idle connections in one direction: each holds a socket's state, a key and a task.
const MAX_IDLE: usize = 64;

/// An idle connection and what this end needs to use it again.
#[derive(Debug)]
pub(crate) struct PooledConnection<E> {
    pub(crate) connection: PeerConnection,
    /// What this end dialled with, or listens on.
    pub(crate) end: E,
}

/// Idle connections by which files come in; this end dialled with the key pair.
pub(crate) type IncomingPool = Pool<PooledConnection<KeyPair>>;

/// Idle connections by which files go out; this end still listens on its key.
pub(crate) type OutgoingPool = Pool<PooledConnection<Rendezvous>>;

/// The idle connections of a node in one direction.
pub(crate) struct Pool<C>(Mutex<Entries<C>>);

/// What a pool keeps.
pub(crate) trait Keep: Send + 'static {
    /// Waits until it is of no more use.
    fn spent(&mut self) -> impl Future<Output = ()> + Send;

    /// Ends it in good order.
    fn end(self) -> impl Future<Output = ()> + Send;
}

struct Entries<C> {
    last_number: u64,
    /// The longest idle first.
    list: Vec<PoolEntry<C>>,
}

struct PoolEntry<C> {
    number: u64,
    /// The actor at the other end.
    peer: String,
    /// The key that the sender listens on, by which offers name the connection.
    key: PublicKey,
    /// The task whose offer names it.
    reserved: Option<TaskId>,
    until: watch::Sender<Instant>,
    handed_over: CancellationToken,
    keeper: JoinHandle<Option<Option<C>>>,
}

impl<E: Send + 'static> Keep for PooledConnection<E> {
    async fn spent(&mut self) {
        self.connection.stream.spent().await;
    }

    async fn end(mut self) {
        // An acknowledgement may be on its way yet.
        let _ = timeout(LAST_WORD, self.connection.stream.flush()).await;
        self.connection.stream.end().await;
    }
}

impl<C: Keep> Pool<C> {
    /// Keeps a connection with `peer` for a while, under the key that the sender listens on. Where there is
    /// no room it is ended.
    pub(crate) fn keep(
        self: &Arc<Self>,
        spawner: &Spawner,
        peer: &str,
        key: PublicKey,
        limit: Duration,
        idle: C,
    ) {
        let mut entries = lock(&self.0);
        let with_peer = entries.list.iter().filter(|entry| entry.peer == peer).count();
        if with_peer >= MAX_WITH_ONE || entries.list.len() >= MAX_IDLE {
            spawner.spawn(idle.end());
            return;
        }
        entries.last_number += 1;
        let number = entries.last_number;
        let (until, deadline) = watch::channel(Instant::now() + limit);
        let handed_over = CancellationToken::new();
        let (pool, cancel, wanted) = (self.clone(), spawner.cancel().clone(), handed_over.clone());
        let keeper = spawner.spawn(async move {
            let idle = watch_over(idle, wanted, deadline, cancel).await;
            if idle.is_none() {
                lock(&pool.0).list.retain(|entry| entry.number != number);
            }
            idle
        });
        let peer = peer.to_owned();
        entries.list.push(PoolEntry { number, peer, key, reserved: None, until, handed_over, keeper });
    }

    /// The connection with `peer` that was used last, if one is up that no offer names.
    pub(crate) async fn take_latest(&self, peer: &str) -> Option<C> {
        loop {
            let entry = self.take_where(|entry| entry.peer == peer && entry.reserved.is_none())?;
            if let Some(idle) = entry.hand_over().await {
                return Some(idle);
            }
        }
    }

    /// Whether a connection with `peer` is up that no offer names.
    pub(crate) fn has(&self, peer: &str) -> bool {
        lock(&self.0).list.iter().any(|entry| entry.peer == peer && entry.reserved.is_none())
    }

    /// Notes that the offer in `task` names the connection with `peer` by `key`: it is kept until then for
    /// this task alone.
    pub(crate) fn reserve(&self, peer: &str, key: &PublicKey, task: &TaskId, until: Instant) {
        let mut entries = lock(&self.0);
        let mut free = entries.list.iter_mut().filter(|entry| entry.reserved.is_none());
        if let Some(entry) = free.find(|entry| entry.is_of(peer, key)) {
            entry.reserved = Some(task.clone());
            entry.until.send_replace(until);
        }
    }

    /// The connection with `peer` that the offer in `task` names by `key`, if it is up and no other offer
    /// named it first.
    pub(crate) async fn take(&self, peer: &str, key: &PublicKey, task: &TaskId) -> Option<C> {
        let its_own = |entry: &PoolEntry<C>| entry.is_of(peer, key) && entry.reserved.as_ref() == Some(task);
        let free = |entry: &PoolEntry<C>| entry.is_of(peer, key) && entry.reserved.is_none();
        let entry = self.take_where(its_own).or_else(|| self.take_where(free))?;
        entry.hand_over().await
    }

    fn take_where(&self, is_it: impl Fn(&PoolEntry<C>) -> bool) -> Option<PoolEntry<C>> {
        let mut entries = lock(&self.0);
        let at = entries.list.iter().rposition(is_it)?;
        Some(entries.list.remove(at))
    }
}

impl<C> PoolEntry<C> {
    fn is_of(&self, peer: &str, key: &PublicKey) -> bool {
        self.peer == peer && self.key == *key
    }

    async fn hand_over(self) -> Option<C> {
        self.handed_over.cancel();
        self.keeper.await.ok().flatten().flatten()
    }
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self(Mutex::new(Entries { last_number: 0, list: Vec::new() }))
    }
}

impl<C> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &lock(&self.0).list.len()).finish()
    }
}

/// Watches over an idle connection until it is handed over; ends it when its time is over, and gives it up
/// when the peer does.
async fn watch_over<C: Keep>(
    mut idle: C,
    handed_over: CancellationToken,
    mut until: watch::Receiver<Instant>,
    cancel: CancellationToken,
) -> Option<C> {
    loop {
        let deadline = *until.borrow_and_update();
        tokio::select! {
            biased;
            () = idle.spent() => return None,
            () = handed_over.cancelled() => return Some(idle),
            () = cancel.cancelled() => break,
            () = sleep_until(deadline) => break,
            Ok(()) = until.changed() => {}
        }
    }
    idle.end().await;
    None
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PEER: &str = "b";
    const SECOND: Duration = Duration::from_secs(1);

    /// A connection with a number; spent when told, and tells when it was ended.
    struct Fake {
        number: u8,
        spent: CancellationToken,
        ended: CancellationToken,
    }

    impl Fake {
        fn new(number: u8) -> Self {
            Self { number, spent: CancellationToken::new(), ended: CancellationToken::new() }
        }
    }

    impl Keep for Fake {
        async fn spent(&mut self) {
            self.spent.cancelled().await;
        }

        async fn end(self) {
            self.ended.cancel();
        }
    }

    #[derive(Default)]
    struct Lab {
        spawner: Spawner,
        pool: Arc<Pool<Fake>>,
    }

    impl Lab {
        /// Keeps a connection for ten seconds; what spends it, and what tells of its end.
        fn keep(&self, peer: &str, number: u8) -> (CancellationToken, CancellationToken) {
            let fake = Fake::new(number);
            let tokens = (fake.spent.clone(), fake.ended.clone());
            self.pool.keep(&self.spawner, peer, [number; 32], 10 * SECOND, fake);
            tokens
        }

        async fn latest(&self, peer: &str) -> Option<u8> {
            self.pool.take_latest(peer).await.map(|fake| fake.number)
        }

        async fn take(&self, peer: &str, number: u8, task: &str) -> Option<u8> {
            self.pool.take(peer, &[number; 32], &id(task)).await.map(|fake| fake.number)
        }
    }

    fn id(task: &str) -> TaskId {
        TaskId::from_text(task).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_of_a_peer_is_taken_first_and_each_once() {
        let lab = Lab::default();
        for (peer, number) in [(PEER, 1), ("c", 2), (PEER, 3)] {
            lab.keep(peer, number);
        }
        assert_eq!(lab.latest(PEER).await, Some(3));
        assert_eq!(lab.latest(PEER).await, Some(1));
        assert_eq!(lab.latest(PEER).await, None);
        assert_eq!(lab.latest("c").await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_nobody_wants_is_ended_in_time() {
        let lab = Lab::default();
        let begun = Instant::now();
        lab.keep(PEER, 1).1.cancelled().await;
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert_eq!(lab.latest(PEER).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_spent_is_not_handed_out() {
        let lab = Lab::default();
        lab.keep(PEER, 1);
        lab.keep(PEER, 2).0.cancel();
        assert_eq!(lab.latest(PEER).await, Some(1));
        lab.keep(PEER, 3).0.cancel();
        assert_eq!(lab.take(PEER, 3, "task").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_an_offer_names_is_kept_for_it_alone_and_longer() {
        let lab = Lab::default();
        let (_, ended) = lab.keep(PEER, 1);
        lab.pool.reserve(PEER, &[1; 32], &id("first"), Instant::now() + 100 * SECOND);
        lab.pool.reserve(PEER, &[1; 32], &id("second"), Instant::now());
        sleep(99 * SECOND).await;
        assert!(!ended.is_cancelled());
        assert_eq!(lab.take(PEER, 1, "second").await, None);
        assert_eq!(lab.latest(PEER).await, None);
        assert_eq!(lab.take(PEER, 1, "first").await, Some(1));

        let (_, ended) = lab.keep(PEER, 2);
        lab.pool.reserve(PEER, &[2; 32], &id("first"), Instant::now() + 100 * SECOND);
        sleep(101 * SECOND).await;
        assert!(ended.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn neither_another_peer_nor_another_key_gets_one() {
        let lab = Lab::default();
        lab.keep(PEER, 1);
        lab.pool.reserve("mallory", &[1; 32], &id("task"), Instant::now());
        assert_eq!(lab.take("mallory", 1, "task").await, None);
        assert_eq!(lab.take(PEER, 2, "task").await, None);
        sleep(9 * SECOND).await;
        assert_eq!(lab.take(PEER, 1, "task").await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_and_all_have_their_limits() {
        let lab = Lab::default();
        for number in 0..8 {
            lab.keep(PEER, number);
        }
        lab.keep(PEER, 8).1.cancelled().await;
        for number in 8..64 {
            lab.keep(&number.to_string(), number);
        }
        lab.keep("one more", 64).1.cancelled().await;
        assert_eq!(lab.latest(PEER).await, Some(7));
        lab.keep("one more", 65);
        assert_eq!(lab.latest("one more").await, Some(65));
    }

    #[tokio::test(start_paused = true)]
    async fn they_end_with_the_node() {
        let lab = Lab::default();
        let (_, ended) = lab.keep(PEER, 1);
        lab.spawner.shut_down(SECOND, SECOND).await;
        assert!(ended.is_cancelled());
        assert_eq!(lab.latest(PEER).await, None);
    }
}
