//! Handing a file to an original: to whoever comes on the transfer's topic, until the claimant's task says
//! that it has the file.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyperdht::connect::Connection;
use hyperswarm::{JoinOptions, Swarm};
use tokio::time::{Instant, sleep_until, timeout};

use super::claim::TaskChange;
use super::delivery::Delivery;
use crate::ats::Listener;
use crate::connection::{PeerLink, Rendezvous, close_all};
use crate::error::{Code, Error, Result, Step as FailedStep};
use crate::event::Phase;
use crate::limits::{LAST_WORD, MAX_CANDIDATES};
use crate::pump::{self, PumpError};
use crate::reconnect::{Action, Reconnect};

/// How long after the claim our sender waits to be dialled on a topic before it dials too: an incoming
/// duplicate can make a JavaScript peer drop the connection that already carries bytes.
const SERVER_ONLY: Duration = Duration::from_secs(5);

/// How one candidate ended.
type CandidateResult = Result<Box<Delivered>, PumpError>;

/// A candidate that says it has the file.
type Delivered = (pump::Stream<udx::Stream>, PeerLink);

/// What comes on the topic or on the task.
enum DeliveryEvent {
    Connection(Box<Connection>),
    Candidate(CandidateResult),
    Task(TaskChange),
    /// It is time to ask the machine again.
    Time,
}

/// What is known of the candidates on one topic.
struct Search {
    machine: Reconnect,
    last: Option<Error>,
}

impl Delivery<'_> {
    /// Hands the file to whoever comes on the topic, until the claimant's task says that it has it.
    pub(super) async fn on_topic(&self, rendezvous: &mut Rendezvous, listener: &mut Listener) -> Result<()> {
        let (swarm, topic) = rendezvous.swarm();
        let recipient = self.events.transfer().peer_id;
        let turn = self.or_cancelled(async {
            tokio::select! {
                turn = self.context.turn_with_original(&recipient) => Ok(turn),
                over = self.task.over(listener) => Err(over),
            }
        });
        match turn.await? {
            Ok(_turn) => self.on_swarm(swarm, topic, listener).await,
            Err(over) => over,
        }
    }

    async fn on_swarm(&self, swarm: &Swarm, topic: [u8; 32], listener: &mut Listener) -> Result<()> {
        let now = Instant::now();
        let machine = Reconnect::searching(self.limit, now + SERVER_ONLY, now);
        let mut search = Search { machine, last: None };
        let mut discovery = None;
        let mut candidates = FuturesUnordered::new();
        loop {
            let until = match search.machine.poll(Instant::now()) {
                Action::Wait(until) => until,
                Action::DialFound => {
                    let both = JoinOptions { server: true, client: true, ..Default::default() };
                    discovery = Some(swarm.join(topic, both));
                    continue;
                }
                Action::LookUp => {
                    // As server alone there is nobody to look for.
                    if let Some(discovery) = &discovery {
                        discovery.look_up();
                    }
                    continue;
                }
                Action::GiveUp | Action::Dial { .. } => {
                    if self.was_suspended().await? {
                        search.machine.begin_anew(Instant::now());
                        continue;
                    }
                    return Err(self.nobody_delivered(search));
                }
            };
            let arrival = self.or_cancelled(async {
                tokio::select! {
                    Some((connection, _)) = swarm.accept(), if candidates.len() < MAX_CANDIDATES => {
                        DeliveryEvent::Connection(Box::new(connection))
                    }
                    Some(outcome) = candidates.next() => DeliveryEvent::Candidate(outcome),
                    change = self.task.change(listener, None) => DeliveryEvent::Task(change),
                    () = sleep_until(until) => DeliveryEvent::Time,
                }
            });
            let arrival = match arrival.await {
                Ok(arrival) => arrival,
                Err(aborted) => {
                    close_all(&mut candidates).await;
                    return Err(aborted);
                }
            };
            match arrival {
                DeliveryEvent::Connection(connection) => {
                    let link = PeerLink::from(connection.link());
                    self.events.connected(&link);
                    search.machine.connected();
                    let sent = pump::send(connection.stream.into(), self.source, self.meta, self.control);
                    candidates.push(async move { sent.await.map(|stream| Box::new((stream, link))) });
                }
                DeliveryEvent::Candidate(outcome) => {
                    self.candidate_ended(outcome, &mut search).await?;
                    if candidates.is_empty() && !search.machine.is_acknowledged() {
                        self.events.enter(Phase::Connecting);
                    }
                }
                DeliveryEvent::Task(TaskChange::Completed(outputs)) => {
                    return self.task.check_outputs(&outputs);
                }
                DeliveryEvent::Task(TaskChange::Ended(error)) if error.code == Code::RemoteError => {
                    let word = timeout(LAST_WORD, self.last_word(&mut candidates)).await.ok().flatten();
                    let before = search.last.filter(|last| last.code != Code::PeerUnreachable);
                    return Err(word.or(before).unwrap_or(error));
                }
                DeliveryEvent::Task(TaskChange::Ended(error)) => return Err(error),
                DeliveryEvent::Task(TaskChange::Key(_)) | DeliveryEvent::Time => {}
            }
        }
    }

    /// Anybody on the topic can say that it has the file; the task says who really does.
    async fn candidate_ended(&self, outcome: CandidateResult, search: &mut Search) -> Result<()> {
        match outcome {
            Ok(delivered) => {
                let (stream, link) = *delivered;
                stream.end().await;
                self.events.uses(&link);
                search.machine.acknowledged(Instant::now());
            }
            Err(error @ (PumpError::Source(_) | PumpError::Cancelled)) => return Err(self.error(&error)),
            Err(error) => {
                search.last = Some(self.error(&error));
                if error.is_lost_connection() {
                    search.machine.lost(self.control.take_moved(), rand::random(), Instant::now());
                } else {
                    search.machine.refused(false, Instant::now());
                }
            }
        }
        Ok(())
    }

    /// What a candidate says of why it did not take the file: where the peer ended the task, that is the
    /// better word.
    async fn last_word(
        &self,
        candidates: &mut FuturesUnordered<impl Future<Output = CandidateResult>>,
    ) -> Option<Error> {
        while let Some(outcome) = candidates.next().await {
            if let Err(error @ (PumpError::Nack(_) | PumpError::Remote(_))) = outcome {
                return Some(self.error(&error));
            }
        }
        None
    }

    fn nobody_delivered(&self, search: Search) -> Error {
        let acknowledged = search.machine.is_acknowledged();
        search.last.unwrap_or_else(|| match acknowledged {
            true => Error::new(
                Code::Stalled,
                format!(
                    "{} was taken, but {} never confirmed it on its task",
                    self.events.transfer().original_name,
                    self.task.recipient()
                ),
            ),
            false => match self.context.network.original_is_cut_off() {
                Some(why) => self.unreachable(Some(why.to_owned()), FailedStep::Network),
                None => self.unreachable(None, FailedStep::Lookup),
            },
        })
    }
}
