//! Getting a file from an original: from whoever delivers it on the transfer's topic.
//!
//! An original may look a topic up once and not again for minutes. So this side is there before it claims,
//! and lets nobody in until the claim is answered.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyperdht::Dht;
use hyperswarm::{Discovery, JoinOptions, Swarm, SwarmConfig, Verdict};
use secret_stream::{KeyPair, SecretStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::fetch::{Fetch, FetchError};
use crate::connection::{Network, PeerLink, announced, close_all};
use crate::error::{Error, Result, Step};
use crate::event::Phase;
use crate::limits::{LEAVE_LIMIT, MAX_CANDIDATES};
use crate::pump::{PumpError, Reception};
use crate::reconnect::{Action, Reconnect};
use crate::sync::Spawner;

/// How long a handshake is held while the claim is not answered yet.
const HOLD: Duration = Duration::from_secs(3);

/// How long, after the claim, a sender that was not on the topic before has to find this side and dial it.
/// Past it this side dials too: an incoming duplicate can make a JavaScript sender drop the connection that
/// already carries bytes.
const SERVER_ONLY: Duration = Duration::from_secs(2);

/// How long a candidate may be silent before it gives way to another one that waits: strangers in numbers
/// must not hold all places.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(5);

/// This side's presence on a topic, from before the claim on.
pub(super) struct TopicPresence {
    swarm: Swarm,
    discovery: Discovery,
    verdict: watch::Sender<Option<Verdict>>,
}

/// What comes on the topic.
enum FetchEvent {
    Connection(Box<(PeerLink, SecretStream)>),
    Candidate(Result<Box<Candidate>, FetchError>),
    /// It is time to ask the machine again.
    Time,
}

/// A peer whose metadata equals the offer.
type Candidate = (PeerLink, Reception<udx::Stream>);

impl TopicPresence {
    /// Announces this side on the topic, and looks once who is there; nobody is let in or dialled yet.
    pub(super) async fn begin(dht: Dht, network: &Network, key_pair: KeyPair, topic: [u8; 32]) -> Self {
        let (verdict, verdicts) = watch::channel(None);
        let relay_through = network.relay_of_swarm(key_pair.clone());
        let firewall: hyperswarm::Firewall = Arc::new(move |_, _| {
            let mut verdicts = verdicts.clone();
            Box::pin(async move {
                match timeout(HOLD, verdicts.wait_for(Option::is_some)).await {
                    Ok(Ok(verdict)) => verdict.unwrap_or(Verdict::Refuse),
                    Ok(Err(_)) | Err(_) => Verdict::Refuse,
                }
            })
        });
        let config = SwarmConfig::new(dht, key_pair);
        let swarm = Swarm::new(SwarmConfig { relay_through, firewall: Some(firewall), ..config });
        swarm.hold();
        let discovery = swarm.join(topic, JoinOptions::default());
        announced(&discovery, network.udp()).await;
        Self { swarm, discovery, verdict }
    }

    /// Lets peers in from now on, or turns all of them away.
    pub(super) fn decide(&self, claimed: bool) {
        self.verdict.send_replace(Some(if claimed { Verdict::Admit } else { Verdict::Refuse }));
    }

    /// Leaves the topic, in the background: that takes round trips that no transfer need wait for.
    pub(super) fn leave(self, spawner: &Spawner) {
        spawner.spawn(async move { timeout(LEAVE_LIMIT, self.swarm.destroy()).await });
    }
}

/// Candidates whose metadata is due, the oldest first. A token is cancelled when its candidate has ended, or
/// to end it.
#[derive(Default)]
struct Silent(VecDeque<(Instant, CancellationToken)>);

impl Silent {
    /// Whether another connection can be listened to beside `count` candidates: there is a place, or the
    /// oldest has been silent for so long that it gives way.
    fn has_room(&mut self, count: usize) -> bool {
        self.0.retain(|(_, ended)| !ended.is_cancelled());
        let gives_way = self.0.front().is_some_and(|(since, _)| since.elapsed() >= GIVES_WAY_AFTER);
        count < MAX_CANDIDATES || gives_way
    }

    /// Makes room beside `count` candidates, and returns what ends the one that comes.
    fn enter(&mut self, count: usize) -> CancellationToken {
        if count >= MAX_CANDIDATES
            && let Some((_, oldest)) = self.0.pop_front()
        {
            oldest.cancel();
        }
        let ended = CancellationToken::new();
        self.0.push_back((Instant::now(), ended.clone()));
        ended
    }
}

impl Fetch<'_> {
    /// Takes the file from whoever delivers it on the transfer's topic.
    pub(super) async fn on_topic(&self, presence: &TopicPresence) -> Result<Option<PathBuf>> {
        let TopicPresence { swarm, discovery, .. } = presence;
        let now = Instant::now();
        // Who is there already has looked before us, and will not look again: it has to be dialled.
        let is_alone = discovery.found().await.is_empty();
        let dial_at = if is_alone { now + SERVER_ONLY } else { now };
        let mut machine = Reconnect::searching(self.context.options.timeout, dial_at, now);
        let mut candidates = FuturesUnordered::new();
        let mut silent = Silent::default();
        let mut last: Option<Error> = None;
        loop {
            let until = match machine.poll(Instant::now()) {
                Action::Wait(until) => until,
                Action::DialFound => {
                    swarm.release();
                    continue;
                }
                Action::LookUp => {
                    discovery.look_up();
                    continue;
                }
                Action::GiveUp | Action::Dial { .. } => {
                    if self.was_suspended().await? {
                        machine.begin_anew(Instant::now());
                        continue;
                    }
                    let cut_off = self.context.network.original_is_cut_off();
                    let why = cut_off.map(|why| (Step::Network, why.to_owned()));
                    return Err(last.unwrap_or_else(|| self.unreachable(why)));
                }
            };
            let has_room = silent.has_room(candidates.len());
            let event = self.or_cancelled(async {
                tokio::select! {
                    Some((connection, _)) = swarm.accept(), if has_room => {
                        FetchEvent::Connection(Box::new((connection.link().into(), connection.stream)))
                    }
                    Some(candidate) = candidates.next() => FetchEvent::Candidate(candidate),
                    () = sleep_until(until) => FetchEvent::Time,
                }
            });
            match event.await {
                Ok(FetchEvent::Connection(connection)) => {
                    let ended = silent.enter(candidates.len());
                    machine.connected();
                    candidates.push(self.candidate(*connection, ended));
                }
                Ok(FetchEvent::Candidate(Ok(candidate))) => {
                    // What another candidate sent is not this one's to go on with.
                    self.give_up_so_far().await?;
                    self.control.take_moved();
                    match self.take_from(*candidate, &mut machine).await {
                        Ok(path) => return Ok(path),
                        Err(error) if error.is_ours() => return Err(error.into()),
                        Err(error) => {
                            self.events.enter(Phase::Connecting);
                            last = Some(error.into());
                        }
                    }
                }
                Ok(FetchEvent::Candidate(Err(error))) => {
                    match &error {
                        FetchError::Lost(_) => machine.lost(false, rand::random(), Instant::now()),
                        FetchError::Final(_) => machine.refused(false, Instant::now()),
                    }
                    last = Some(error.into());
                }
                Ok(FetchEvent::Time) => {}
                Err(aborted) => {
                    close_all(&mut candidates).await;
                    return Err(aborted);
                }
            }
        }
    }

    /// Takes the file from a candidate whose metadata is right.
    async fn take_from(
        &self,
        (link, reception): Candidate,
        machine: &mut Reconnect,
    ) -> Result<Option<PathBuf>, FetchError> {
        self.events.connected(&link);
        let taken = self
            .body(reception, false)
            .await
            .map_err(|error| explained(error, link.too_small_for_originals()));
        match &taken {
            Ok(_) => {}
            Err(FetchError::Lost(_)) => {
                machine.lost(self.control.take_moved(), rand::random(), Instant::now())
            }
            Err(FetchError::Final(_)) => machine.refused(true, Instant::now()),
        }
        taken.map(|(path, _)| path)
    }

    /// Waits for a candidate's metadata, until it has to give way.
    async fn candidate(
        &self,
        (link, stream): (PeerLink, SecretStream),
        ended: CancellationToken,
    ) -> Result<Box<Candidate>, FetchError> {
        let _ended = ended.clone().drop_guard();
        let mut reception = self.reception(stream.into());
        match ended.run_until_cancelled(reception.meta(self.control)).await {
            Some(Ok(())) => Ok(Box::new((link, reception))),
            Some(Err(error)) => Err(self.failed(error)),
            None => Err(self.failed(PumpError::Closed)),
        }
    }
}

/// Adds how many bytes of a packet pass between both ends, where that is less than an original's need.
fn explained(mut error: FetchError, too_small: Option<u16>) -> FetchError {
    let (FetchError::Lost(Error { message, .. }) | FetchError::Final(Error { message, .. })) = &mut error;
    if let Some(bytes) = too_small {
        message.push_str(&format!(
            "; packets of up to {bytes} bytes pass between you and the sender, whose program needs 1200: \
             raise the MTU of your network or VPN, or have the sender use ats-p2p"
        ));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_path_that_is_too_small_for_originals_is_named() {
        let told = |too_small| {
            let error = FetchError::Final(Error::new(Code::Stalled, "no byte moved"));
            let FetchError::Final(error) = explained(error, too_small) else { unreachable!() };
            error.message
        };
        assert_eq!(told(None), "no byte moved");
        assert!(told(Some(1000)).contains("packets of up to 1000 bytes"), "{}", told(Some(1000)));
    }
}
